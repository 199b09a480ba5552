"""A run that an earlier try recorded, whose connection is missing, or another one now."""

import math

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
)

from airflow_provider_stably.exceptions import (
    StablyCancelError,
    StablyConfigError,
)
from airflow_provider_stably.execution import clients
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.operators.stably import StablyCancelRunOperator
from airflow_provider_stably.runs import watch
from airflow_provider_stably.tasks.start_record import START_RECORD_KEY
from airflow_provider_stably.testing import Fault, StablyEmulator
from tests.constants import KEY
from tests.execution.noted import noted
from tests.interruption import Interrupted, interrupt_when
from tests.operators.run_operator import run_operator


@pytest.mark.parametrize("clear_number", [0, 1], ids=["retry", "clear"])
def test_a_missing_connection_leaves_no_earlier_run(
    emulator, context, store, hide_connection, monkeypatch, clear_number
):
    """Nobody but this try knows the run, and a secrets backend may be away for a moment."""
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 10.0)
    monkeypatch.setattr(clients, "LOOK_UP_SECONDS", 0.01)
    run_id = noted(emulator, store, started_at=4e9, clear_number=clear_number)
    hide_connection(times=3)

    with interrupt_when(lambda: emulator.requests("get")), pytest.raises(Interrupted):
        run_operator().execute(context)

    assert run_id not in emulator.live_runs()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_clean_up_finds_a_run_whose_connection_is_missing(emulator, context, store, monkeypatch, is_killed):
    """The try cannot cancel it; what comes later can, and the error says which run that is."""
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 10.0 if is_killed else 0.1)
    run_id = noted(emulator, store, started_at=4e9)
    operator, look_up = run_operator(), StablyHook.get_connection

    def get_connection(conn_id):
        if is_killed:
            operator.on_kill()
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))
    with pytest.raises((AirflowException, StablyCancelError)) as caught:
        operator.execute(context)
    monkeypatch.setattr(StablyHook, "get_connection", look_up)

    assert is_killed or run_id in str(caught.value)
    assert not isinstance(caught.value, AirflowFailException)
    assert StablyCancelRunOperator(task_id="stop", task_ids="start").execute(context) == [run_id]


@pytest.mark.parametrize("recorded", ["nothing", "no id", "another connection"])
def test_a_missing_connection_without_a_run_ends_the_try(
    emulator, context, store, hide_connection, monkeypatch, recorded
):
    """There is no run that waits for it."""
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 60.0)
    if recorded == "no id":
        store[START_RECORD_KEY] = {}
    elif recorded == "another connection":
        noted(emulator, store, stably_conn_id="another")
    hide_connection(times=1)

    with pytest.raises(StablyConfigError, match="not defined"):
        run_operator().execute(context)


def test_a_renamed_connection_blocks_nothing(emulator, context, store):
    """If the old run's connection is gone, the task's own asks for it."""
    emulator.run_seconds = 0.05
    run_id = noted(emulator, store, stably_conn_id="renamed")

    run_operator(playwright_project_name="passes").execute(context)

    assert emulator.status(run_id) == "CANCELLED"


@pytest.mark.parametrize("status", [404, 403])
def test_a_record_names_no_connection_to_use(emulator, context, store, monkeypatch, status):
    """Whoever may write the record could name another team's; what the task's own does not reach is told."""
    with StablyEmulator(api_key=KEY) as other:
        monkeypatch.setenv("AIRFLOW_CONN_ANOTHER_TEAMS", other.connection())
        run_id = noted(other, store, stably_conn_id="another_teams")
        emulator.inject(Fault(status=status, body={"error": "?"}), times=math.inf)

        with pytest.raises(
            AirflowFailException, match=f"Run {run_id} .* another connection.*'stably_default'"
        ):
            run_operator().execute(context)

        assert other.requests() == []
    assert emulator.requests("start") == []
    assert context["xcom"]["stably_run"]["stably_conn_id"] == "stably_default"
    assert store == {}


def test_another_connections_run_is_kept_until_over(emulator, context, store):
    """While the API does not answer, no other is started beside it, and it stays on record."""
    run_id = noted(emulator, store, stably_conn_id="before")
    emulator.inject(Fault(status=500), times=math.inf)

    with pytest.raises(StablyCancelError, match="no other is started beside it"):
        run_operator().execute(context)

    assert store[START_RECORD_KEY]["run_id"] == run_id
    assert emulator.requests("start") == []

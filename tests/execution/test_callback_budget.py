"""The seconds that callbacks have for their cancels, and what they share of them."""

import math
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_stably.execution import callback_budget
from airflow_provider_stably.execution.own_callback import budget_owner
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import (
    cancel_run_on_failure,
)
from airflow_provider_stably.runs import cancel
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.execution.noted import pushed
from tests.waiting import wait_until


def test_missing_connections_share_the_pauses(emulator, monkeypatch):
    """However many are missing, the run whose connection is there has nearly all of the callback's time."""
    missing = [RunReference("run", PROJECT, f"missing_{number}") for number in range(9)]
    there = RunReference(emulator.add_run(project_id=PROJECT), PROJECT, "stably_default")
    monkeypatch.setattr(callback_budget, "LOOK_UP_PAUSES", (0.25, 0.25))
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 2.0)
    began = time.monotonic()

    callback_budget.cancel_within_budget([*missing, there], callback_budget.Budget())

    assert emulator.live_runs() == []
    assert time.monotonic() - began < 9 * 0.5  # each with pauses of its own


def test_cancels_do_not_wait_for_other_connections(emulator, monkeypatch):
    """A secrets backend that takes seconds for each must not use up the time of the first one's runs."""
    run_id = emulator.add_run(project_id=PROJECT)
    genuine, cancelled_by_then = StablyHook.get_connection, []

    def get_connection(conn_id):
        if conn_id == "another":
            wait_until(lambda: emulator.status(run_id) == "CANCELLED")
            cancelled_by_then.append(run_id)
        return genuine(conn_id)

    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))
    runs = [RunReference(run_id, PROJECT, "stably_default"), RunReference("r", PROJECT, "another")]

    callback_budget.cancel_within_budget(runs, callback_budget.Budget())

    assert cancelled_by_then[:1] == [run_id]


def test_a_slow_secrets_backend_is_not_asked_again(emulator, context, monkeypatch):
    """Callbacks that wait for it, and the runs of another connection, share the seconds that there are."""
    monkeypatch.setattr(callback_budget, "LOOK_UP_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(callback_budget, "LOOK_UP_AGAIN_SECONDS", 0.5)
    monkeypatch.setenv("AIRFLOW_CONN_ANOTHER", emulator.connection(login=PROJECT))
    genuine, asked = StablyHook.get_connection, []

    def get_connection(conn_id):
        if conn_id == "another":
            return genuine(conn_id)
        asked.append(conn_id)
        time.sleep(0.6)
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))
    run_id = emulator.add_run(project_id=PROJECT)

    StablyCancelRunNotifier(run_ids="of the default project")(context)
    callback_budget.cancel_within_budget(
        [RunReference("r", PROJECT, "stably_default"), RunReference(run_id, PROJECT, "another")],
        callback_budget.budget_of(budget_owner(context)),
    )

    assert asked == ["stably_default"] * 2
    assert emulator.status(run_id) == "CANCELLED"


def test_the_callback_gives_up_on_a_dead_api(emulator, context, monkeypatch):
    """An API that answers 500 to everything does not keep a callback from returning."""
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 1.0)
    monkeypatch.setattr(cancel, "SECONDS_BETWEEN_ATTEMPTS", 0.5)
    pushed(emulator, context)
    emulator.inject(Fault(status=500), times=math.inf)
    began = time.monotonic()

    cancel_run_on_failure(context)

    assert time.monotonic() - began < 5
    assert len(emulator.requests()) <= 30


@pytest.mark.parametrize("is_named", [False, True], ids=["its own run", "by id"])
def test_two_callbacks_of_a_task_share_a_budget(emulator, context, monkeypatch, is_named):
    """The second leaves alone what the first has asked for: Airflow waits 20 s for both."""
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 1.0)
    run_id = pushed(emulator, context)
    emulator.inject(Fault(delay=math.inf), times=math.inf)
    began = time.monotonic()

    StablyCancelRunNotifier(run_ids=run_id if is_named else None)(context)
    cancel_run_on_failure(context)

    assert time.monotonic() - began < 1.0 + callback_budget.SECONDS_TO_END + 1.5
    assert len(emulator.requests("cancel")) == 1


def test_another_connections_refusal_spares_no_run(emulator, context, monkeypatch):
    """A notifier's connection may not reach the run that it names: the task's own is asked all the same."""
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 1.0)
    monkeypatch.setenv("AIRFLOW_CONN_OTHERS", emulator.connection(login=PROJECT, password="not-the-key"))
    run_id = pushed(emulator, context)

    StablyCancelRunNotifier(run_ids=run_id, stably_conn_id="others")(context)
    cancel_run_on_failure(context)

    assert emulator.live_runs() == []


def test_two_callbacks_share_the_pauses(emulator, context, monkeypatch):
    """A second callback with missing connections would wait as long again, and outlast the 20 s."""
    monkeypatch.setattr(callback_budget, "LOOK_UP_PAUSES", (0.4, 0.4))
    context["xcom"]["stably_run"] = {"run_id": "run", "project_id": PROJECT, "try_number": 1}
    monkeypatch.delenv("AIRFLOW_CONN_STABLY_DEFAULT")
    StablyCancelRunNotifier()(context)
    began = time.monotonic()

    cancel_run_on_failure(context)

    assert time.monotonic() - began < 0.4


def test_a_spent_budget_leaves_other_runs_a_request(emulator, context, monkeypatch):
    """A callback on another task's silent API uses it up; the task's own run is cancelled all the same."""
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 0.5)
    run_id = pushed(emulator, context)
    context["xcom"]["start_many", "stably_run"] = {"run_id": "another", "project_id": PROJECT}
    emulator.inject(Fault(delay=math.inf), run_id="another", times=math.inf)

    StablyCancelRunNotifier(task_ids="start_many")(context)
    cancel_run_on_failure(context)

    assert emulator.status(run_id) == "CANCELLED"


def test_each_dag_runs_deadline_has_its_own_budget():
    """A deadline's context has plain values only; two of them in one process are two owners."""
    owners = {
        budget_owner({"dag_run": {"dag_id": "dag", "dag_run_id": dag_run_id}, "deadline": {}})
        for dag_run_id in ("manual__1", "manual__1", "manual__2")
    }

    assert len(owners) == 2


def test_the_callback_outlasts_a_long_retry_after(emulator, context, monkeypatch):
    """A rate limit that asks for more than the callback's time does not cost the second attempt."""
    monkeypatch.setattr(callback_budget, "HEEDED_IN_HASTE_SECONDS", 0.1)
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 10.0)
    pushed(emulator, context)
    emulator.inject(Fault(status=429, headers={"Retry-After": "30"}))

    cancel_run_on_failure(context)

    assert emulator.live_runs() == []

"""The callback that the run operator attaches to itself: what it does, and that it is there."""

from types import SimpleNamespace
from typing import Literal
from unittest.mock import create_autospec

import pytest
from airflow.providers.common.compat.sdk import DAG
from pydantic import TypeAdapter, create_model

from airflow_provider_stably.exceptions import (
    StablyConfigError,
    StablyRunCancelledError,
    StablyRunFailedError,
    StablyRunTimeoutError,
)
from airflow_provider_stably.execution import notify
from airflow_provider_stably.execution.fail_for_good import not_retried
from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import (
    OWN_CALLBACKS,
    StablyRunTestsOperator,
    cancel_run_on_failure,
)
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.tasks.start_record import StartRecords
from airflow_provider_stably.tasks.version_compat import HAS_TASK_STATE_STORE, HAS_TRIGGER_ON_KILL
from airflow_provider_stably.testing import StablyEmulator
from tests.constants import KEY, PROJECT
from tests.execution.noted import pushed
from tests.operators.run_operator import run_operator


def test_the_failure_callback_cancels_once(emulator, context):
    """Called twice, as Airflow does after losing a worker, it cancels once and never raises."""
    pushed(emulator, context)

    cancel_run_on_failure(context)
    cancel_run_on_failure(context)

    assert emulator.live_runs() == []
    assert len(emulator.requests("cancel")) == 1


def test_the_callback_outlasts_a_missing_connection(emulator, context, hide_connection):
    """A secrets backend may fail for a moment when a worker is lost: perhaps the same failure took both."""
    pushed(emulator, context)
    hide_connection(times=2)

    cancel_run_on_failure(context)

    assert emulator.live_runs() == []


@pytest.mark.parametrize(
    "callback", [cancel_run_on_failure, StablyCancelRunNotifier()], ids=["operator's", "notifier"]
)
def test_no_callback_borrows_a_connection(emulator, context, monkeypatch, callback):
    """Its task's own is used, whichever its XCom names: somebody else may have written that."""
    run_id = pushed(emulator, context)
    context["xcom"]["stably_run"]["stably_conn_id"] = "another_teams"
    with StablyEmulator(api_key=KEY) as other:
        monkeypatch.setenv("AIRFLOW_CONN_ANOTHER_TEAMS", other.connection())

        callback(context)

        assert other.requests() == []
    assert emulator.status(run_id) == "CANCELLED"


@pytest.mark.parametrize("knows_dag", [True, False], ids=["a DAG's", "a deadline's"])
def test_no_callback_without_a_task_borrows_one(emulator, context, monkeypatch, knows_dag):
    """Where Airflow gives no task instance, it is the task's own, or without a DAG the notifier's."""
    run = RunReference(emulator.add_run(project_id=PROJECT), PROJECT, "another_teams")
    started = create_autospec(notify.started_by, return_value=[("start", run)])
    monkeypatch.setattr(notify, "started_by", started)
    ids = {"dag_id": "dag", "dag_run_id": "dag run"}
    with StablyEmulator(api_key=KEY) as other:
        monkeypatch.setenv("AIRFLOW_CONN_ANOTHER_TEAMS", other.connection())

        StablyCancelRunNotifier(task_ids="start").notify(
            {"dag": context["dag"], "run_id": "dag run"} if knows_dag else {"dag_run": ids}
        )

        assert other.requests() == []
    assert emulator.status(run.run_id) == "CANCELLED"


def test_a_supervisor_without_xcoms_is_not_asked(emulator, context, monkeypatch):
    """The dag processor of Airflow 3.0 would never answer, and drop the file's DAGs after that."""
    task_runner = pytest.importorskip(
        "airflow.sdk.execution_time.task_runner", reason="Airflow 2.11 has no supervisor"
    )
    decoders = {}
    for knows in (False, True):
        answer = Literal["XComResult"] if knows else Literal["ConnectionResult"]
        decoders[knows] = TypeAdapter(create_model("Answer", type=(answer, ...)))
    pushed(emulator, context)

    for knows in (False, True):
        supervisor = SimpleNamespace(body_decoder=decoders[knows])
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
        cancel_run_on_failure(context)

        assert context["ti"].xcom_pull.called is knows


@pytest.mark.skipif(not HAS_TASK_STATE_STORE, reason="Airflow 3.3 brought the task state store")
def test_a_run_that_only_the_start_record_names_is_cancelled(emulator, context, store):
    """A retry that fails while it is rendered has cleared the XCom of the first try, whose run is live."""
    run = RunReference(emulator.add_run(project_id=PROJECT), PROJECT, "stably_default")
    StartRecords(context).write(run)

    cancel_run_on_failure(context)

    assert emulator.status(run.run_id) == "CANCELLED"


@pytest.mark.skipif(not HAS_TASK_STATE_STORE, reason="Airflow 3.3 brought the task state store")
def test_a_record_of_a_run_to_be_left_alone_is_heeded(emulator, context, store):
    """A mapped task has the callback, and its instances say by .expand() whose runs are left alone."""
    run = RunReference(emulator.add_run(project_id=PROJECT), PROJECT, "stably_default")
    StartRecords(context).write(run)
    context["task"] = run_operator(cancel_on_kill=False)

    cancel_run_on_failure(context)

    assert emulator.live_runs() == [run.run_id]


@pytest.mark.skipif(not HAS_TASK_STATE_STORE, reason="Airflow 3.3 brought the task state store")
def test_a_record_of_the_next_try_is_left_alone(emulator, context, store):
    """A callback may arrive when the next try has begun, and has recorded a run but not pushed it yet."""
    run = RunReference(emulator.add_run(project_id=PROJECT), PROJECT, "stably_default")
    context["ti"].try_number = 2
    StartRecords(context).write(run)
    context["ti"].try_number = 1

    cancel_run_on_failure(context)

    assert emulator.live_runs() == [run.run_id]


@pytest.mark.skipif(not HAS_TASK_STATE_STORE, reason="Airflow 3.3 brought the task state store")
def test_a_run_that_was_left_alone_before_a_clear_stays_alone(emulator, context, store, hide_connection):
    """The cleared task fails before it starts another; nobody said that the first run should end."""
    keys = {"task_id": "run", "cancel_on_kill": False, "wait_for_completion": False}
    run_id = run_operator(**keys).execute(context)["run_id"]
    context["xcom"].clear()
    context["ti"].try_number, context["ti"].max_tries = 2, 1
    hide_connection(times=1)
    context["task"] = run_operator(**keys)

    with pytest.raises(StablyConfigError):
        context["task"].execute(context)
    StablyCancelRunNotifier()(context)

    assert emulator.live_runs() == [run_id]


@pytest.mark.skipif(not HAS_TASK_STATE_STORE, reason="Airflow 3.3 brought the task state store")
def test_a_supervisor_without_a_store_is_not_asked(emulator, context, store, monkeypatch):
    """The dag processor of Airflow 3.3 knows XComs, but would never answer about the task state store."""
    from airflow.sdk.execution_time import task_runner

    StartRecords(context).write(RunReference(emulator.add_run(project_id=PROJECT), PROJECT))
    decoder = TypeAdapter(create_model("Answer", type=(Literal["XComResult"], ...)))
    supervisor = SimpleNamespace(body_decoder=decoder)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)

    cancel_run_on_failure(context)

    assert emulator.requests() == []


def test_the_callback_leaves_another_tries_run_alone(emulator, context):
    """A callback that is delivered after the new try has started does not cancel its run."""
    run_id = pushed(emulator, context, try_number=2)

    cancel_run_on_failure(context)

    assert emulator.live_runs() == [run_id]


@pytest.mark.parametrize("cancel_on_kill", [True, False])
@pytest.mark.parametrize(
    "callback", [cancel_run_on_failure, StablyCancelRunNotifier()], ids=["operator's", "notifier"]
)
def test_a_try_that_never_began_leaves_no_run_of_the_one_before(emulator, context, callback, cancel_on_kill):
    """No worker took it, so Airflow has not cleared the XCom of the try before, whose worker was lost."""
    run_id = pushed(emulator, context)
    context["xcom"]["stably_run"]["cancel_on_kill"] = cancel_on_kill
    context["ti"].try_number = 2

    callback(context)

    assert emulator.live_runs() == ([] if cancel_on_kill else [run_id])


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", [StablyRunFailedError, StablyRunCancelledError, StablyRunTimeoutError])
def test_no_request_is_made_for_a_run_seen_to_end(emulator, context, kind, wrapped):
    """A run that ended needs no cancelling."""
    pushed(emulator, context)
    error = kind("over", run={})
    if wrapped:
        error = not_retried(error)

    cancel_run_on_failure({**context, "exception": error})

    assert emulator.requests() == []


def test_the_callback_cancels_what_the_task_could_not(emulator, context):
    """A task that ended without knowing that its run is over leaves it to the callback."""
    pushed(emulator, context)
    error = StablyRunTimeoutError("too long", run={}, is_over=False)

    cancel_run_on_failure({**context, "exception": error})

    assert emulator.live_runs() == []


@pytest.mark.parametrize("xcom", [None, "junk", {"run_id": "a/b"}], ids=repr)
def test_the_callback_never_raises(emulator, context, xcom):
    """No XCom, or one that is not ours, is nothing to cancel."""
    context["xcom"]["stably_run"] = xcom

    cancel_run_on_failure(context)

    assert emulator.requests() == []


def test_the_callback_needs_no_task_instance(emulator, caplog):
    """A context that lacks what Airflow promises is logged, and nothing else happens."""
    cancel_run_on_failure({})

    assert emulator.requests() == []
    assert "could not be cancelled" in caplog.text


def test_the_callback_respects_cancel_on_kill_false(emulator, context):
    """cancel_on_kill=False holds wherever it was said: mapped, or in default_args."""
    run_id = pushed(emulator, context)
    context["xcom"]["stably_run"]["cancel_on_kill"] = False

    cancel_run_on_failure(context)

    assert emulator.live_runs() == [run_id]


def _mine(context):
    """A user's own callback."""


def test_retries_have_a_callback_where_none_resumes():
    """Airflow 3.3 brought the task state store and the triggers' on_kill together."""
    assert ("on_retry_callback" in OWN_CALLBACKS) is not HAS_TRIGGER_ON_KILL


@pytest.mark.parametrize("name", OWN_CALLBACKS)
@pytest.mark.parametrize(
    "given", [None, _mine, [_mine], [_mine, cancel_run_on_failure]], ids=["none", "one", "list", "ours"]
)
def test_the_callback_stands_beside_the_users_own(name, given):
    """Plain and mapped, from arguments and from default_args, theirs stay and ours comes once."""
    expected = [cancel_run_on_failure] if given is None else [_mine, cancel_run_on_failure]
    arguments = {} if given is None else {name: given}

    with DAG("direct"):
        plain = run_operator(**arguments)
        mapped = StablyRunTestsOperator.partial(task_id="mapped", **arguments).expand(branch=["a", "b"])
    with DAG("by_default", default_args=arguments):
        plain_by_default = run_operator()
        mapped_by_default = StablyRunTestsOperator.partial(task_id="mapped").expand(branch=["a", "b"])

    for task in (plain, mapped, plain_by_default, mapped_by_default):
        assert list(getattr(task, name)) == expected


def test_a_mapped_task_leaving_runs_has_no_callback():
    """cancel_on_kill=False holds for mapped tasks too."""
    with DAG("dag"):
        mapped = StablyRunTestsOperator.partial(task_id="m", cancel_on_kill=False).expand(branch=["a"])

    assert not mapped.on_failure_callback

"""What the run operator makes of a trigger's event: it ends, settles or watches the run from the worker."""

import math
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
)

from airflow_provider_stably.exceptions import StablyRunLostError, StablyRunTimeoutError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs import watch
from airflow_provider_stably.tasks.deadline import TRIGGER_FAILED
from airflow_provider_stably.tasks.start_record import START_RECORD_KEY
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.interruption import Interrupted, interrupt_when
from tests.operators.run_operator import run_operator


@pytest.fixture
def complete(emulator, context):
    """Resume a deferred task whose run goes on, with an event of its trigger."""

    def complete(end, *, cancellation=None, statuses=(), starts_in=0.0, operator=None, **arguments):
        run_id = emulator.add_run(project_id=PROJECT, statuses=statuses)
        context["xcom"]["stably_run"] = {
            "run_id": run_id,
            "project_id": PROJECT,
            "stably_conn_id": "stably_default",
            "started_at": time.time() + starts_in,
            "try_number": 1,
        }
        run = {"run_id": run_id, "project_id": PROJECT}
        event = {"end": end, "run": run, "detail": "as it was", "cancellation": cancellation}
        event["deadline"] = arguments.pop("deadline", None)
        operator = operator or run_operator(deferrable=True, **arguments)
        return operator.execute_complete(context, event)

    return complete


def _resume(operator, context, how):
    if how == "unreadable event":
        operator.execute_complete(context, {"end": "exploded"})
    else:
        operator.resume_execution(TRIGGER_FAILED, {"error": "lost"}, context)


def test_a_run_that_is_handed_back_is_watched_here(emulator, complete):
    """Where the triggerer cannot reach the API, the worker goes on; no second run is started."""
    assert complete("handed_back", statuses=["RUNNING", "PASSED"])["status"] == "PASSED"
    assert emulator.requests("start") == []


def test_a_run_that_is_handed_back_keeps_its_deadline(emulator, context, complete):
    """That of its trigger: Airflow 3 begins an execution_timeout anew, and 3.0 and 3.1 the task."""
    context["ti"].start_date = datetime.now(UTC)

    with pytest.raises(StablyRunTimeoutError, match="now cancelled"):
        complete("handed_back", deadline=time.time(), execution_timeout=timedelta(minutes=1))

    assert emulator.live_runs() == []


@pytest.mark.parametrize("end", ["denied", "not_found"])
def test_a_run_that_is_live_after_all_is_watched_on(emulator, complete, end):
    """Where nothing cancels the run, what the triggerer believed is asked once more before it is."""
    statuses = ["RUNNING", "RUNNING", "PASSED"]

    assert complete(end, statuses=statuses, cancel_on_kill=False)["status"] == "PASSED"


@pytest.mark.parametrize("end", ["denied", "not_found", "timed_out"])
def test_a_run_to_be_left_alone_may_have_passed(complete, end):
    """A run that nothing cancels is polled once more before its task fails."""
    assert complete(end, statuses=["PASSED"], cancel_on_kill=False)["status"] == "PASSED"


@pytest.mark.parametrize("starts_in", [0.0, 1e9], ids=["now", "in thirty years"])
def test_a_run_that_is_handed_back_has_its_deadline(emulator, complete, starts_in):
    """The timeout counts from the run's start, wherever it is watched, and whatever its XCom says."""
    with pytest.raises(StablyRunTimeoutError, match="now cancelled"):
        complete("handed_back", timeout=0.3, starts_in=starts_in)

    assert emulator.live_runs() == []


def test_a_worker_without_the_connection_reports_it(complete, monkeypatch):
    """The error names the connection and the run, and no retry follows."""
    monkeypatch.delenv("AIRFLOW_CONN_STABLY_DEFAULT")

    with pytest.raises(AirflowFailException, match=r"'stably_default' is not defined.* may still be running"):
        complete("handed_back", timeout=0.1)


def test_a_handed_back_run_outlasts_a_bad_connection(emulator, complete, monkeypatch):
    """What somebody has mistyped while a run goes on, somebody mends."""
    genuine, mistyped = StablyHook.get_connection, [""] * 2

    def get_connection(conn_id):
        connection = genuine(conn_id)
        connection.password = mistyped.pop() if mistyped else connection.password
        return connection

    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))

    assert complete("handed_back", statuses=["RUNNING", "PASSED"])["status"] == "PASSED"


@pytest.mark.parametrize("error", [RuntimeError("backend is away"), AirflowNotFoundException()], ids=repr)
@pytest.mark.parametrize("end", ["handed_back", "timed_out", "denied", "not_found"])
def test_a_connection_missing_for_a_moment_leaves_no_run(
    emulator, complete, hide_connection, monkeypatch, end, error
):
    """A secrets backend may fail just when the worker has to go on, or to settle what the trigger left."""
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 10.0)
    hide_connection(times=2, error=error)

    with pytest.raises((StablyRunTimeoutError, StablyRunLostError), match="now cancelled"):
        complete(end, cancellation=None if end == "handed_back" else "unknown", timeout=2.0)

    assert emulator.live_runs() == []


def test_a_run_that_may_be_live_keeps_its_record(emulator, complete, store):
    """One that was not found, and that nothing could cancel, is known to the next try, and there is one."""
    store[START_RECORD_KEY] = {"run_id": "run-1", "project_id": PROJECT, "try_number": 1}
    emulator.inject(Fault(status=503), times=math.inf)

    with pytest.raises(StablyRunLostError, match="may still be running"):
        complete("not_found", cancellation="unknown")

    assert START_RECORD_KEY in store


def test_a_lost_trigger_outlasts_a_missing_connection(
    emulator, context, complete, hide_connection, monkeypatch
):
    """Nobody else watches that run."""
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 10.0)
    with pytest.raises(StablyRunTimeoutError):
        complete("timed_out", cancellation="cancelled")  # the XCom is there now
    hide_connection(times=2)

    with pytest.raises(Exception, match="lost"):
        run_operator(deferrable=True).resume_execution(TRIGGER_FAILED, {"error": "lost"}, context)

    assert emulator.live_runs() == []


@pytest.mark.parametrize("cancellation", ["unknown", "denied", "still_live", None])
@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ("timed_out", StablyRunTimeoutError),
        ("denied", StablyRunLostError),
        ("not_found", StablyRunLostError),
    ],
)
def test_what_a_trigger_could_not_cancel_is_cancelled(emulator, complete, end, kind, cancellation):
    """The worker settles a run that is not shown to be over with its own client and connection."""
    with pytest.raises(kind, match="now cancelled"):
        complete(end, cancellation=cancellation)

    assert emulator.live_runs() == []


def test_a_run_that_passed_meanwhile_is_green(emulator, complete):
    """A run that turns out to be over when it is settled counts as watched to its end."""
    assert complete("timed_out", cancellation="unknown", statuses=["PASSED"])["status"] == "PASSED"


def test_a_run_that_is_settled_costs_no_request(emulator, complete):
    """What the trigger has cancelled is not cancelled again."""
    with pytest.raises(StablyRunTimeoutError):
        complete("timed_out", cancellation="cancelled")

    assert emulator.requests() == []


def test_a_run_to_be_left_alone_is_left_alone(emulator, complete):
    """cancel_on_kill=False holds for what the worker settles, too."""
    with pytest.raises(AirflowFailException, match="left alone"):
        complete("timed_out", cancel_on_kill=False)

    assert emulator.requests("cancel") == []


def test_a_live_run_no_try_would_know_is_not_retried(emulator, complete):
    """Without a task state store the next try would start another run beside it."""
    emulator.inject(Fault(status=500), times=math.inf)

    with pytest.raises(AirflowFailException, match="may still be running"):
        complete("timed_out", cancellation="unknown")


def test_a_live_run_that_the_next_try_knows_is_retried(emulator, complete, store):
    """With a task state store the next try goes on with the run."""
    emulator.inject(Fault(status=500), times=math.inf)

    with pytest.raises(StablyRunTimeoutError, match="may still be running"):
        complete("timed_out", cancellation="unknown")


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_a_record_that_was_cleaned_up_is_written_anew(emulator, complete, store, cancel_on_kill):
    """A retry without it, as after ``airflow state-store clean``, would start a run beside the live one."""
    emulator.inject(Fault(status=500), times=math.inf)

    with pytest.raises(StablyRunTimeoutError):
        complete("timed_out", cancellation="unknown", cancel_on_kill=cancel_on_kill)

    assert [store[START_RECORD_KEY]["run_id"]] == emulator.live_runs()


@pytest.mark.parametrize("end", ["lost trigger", "handed_back", "denied"])
def test_a_record_is_written_anew_without_a_connection(emulator, context, complete, store, monkeypatch, end):
    """Neither a look-up that fails nor an execution_timeout during it hides the live run from the retry."""
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 0.1 if end == "lost trigger" else 60.0)
    with pytest.raises(StablyRunTimeoutError):
        complete("timed_out", cancellation="unknown", cancel_on_kill=False)  # the XCom is there now
    store.clear()
    emulator.inject(Fault(status=500), times=math.inf)
    looked_up = []

    def get_connection(conn_id):
        looked_up.append(conn_id)
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))
    ends = {
        "lost trigger": partial(_resume, run_operator(deferrable=True), context, end),
        "handed_back": partial(complete, end, deadline=time.time() + 60),
        "denied": partial(complete, end, cancellation="denied"),
    }
    with (
        interrupt_when(lambda: len(looked_up) > 2 and end != "lost trigger"),
        pytest.raises((Interrupted, AirflowException)),
    ):
        ends[end]()

    assert store[START_RECORD_KEY]["run_id"] in emulator.live_runs()


@pytest.mark.parametrize("missing", ["API", "connection"])
def test_a_lost_trigger_with_a_live_run_is_not_retried(emulator, context, complete, hide_connection, missing):
    """Before Airflow 3.3 the next try would start another run beside it."""
    with pytest.raises(StablyRunTimeoutError):
        complete("timed_out", cancellation="cancelled")  # the XCom is there now
    if missing == "API":
        emulator.inject(Fault(status=500), times=math.inf)
    else:
        hide_connection(times=1000)

    told = r"^The trigger of this task was lost; run .* may still be running, so this task is not retried"
    with pytest.raises(AirflowFailException, match=told):
        run_operator(deferrable=True).resume_execution(TRIGGER_FAILED, {"error": "lost"}, context)


@pytest.mark.parametrize("xcom", ["missing", "unreadable"])
def test_a_lost_trigger_whose_run_is_not_known_is_not_retried(context, xcom):
    """Before Airflow 3.3 the next try would start another run beside it."""
    if xcom == "unreadable":
        context["ti"].xcom_pull.side_effect = RuntimeError("backend is away")

    with pytest.raises(AirflowFailException, match="no XCom tells which run it watched"):
        run_operator(deferrable=True).resume_execution(TRIGGER_FAILED, {"error": "lost"}, context)


@pytest.mark.parametrize("how", ["lost trigger", "unreadable event", "unreadable XCom"])
def test_an_interruption_after_a_lost_trigger_is_not_retried(emulator, context, complete, monkeypatch, how):
    """An execution_timeout may strike while the run is cancelled, for minutes, or before it is known."""
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 1.0)
    with pytest.raises(StablyRunTimeoutError):
        complete("timed_out", cancellation="cancelled")  # the XCom is there now
    emulator.inject(Fault(status=503), call="cancel", times=math.inf)
    operator = run_operator(deferrable=True)
    if how == "unreadable XCom":
        context["ti"].xcom_pull.side_effect = [context["xcom"]["stably_run"], Interrupted]

    with (
        interrupt_when(lambda: len(emulator.requests("cancel")) > 2),
        pytest.raises(AirflowFailException, match="not retried"),
    ):
        _resume(operator, context, how)


@pytest.mark.parametrize("how", ["lost trigger", "unreadable event"])
@pytest.mark.parametrize("xcom", [RuntimeError("backend is away"), ["foreign"]], ids=repr)
def test_a_run_is_known_by_its_record_too(emulator, context, store, monkeypatch, how, xcom):
    """An XCom backend may be away, and nobody comes after the last try."""
    monkeypatch.setattr("airflow_provider_stably.tasks.xcom.can_read_task_state_store", lambda: True)
    run_id = emulator.add_run(project_id=PROJECT)
    store[START_RECORD_KEY] = {"run_id": run_id, "project_id": PROJECT, "stably_conn_id": "stably_default"}
    context["ti"].xcom_pull.side_effect = xcom if isinstance(xcom, Exception) else [xcom]
    operator = run_operator(deferrable=True)

    with pytest.raises(Exception, match=r"lost|event cannot be read"):
        _resume(operator, context, how)

    assert emulator.live_runs() == []


def test_a_lost_trigger_whose_run_is_not_known_is_retried_if_recorded(context, store):
    """From Airflow 3.3 on, the next try finds the run in its record."""
    with pytest.raises(Exception, match="lost") as caught:
        run_operator(deferrable=True).resume_execution(TRIGGER_FAILED, {"error": "lost"}, context)

    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("interruption", [Interrupted, SystemExit])
def test_an_interruption_after_a_lost_wait_is_not_retried(complete, monkeypatch, emulator, interruption):
    """A run that may be live stays the task's concern while its JUnit XML is written."""
    emulator.inject(Fault(status=500), times=math.inf)

    def interrupt(*_, **__):
        raise interruption

    monkeypatch.setattr("airflow_provider_stably.execution.run_tests.write_junit", interrupt)

    with pytest.raises(AirflowFailException, match=r"run .* may still be running, so this task is not"):
        complete("timed_out", cancellation="unknown")


def test_an_interruption_by_keyboard_is_left_alone(complete, monkeypatch, emulator):
    """Whoever sits before it wants everything to end; no retry follows."""
    emulator.inject(Fault(status=500), times=math.inf)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("airflow_provider_stably.execution.run_tests.write_junit", interrupt)

    with pytest.raises(KeyboardInterrupt):
        complete("timed_out", cancellation="unknown")


def test_a_kill_beside_a_live_run_is_not_retried(complete, monkeypatch, emulator):
    """Killed or not: before Airflow 3.3 the next try would start another run beside it."""
    emulator.inject(Fault(status=500), times=math.inf)
    operator = run_operator(deferrable=True)
    monkeypatch.setattr(
        "airflow_provider_stably.execution.run_tests.write_junit", lambda *_, **__: operator.on_kill()
    )

    with pytest.raises(AirflowFailException, match="may still be running"):
        complete("timed_out", cancellation="unknown", operator=operator)


@pytest.mark.parametrize("end", ["handed_back", "timed_out"])
def test_a_kill_without_a_connection_is_not_retried(complete, monkeypatch, end):
    """Nothing can cancel the run then, and before Airflow 3.3 the next try would start another beside it."""
    operator = run_operator(deferrable=True)

    def get_connection(conn_id):
        operator.on_kill()
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))

    with pytest.raises(AirflowFailException, match=r"killed; run .* may still be running, so"):
        complete(end, cancellation="unknown", operator=operator)

"""What the run operator records of its start in the task state store, and keeps there."""

import inspect
import math
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
)

from airflow_provider_stably.exceptions import StablyRunCancelledError, StablyRunTimeoutError
from airflow_provider_stably.tasks.start_record import START_RECORD_KEY
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.interruption import Interrupted, interrupt_when
from tests.operators.run_operator import run_operator


def test_a_start_is_recorded_until_its_run_is_over(emulator, context, store):
    """Whenever the worker is lost, the store says what may be going on."""
    seen = []
    respond = emulator.respond

    def watching(request):
        seen.append((request.call, dict(store.get(START_RECORD_KEY) or {}).get("run_id", "starting")))
        return respond(request)

    emulator.respond = watching
    emulator.run_seconds = 0.1

    run_operator(playwright_project_name="passes").execute(context)

    [run_id] = emulator.runs
    assert seen[0] == ("start", "starting")
    assert {noted for call, noted in seen if call == "get"} == {run_id}
    assert store == {}


def test_an_interrupted_task_writes_its_record_anew(emulator, context, store):
    """A retry without it, as after ``airflow state-store clean``, would start a run beside the live one."""
    emulator.inject(Fault(status=500), call="cancel", times=math.inf)

    def is_watched():
        if is_polled := bool(emulator.requests("get")):
            store.clear()
        return is_polled

    with interrupt_when(is_watched), pytest.raises(Interrupted):
        run_operator(playwright_project_name="hangs").execute(context)

    assert [store[START_RECORD_KEY]["run_id"]] == emulator.live_runs()


def test_a_task_interrupted_at_its_end_has_written_its_record_anew(emulator, context, store):
    """It could not settle its run, and is interrupted while it pushes what it knows of that."""
    emulator.inject(Fault(status=503), call="cancel", times=math.inf)
    emulator.inject(Fault(status=503), call="get", times=math.inf)
    push = context["ti"].xcom_push.side_effect

    def push_when_published(key, value):
        push(key, value)
        if key == "summary":
            raise Interrupted

    def push_when_started(key, value):
        push(key, value)
        if key == "run_id":  # the last one
            store.clear()
            context["ti"].xcom_push.side_effect = push_when_published

    context["ti"].xcom_push.side_effect = push_when_started
    with pytest.raises(Interrupted):
        run_operator(timeout=0.3).execute(context)

    assert [store[START_RECORD_KEY]["run_id"]] == emulator.live_runs()


def test_a_late_kill_leaves_the_record_to_the_next_try(emulator, context, store):
    """From it that one knows that nobody cancelled the run on purpose."""
    operator, respond = run_operator(), emulator.respond

    def kill_at_a_poll(request):
        if request.call == "get":
            emulator.respond = respond
            operator.on_kill()
        return respond(request)

    emulator.respond = kill_at_a_poll
    with pytest.raises(AirflowException) as caught:
        operator.execute(context)

    assert not isinstance(caught.value, AirflowFailException)
    assert emulator.live_runs() == []
    assert [store[START_RECORD_KEY]["run_id"]] == list(emulator.runs)


def test_a_late_timeout_leaves_the_record_to_the_next_try(emulator, context, store):
    """Airflow has replaced a try whose scheduler it lost, but its execution_timeout is still to come."""
    ti = copy(context["ti"])
    ti.try_number = 2
    next_try, operator = {**context, "ti": ti}, run_operator(timeout=20)
    execute = inspect.unwrap(type(operator).execute)
    ends = []

    def has_been_taken_up():
        if not ends and emulator.requests("get"):
            ends.append(pool.submit(execute, operator, next_try))
        pushed = [push.kwargs["key"] for push in ti.xcom_push.mock_calls]
        return pushed.count("run_id") == 2

    with ThreadPoolExecutor(1) as pool, interrupt_when(has_been_taken_up), pytest.raises(Interrupted):
        run_operator().execute(context)

    assert isinstance(ends[0].exception(), StablyRunCancelledError)  # retried, as it is not for good
    assert len(emulator.runs) == 1


def test_a_late_deadline_leaves_the_record_to_the_next_try(emulator, context, store):
    """A try that Airflow has replaced cancels the run at its timeout, and its clock is another machine's."""
    with pytest.raises(StablyRunTimeoutError):
        run_operator(timeout=0.1).execute(context)
    [run_id] = emulator.runs
    context["ti"].try_number = 2
    event = {"end": "finished", "run": {"run_id": run_id, "project_id": PROJECT, "status": "CANCELLED"}}

    with pytest.raises(StablyRunCancelledError):  # retried, as it is not for good
        run_operator(deferrable=True).execute_complete(context, event)


def test_a_late_end_leaves_the_next_trys_record(emulator, context, store):
    """A try that Airflow has replaced sees its run's end when the next one has started another."""
    emulator.run_seconds = 0.05
    of_next_try = {"run_id": "r2", "project_id": PROJECT, "stably_conn_id": "stably_default", "try_number": 2}
    respond = emulator.respond

    def replace_at_a_poll(request):
        if request.call == "get":
            store[START_RECORD_KEY] = of_next_try
        return respond(request)

    emulator.respond = replace_at_a_poll
    run_operator(playwright_project_name="passes").execute(context)

    assert store[START_RECORD_KEY] == of_next_try


def test_a_run_that_the_task_has_cancelled_is_not_looked_for(emulator, context, store):
    """Whoever clears the task may have given it another connection meanwhile."""
    with interrupt_when(lambda: emulator.requests("get")), pytest.raises(Interrupted):
        run_operator().execute(context)
    assert emulator.live_runs() == []
    context["ti"].max_tries = 7
    emulator.run_seconds = 0.05

    run_operator(playwright_project_name="passes").execute(context)

    assert [request.call for request in emulator.requests()].count("cancel") == 1
    assert store == {}


def test_a_failed_store_does_not_turn_a_passed_run_red(emulator, context, store, monkeypatch):
    """Tidying up is best effort."""
    emulator.run_seconds = 0.05
    monkeypatch.setattr(type(store), "delete", None)

    assert run_operator(playwright_project_name="passes").execute(context)["status"] == "PASSED"


def test_a_start_of_unknown_outcome_fails_once(emulator, context, store):
    """The error says that an untracked run may exist; clearing the task then starts a new run."""
    store[START_RECORD_KEY] = {"started_at": 1.0, "max_tries": 0, "clear_number": 0}
    emulator.run_seconds = 0.05

    with pytest.raises(AirflowFailException, match="an untracked run may exist"):
        run_operator().execute(context)
    assert emulator.requests() == []

    assert run_operator(playwright_project_name="passes").execute(context)["status"] == "PASSED"


@pytest.mark.parametrize(
    "spoilt",
    ["text", [], {"run_id": 42}, {"run_id": "a/b", "project_id": PROJECT}, {"run_id": "a"}],
    ids=repr,
)
def test_a_spoilt_record_fails_once(emulator, context, store, spoilt):
    """Which run it meant is not known, so one may be live; but it does not block the task for ever."""
    store[START_RECORD_KEY] = spoilt
    emulator.run_seconds = 0.05

    with pytest.raises(AirflowFailException, match="an untracked run may exist"):
        run_operator().execute(context)
    assert emulator.requests() == []

    assert run_operator(playwright_project_name="passes").execute(context)["status"] == "PASSED"


def test_a_start_that_failed_leaves_no_record(emulator, context, store):
    """A refused start, or one reported as ambiguous, does not block the next try."""
    for fault in (Fault(status=400, body={"error": "?"}), Fault(drop=True)):
        emulator.inject(fault, call="start")
        with pytest.raises(AirflowFailException):
            run_operator().execute(context)

        assert store == {}

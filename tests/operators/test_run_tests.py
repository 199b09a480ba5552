"""How the run operator leaves no run behind, against the emulator; Airflow's edges are stand-ins."""

import inspect
import json
import math
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_stably.exceptions import StablyRunCancelledError
from airflow_provider_stably.operators.stably import TRIGGER_FAILED
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.interruption import Interrupted, interrupt_when
from tests.operators.run_operator import run_operator
from tests.waiting import wait_until

ENDS_KILLED = (AirflowException, StablyRunCancelledError)
"""A killed task ends at once or, if it polls first, with the run that on_kill has cancelled."""


@contextmanager
def _executing(operator, context):
    """Execute an operator in a thread; gives the future of what comes of it."""
    # Without the guard that Airflow wraps it in: that of 2.11 exists in the main thread only.
    execute = inspect.unwrap(type(operator).execute)
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(execute, operator, context)


def test_a_kill_while_waiting_cancels_with_one_request(emulator, context):
    """on_kill sends one POST; the task may be retried, for a worker that shuts down kills it, too."""
    operator = run_operator()

    with _executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        operator.on_kill()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert emulator.live_runs() == []
    assert len(emulator.requests("cancel")) == 1


def test_a_kill_that_cannot_cancel_gives_up_in_time(emulator, context):
    """In a signal handler an error would hide what Airflow has to do next, five seconds before SIGKILL."""
    operator = run_operator()
    emulator.inject(Fault(status=500), call="cancel", times=math.inf)

    with _executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        began = time.monotonic()
        operator.on_kill()
        took = time.monotonic() - began
        emulator.heal()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert took < 4


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=503), id="503"),
        pytest.param(Fault(status=429), id="429"),
        pytest.param(Fault(drop=True), id="dropped"),
        pytest.param(Fault(status=200, body={"cancelled": []}), id="the run is not named"),
    ],
)
def test_a_kill_outlasts_a_passing_failure(emulator, context, fault):
    """A request that fails at once is repeated while there is time."""
    operator = run_operator()
    emulator.inject(fault, call="cancel", times=2)

    with _executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        operator.on_kill()
        live = emulator.live_runs()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert live == []


@pytest.mark.parametrize("status", [302, 401, 403, 404])
def test_a_kill_in_a_poll_outlasts_a_wrong_answer(emulator, context, status):
    """While a poll hangs nobody else cancels, and on a bad day a refusal or a 404 passes."""
    operator = run_operator()

    with _executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        emulator.inject(Fault(delay=1), call="get", times=math.inf)
        polls = len(emulator.requests("get"))
        wait_until(lambda: len(emulator.requests("get")) > polls + 1)
        emulator.inject(Fault(status=status), call="cancel", times=2)
        operator.on_kill()
        live = emulator.live_runs()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert live == []


def test_a_kill_asks_once_for_a_run_that_is_over(emulator, context):
    """A 400 is what the API says of one; the task settles it when it goes on."""
    operator = run_operator()

    with _executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        emulator.inject(Fault(status=400), call="cancel")
        operator.on_kill()
        requests = len(emulator.requests("cancel"))
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert requests <= 2  # the second is the task's own


def test_a_kill_needs_no_name_look_up(emulator, context, monkeypatch):
    """A name lookup that stalls, as on busy clusters, would outlast the process."""
    by_name = emulator.url.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT, host=by_name))
    operator, over, look_up = run_operator(), threading.Event(), socket.getaddrinfo

    def stall(host, *rest, **options):
        if host == "localhost":
            over.wait(10)
        return look_up(host, *rest, **options)

    with _executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        monkeypatch.setattr(socket, "getaddrinfo", stall)
        began = time.monotonic()
        operator.on_kill()
        took = time.monotonic() - began
        live = emulator.live_runs()
        over.set()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert live == []
    assert took < 4


@pytest.mark.parametrize("arguments", [{"wait_for_completion": False}, {"playwright_project_name": "passes"}])
def test_a_kill_after_the_task_succeeded_does_nothing(emulator, context, arguments):
    """Airflow ends a process that takes long over its callbacks; a run left to others goes on."""
    emulator.run_seconds = 0.05
    operator = run_operator(**arguments)
    operator.execute(context)

    operator.on_kill()

    assert emulator.requests("cancel") == []


def test_a_second_kill_sends_nothing(emulator, context):
    """A run that is cancelled is cancelled once."""
    operator = run_operator()

    with _executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        operator.on_kill()
        operator.on_kill()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert len(emulator.requests("cancel")) == 1


def test_a_kill_after_a_rotated_key_uses_the_new_one(emulator, context, monkeypatch):
    """on_kill cancels with the key that the polls use by now."""
    operator = run_operator()

    with _executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        rotated = emulator.connection(login=PROJECT, password="sk-rotated")
        monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", rotated)
        emulator.api_key = "sk-rotated"
        wait_until(lambda: emulator.requests()[-1].headers["authorization"] == "Bearer sk-rotated")
        operator.on_kill()
        live = emulator.live_runs()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert live == []


@pytest.mark.parametrize("retry_after", ["1", "60"])
def test_no_start_follows_a_kill(emulator, context, retry_after):
    """A start that waits for its next attempt gives up when the task is killed."""
    operator = run_operator()
    emulator.inject(Fault(status=429, headers={"Retry-After": retry_after}), call="start")

    with _executing(operator, context) as result:
        wait_until(lambda: emulator.requests("start"))
        operator.on_kill()
        with pytest.raises(ENDS_KILLED):
            result.result(timeout=5)

    assert (len(emulator.requests("start")), len(emulator.runs)) == (1, 0)


def test_a_kill_before_execute_is_not_forgotten(emulator, context):
    """Airflow may kill a task while it still renders its templates."""
    operator = run_operator()
    operator.on_kill()

    with pytest.raises(AirflowException, match="killed") as caught:
        operator.execute(context)

    assert not isinstance(caught.value, AirflowFailException)  # which no retry would follow
    assert emulator.requests() == []


def test_a_kill_before_the_start_does_nothing(emulator):
    """on_kill works on an operator that never executed."""
    run_operator().on_kill()

    assert emulator.requests() == []


def test_a_kill_during_the_start_cancels_the_run(emulator, context):
    """The answer to the start is still waited for; then the run is cancelled and the task fails."""
    operator = run_operator()
    emulator.inject(Fault(delay=0.3), call="start")

    with _executing(operator, context) as result:
        wait_until(lambda: emulator.requests("start"))
        operator.on_kill()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert len(emulator.runs) == 1
    assert emulator.live_runs() == []


def test_a_run_that_cannot_be_made_known_is_cancelled(emulator, context):
    """If pushing to XCom fails, nobody could find the run."""
    context["ti"].xcom_push.side_effect = RuntimeError("no XCom today")

    for arguments in ({}, {"wait_for_completion": False}, {"deferrable": True}):
        with pytest.raises(RuntimeError, match="no XCom today"):
            run_operator(**arguments).execute(context)

    assert len(emulator.runs) == 3
    assert emulator.live_runs() == []


def test_deferring_leaves_the_run_to_the_trigger(emulator, context):
    """The run goes on, and the trigger gets what it needs, in plain JSON, without a secret."""
    with pytest.raises(TaskDeferred) as deferred:
        run_operator(deferrable=True, timeout=100).execute(context)

    path, kwargs = deferred.value.trigger.serialize()
    [run_id] = emulator.live_runs()
    assert path == "airflow_provider_stably.triggers.stably.StablyRunTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert (kwargs["run_id"], kwargs["project_id"], kwargs["poll_interval"]) == (run_id, PROJECT, 0.02)
    assert kwargs["deadline"] - kwargs["started_at"] == 100
    assert deferred.value.timeout.total_seconds() == pytest.approx(400, abs=5)


def test_without_cancel_on_kill_runs_are_left_alone(emulator, context):
    """cancel_on_kill=False only watches, whatever ends the watching."""
    operator = run_operator(cancel_on_kill=False)

    with interrupt_when(lambda: emulator.requests("get")), pytest.raises(Interrupted):
        operator.execute(context)
    with pytest.raises(Exception, match="left alone"):
        run_operator(cancel_on_kill=False, timeout=0.05).execute(context)
    operator.on_kill()
    with pytest.raises(Exception, match="boom"):
        operator.resume_execution(TRIGGER_FAILED, {"error": "boom"}, context)

    assert len(emulator.live_runs()) == 2
    assert not operator.on_failure_callback


@pytest.mark.parametrize(
    "next_kwargs", [{"error": "Trigger timeout"}, {"error": "Trigger failure"}, None], ids=repr
)
def test_a_lost_trigger_cancels_the_run_in_xcom(emulator, context, next_kwargs):
    """After a deferral timeout or a crash of the trigger nobody watches any more."""
    operator = run_operator(deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(context)

    with pytest.raises(Exception, match=r"Trigger|Unknown"):
        run_operator(deferrable=True).resume_execution(TRIGGER_FAILED, next_kwargs, context)

    assert emulator.live_runs() == []


@pytest.mark.parametrize("next_method", ["execute_complete", TRIGGER_FAILED])
def test_a_retry_that_is_resumed_starts_anew(emulator, context, next_method):
    """Airflow 3.0 gives a retry the event of the try before; it is not taken for that of its own run."""
    with pytest.raises(TaskDeferred):
        run_operator(deferrable=True).execute(context)
    [first] = emulator.runs
    emulator.runs[first].statuses = ["FAILED"]
    context["ti"].try_number = 2

    with pytest.raises(TaskDeferred):
        run_operator(deferrable=True).resume_execution(next_method, {"event": {"stale": True}}, context)

    assert len(emulator.requests("start")) == len(emulator.runs) == 2
    assert context["xcom"]["stably_run"]["try_number"] == 2


def test_an_unreadable_event_cancels_and_is_final(emulator, context):
    """An event is checked before it is believed: it crossed a database."""
    with pytest.raises(TaskDeferred):
        run_operator(deferrable=True).execute(context)

    with pytest.raises(AirflowFailException, match="event cannot be read"):
        run_operator().execute_complete(context, {"end": "exploded"})

    assert emulator.live_runs() == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({name: wrong}, f"{name} is a number of seconds")
        for name in ("timeout", "poll_interval")
        for wrong in (0, -1, math.nan, math.inf, "30", True, None)
    ],
)
def test_senseless_arguments_fail_the_dags_parse(arguments, problem):
    """What is not templated is checked when the DAG is parsed."""
    with pytest.raises(ValueError, match=problem):
        run_operator(**arguments)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ("A=1", "is a mapping of names to values, not str"),
        (["A"], "is a mapping of names to values, not list"),
        ({"A": ["hush"]}, "the value of 'A' is list, not text"),
        ({"A": None}, "the value of 'A' is None, not text"),
    ],
)
def test_unusable_env_overrides_fail_the_dags_parse(overrides, problem):
    """What no template can mend is an error before anything runs, and shows no value."""
    with pytest.raises(ValueError, match=f"env_overrides.*{problem}") as caught:
        run_operator(env_overrides=overrides)

    assert "hush" not in str(caught.value)


def test_env_overrides_may_be_templates_or_outputs():
    """A template or a task's output is read when the task runs, as a whole or as a value."""
    with DAG("overrides", schedule=None):
        start = run_operator(task_id="start")
        for number, overrides in enumerate(
            [
                "{{ params.env }}",
                start.output,
                {"A": start.output["run_url"], "B": "{{ ds }}", "C": 1},
                "",
                None,
            ]
        ):
            run_operator(task_id=f"run_{number}", env_overrides=overrides)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"env_overrides": "{'A': 1}"}, "env_overrides is a mapping of .*; one template for all of it needs"),
        ({"playwright_project_name": ["a"]}, "playwright_project_name is neither"),
        ({"branch": {"a": 1}}, "branch is neither"),
        ({"environment": True}, "environment is neither"),
        ({"project_id": "a/b"}, "not a Stably project id"),
    ],
)
def test_bad_arguments_fail_for_good_and_start_nothing(emulator, context, arguments, problem):
    """One clear error, no request, no retry, where a template came to what cannot be sent."""
    operator = run_operator()
    vars(operator).update(arguments)

    with pytest.raises(AirflowFailException, match=problem):
        operator.execute(context)

    assert emulator.requests() == []


@pytest.mark.parametrize(
    ("status", "kind"), [(400, AirflowFailException), (422, AirflowFailException), (429, None)]
)
def test_a_start_is_retried_only_if_the_api_says_so(emulator, context, status, kind):
    """A no for good is not asked again by the task's retries."""
    emulator.inject(Fault(status=status), call="start", times=math.inf)

    with pytest.raises(Exception, match=str(status)) as caught:
        run_operator().execute(context)

    assert isinstance(caught.value, AirflowFailException) is (kind is AirflowFailException)
    assert caught.value.__cause__ is None  # Airflow would log its text a second time
    assert caught.value.__context__ is not caught.value  # a log that follows causes would never end

"""How the run operator leaves no run behind, against the emulator; Airflow's edges are stand-ins."""

import inspect
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, TaskDeferred

from airflow_provider_stably.exceptions import (
    StablyCancelError,
    StablyRunCancelledError,
    StablyRunFailedError,
    StablyUnreachableError,
)
from airflow_provider_stably.operators.stably import LAST_RESORTS, TRIGGER_FAILED, StablyRunTestsOperator
from airflow_provider_stably.own_run import cancel_own_run
from airflow_provider_stably.start_record import START_RECORD_KEY
from airflow_provider_stably.testing import Fault
from airflow_provider_stably.triggers.stably import HAS_ON_KILL
from tests.constants import PROJECT
from tests.interruption import Interrupted, interrupt_when


def _operator(**arguments):
    defaults = {
        "task_id": "run",
        "playwright_project_name": "hangs",
        "poll_interval": 0.02,
        "deferrable": False,
    }
    return StablyRunTestsOperator(**{**defaults, **arguments})


@contextmanager
def _executing(operator, context):
    """Execute an operator in a thread; gives the future of what comes of it."""
    # Without the guard that Airflow wraps it in: that of 2.11 exists in the main thread only.
    execute = inspect.unwrap(type(operator).execute)
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(execute, operator, context)


def _wait_for(condition):
    """Wait, within bounds, until something is so."""
    waiting = threading.Event()
    for _ in range(1000):
        if condition():
            return
        waiting.wait(0.005)
    raise AssertionError("did not come about in 5 s")


class _Store(dict):
    """Stands in for Airflow's task state store."""

    set = dict.__setitem__

    def delete(self, key):
        self.pop(key, None)


@pytest.fixture
def store(context):
    """A task state store, as Airflow 3.3 gives tasks one."""
    context["task_state_store"] = _Store()
    return context["task_state_store"]


def test_a_kill_while_waiting_cancels_with_one_request(emulator, context):
    """on_kill sends one POST and does not wait for what comes of it."""
    operator = _operator()

    with _executing(operator, context) as result:
        _wait_for(lambda: emulator.requests("get"))
        operator.on_kill()
        with pytest.raises(AirflowFailException, match="CANCELLED"):
            result.result()

    assert emulator.live_runs() == []
    assert len(emulator.requests("cancel")) == 1


def test_a_kill_that_cannot_cancel_does_not_raise_and_gives_up_in_time(emulator, context):
    """In a signal handler an error would hide what Airflow has to do next, five seconds before SIGKILL."""
    operator = _operator()
    emulator.inject(Fault(status=500), call="cancel", times=math.inf)

    with _executing(operator, context) as result:
        _wait_for(lambda: emulator.requests("get"))
        began = time.monotonic()
        operator.on_kill()
        took = time.monotonic() - began
        emulator.runs[emulator.live_runs()[0]].statuses = ["PASSED"]

        assert result.result()["status"] == "PASSED"
    assert took < 4


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=503), id="503"),
        pytest.param(Fault(status=429), id="429"),
        pytest.param(Fault(drop=True), id="dropped"),
    ],
)
def test_a_kill_outlasts_a_passing_failure(emulator, context, fault):
    """A request that fails at once is repeated while there is time."""
    operator = _operator()
    emulator.inject(fault, call="cancel", times=2)

    with _executing(operator, context) as result:
        _wait_for(lambda: emulator.requests("get"))
        operator.on_kill()
        live = emulator.live_runs()
        with pytest.raises(AirflowFailException, match="CANCELLED"):
            result.result()

    assert live == []


def test_a_kill_after_a_rotated_key_uses_the_new_one(emulator, context, monkeypatch):
    """on_kill cancels with the key that the looks use by now."""
    operator = _operator()

    with _executing(operator, context) as result:
        _wait_for(lambda: emulator.requests("get"))
        rotated = emulator.connection(login=PROJECT, password="sk-rotated")
        monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", rotated)
        emulator.api_key = "sk-rotated"
        _wait_for(lambda: emulator.requests()[-1].headers["authorization"] == "Bearer sk-rotated")
        operator.on_kill()
        live = emulator.live_runs()
        with pytest.raises(AirflowFailException, match="CANCELLED"):
            result.result()

    assert live == []


@pytest.mark.parametrize("retry_after", ["1", "60"])
def test_no_start_follows_a_kill(emulator, context, retry_after):
    """A start that waits for its next attempt gives up when the task is killed."""
    operator = _operator()
    emulator.inject(Fault(status=429, headers={"Retry-After": retry_after}), call="start")

    with _executing(operator, context) as result:
        _wait_for(lambda: emulator.requests("start"))
        operator.on_kill()
        with pytest.raises(AirflowFailException, match="killed"):
            result.result(timeout=5)

    assert (len(emulator.requests("start")), len(emulator.runs)) == (1, 0)


def test_a_kill_before_execute_is_not_forgotten(emulator, context):
    """Airflow may kill a task while it still renders its templates."""
    operator = _operator()
    operator.on_kill()

    with pytest.raises(AirflowFailException, match="killed"):
        operator.execute(context)

    assert emulator.requests() == []


def test_a_wait_goes_on_past_five_minutes(emulator, context, monkeypatch):
    """With the default arguments the pause grows to the poll interval, which is a whole number."""
    from airflow_provider_stably import conversation, watching

    now = [time.time()]
    monkeypatch.setattr(watching, "SHORTEST_DELAY_SECONDS", 2.0)
    monkeypatch.setattr(conversation.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    supervise = watching.supervision
    monkeypatch.setattr(
        "airflow_provider_stably.execution.run_tests.supervision",
        lambda *args, **kwargs: supervise(*args, **kwargs, now=lambda: now[0]),
    )
    emulator.inject(Fault(body={"status": "RUNNING"}), call="get", times=60)
    emulator.inject(Fault(body={"status": "PASSED"}), call="get")
    began = now[0]

    operator = StablyRunTestsOperator(task_id="run", deferrable=False)

    assert operator.execute(context)["status"] == "PASSED"
    assert now[0] - began > 600


def test_a_kill_before_anything_was_started_does_nothing(emulator):
    """on_kill works on an operator that never executed."""
    _operator().on_kill()

    assert emulator.requests() == []


def test_a_kill_during_the_start_cancels_as_soon_as_the_id_is_known(emulator, context):
    """The answer to the start is still waited for; then the run is cancelled and the task fails."""
    operator = _operator()
    emulator.inject(Fault(delay=0.3), call="start")

    with _executing(operator, context) as result:
        _wait_for(lambda: emulator.requests("start"))
        operator.on_kill()
        with pytest.raises(AirflowFailException, match="killed"):
            result.result()

    assert len(emulator.runs) == 1
    assert emulator.live_runs() == []


def test_an_interruption_during_the_start_does_not_lose_the_run(emulator, context):
    """An execution_timeout in the middle of the start cancels what came of it."""
    emulator.inject(Fault(delay=0.4), call="start")

    with interrupt_when(lambda: emulator.requests("start")), pytest.raises(Interrupted):
        _operator().execute(context)

    assert len(emulator.runs) == 1
    assert emulator.live_runs() == []


def test_an_interruption_during_the_start_leaves_no_riddle_to_the_next_try(emulator, context, store):
    """The run is known and cancelled, so the next try simply starts another."""
    emulator.inject(Fault(delay=0.4), call="start")

    with interrupt_when(lambda: emulator.requests("start")), pytest.raises(Interrupted):
        _operator().execute(context)

    assert (emulator.live_runs(), store) == ([], {})


def test_an_interruption_of_a_start_that_fails_is_still_the_interruption(emulator, context):
    """What went wrong with the start is logged, and does not replace the reason for the task's end."""
    emulator.inject(Fault(delay=1, drop=True), call="start")

    with interrupt_when(lambda: emulator.requests("start")), pytest.raises(Interrupted):
        _operator().execute(context)

    assert len(emulator.requests("start")) == 1


def test_an_interruption_while_waiting_cancels(emulator, context):
    """At the execution_timeout the run is cancelled before the error goes on."""
    with interrupt_when(lambda: emulator.requests("get")), pytest.raises(Interrupted):
        _operator().execute(context)

    assert len(emulator.runs) == 1
    assert emulator.live_runs() == []


def test_a_run_that_cannot_be_made_known_is_cancelled(emulator, context):
    """If pushing to XCom fails, nobody could find the run."""
    context["ti"].xcom_push.side_effect = RuntimeError("no XCom today")

    for arguments in ({}, {"wait_for_completion": False}, {"deferrable": True}):
        with pytest.raises(RuntimeError, match="no XCom today"):
            _operator(**arguments).execute(context)

    assert len(emulator.runs) == 3
    assert emulator.live_runs() == []


def test_deferring_leaves_the_run_to_the_trigger(emulator, context):
    """The run goes on, and the trigger gets what it needs, in plain JSON, without a secret."""
    import json

    with pytest.raises(TaskDeferred) as deferred:
        _operator(deferrable=True, timeout=100).execute(context)

    path, kwargs = deferred.value.trigger.serialize()
    [run_id] = emulator.live_runs()
    assert path == "airflow_provider_stably.triggers.stably.StablyRunTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert (kwargs["run_id"], kwargs["project_id"], kwargs["poll_interval"]) == (run_id, PROJECT, 0.02)
    assert kwargs["deadline"] - kwargs["started_at"] == 100
    assert deferred.value.timeout.total_seconds() == pytest.approx(400, abs=5)


def test_without_cancel_on_kill_runs_are_left_alone(emulator, context):
    """cancel_on_kill=False only watches, whatever ends the watching."""
    operator = _operator(cancel_on_kill=False)

    with interrupt_when(lambda: emulator.requests("get")), pytest.raises(Interrupted):
        operator.execute(context)
    with pytest.raises(Exception, match="left alone"):
        _operator(cancel_on_kill=False, timeout=0.05).execute(context)
    operator.on_kill()
    with pytest.raises(Exception, match="boom"):
        operator.resume_execution(TRIGGER_FAILED, {"error": "boom"}, context)

    assert len(emulator.live_runs()) == 2
    assert not operator.on_failure_callback


@pytest.mark.parametrize(
    "next_kwargs", [{"error": "Trigger timeout"}, {"error": "Trigger failure"}, None], ids=repr
)
def test_a_lost_trigger_cancels_the_run_that_xcom_names(emulator, context, next_kwargs):
    """After a deferral timeout or a crash of the trigger nobody watches any more."""
    operator = _operator(deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(context)

    with pytest.raises(Exception, match=r"Trigger|Unknown"):
        _operator(deferrable=True).resume_execution(TRIGGER_FAILED, next_kwargs, context)

    assert emulator.live_runs() == []


@pytest.mark.parametrize("next_method", ["execute_complete", TRIGGER_FAILED])
def test_a_retry_that_is_resumed_starts_anew(emulator, context, next_method):
    """Airflow 3.0 gives a retry the event of the try before; it is not taken for that of its own run."""
    with pytest.raises(TaskDeferred):
        _operator(deferrable=True).execute(context)
    [first] = emulator.runs
    emulator.runs[first].statuses = ["FAILED"]
    context["ti"].try_number = 2

    with pytest.raises(TaskDeferred):
        _operator(deferrable=True).resume_execution(next_method, {"event": {"stale": True}}, context)

    assert len(emulator.requests("start")) == len(emulator.runs) == 2
    assert context["xcom"]["stably_run"]["try_number"] == 2


def test_an_event_that_cannot_be_read_cancels_and_fails_for_good(emulator, context):
    """An event is checked before it is believed: it crossed a database."""
    with pytest.raises(TaskDeferred):
        _operator(deferrable=True).execute(context)

    with pytest.raises(AirflowFailException, match="event cannot be read"):
        _operator().execute_complete(context, {"end": "exploded"})

    assert emulator.live_runs() == []


def _started(emulator, context, *, try_number=1):
    """Note a live run in XCom, as a try of the task ``run`` did."""
    run_id = emulator.add_run(project_id=PROJECT)
    context["xcom"]["stably_run"] = {
        "run_id": run_id,
        "project_id": PROJECT,
        "try_number": try_number,
        "stably_conn_id": "stably_default",
    }
    return run_id


def test_the_failure_callback_cancels_once(emulator, context):
    """Called twice, as Airflow does after losing a worker, it cancels once and never raises."""
    _started(emulator, context)

    cancel_own_run(context)
    cancel_own_run(context)

    assert emulator.live_runs() == []
    assert len(emulator.requests("cancel")) == 2


def test_the_callback_leaves_another_tries_run_alone(emulator, context):
    """A callback that is delivered after the new try has started does not cancel its run."""
    run_id = _started(emulator, context, try_number=2)

    cancel_own_run(context)

    assert emulator.live_runs() == [run_id]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", [StablyRunFailedError, StablyRunCancelledError])
def test_the_callback_makes_no_request_if_the_task_saw_the_end(emulator, context, kind, wrapped):
    """A run that ended needs no cancelling."""
    _started(emulator, context)
    error = kind("over", run={})
    if wrapped:
        outer = AirflowFailException("over")
        outer.__cause__ = error
        error = outer

    cancel_own_run({**context, "exception": error})

    assert emulator.requests() == []


@pytest.mark.parametrize("xcom", [None, "junk", {"run_id": "a/b"}], ids=repr)
def test_the_callback_never_raises(emulator, context, xcom):
    """No XCom, or one that is not ours, is nothing to cancel."""
    context["xcom"]["stably_run"] = xcom

    cancel_own_run(context)

    assert emulator.requests() == []


def test_the_callback_gives_up_on_a_dead_api(emulator, context):
    """An API that answers 500 to everything does not keep a callback from returning."""
    _started(emulator, context)
    emulator.inject(Fault(status=500), times=math.inf)

    cancel_own_run(context)

    assert len(emulator.requests()) <= 10


def test_the_callback_leaves_alone_what_is_to_be_left_alone(emulator, context):
    """cancel_on_kill=False holds wherever it was said: mapped, or in default_args."""
    run_id = _started(emulator, context)
    context["xcom"]["stably_run"]["cancel_on_kill"] = False

    cancel_own_run(context)

    assert emulator.live_runs() == [run_id]


def _mine(context):
    """A user's own callback."""


def test_a_retry_callback_is_there_where_a_retry_cannot_take_a_run_up():
    """Airflow 3.3 brought the task state store and the triggers' on_kill together."""
    assert ("on_retry_callback" in LAST_RESORTS) is not HAS_ON_KILL


@pytest.mark.parametrize("name", LAST_RESORTS)
@pytest.mark.parametrize(
    "given", [None, _mine, [_mine], [_mine, cancel_own_run]], ids=["none", "one", "list", "ours"]
)
def test_the_callback_stands_beside_the_users_own(name, given):
    """Plain and mapped, from arguments and from default_args, theirs stay and ours comes once."""
    expected = [cancel_own_run] if given is None else [_mine, cancel_own_run]
    arguments = {} if given is None else {name: given}

    with DAG("direct"):
        plain = _operator(**arguments)
        mapped = StablyRunTestsOperator.partial(task_id="mapped", **arguments).expand(branch=["a", "b"])
    with DAG("by_default", default_args=arguments):
        plain_by_default = _operator()
        mapped_by_default = StablyRunTestsOperator.partial(task_id="mapped").expand(branch=["a", "b"])

    for task in (plain, mapped, plain_by_default, mapped_by_default):
        assert list(getattr(task, name)) == expected


def test_a_mapped_task_that_leaves_runs_alone_gets_no_callback():
    """cancel_on_kill=False holds for mapped tasks too."""
    with DAG("dag"):
        mapped = StablyRunTestsOperator.partial(task_id="m", cancel_on_kill=False).expand(branch=["a"])

    assert not mapped.on_failure_callback


def _noted(emulator, store, **changes):
    """Note a live run in the store, as a try that was lost did."""
    run_id = emulator.add_run(project_id=PROJECT, **changes.pop("run", {}))
    noted = {"run_id": run_id, "project_id": PROJECT, "stably_conn_id": "stably_default", "started_at": 1.0}
    store[START_RECORD_KEY] = {**noted, "max_tries": 0, "clear_number": 0, **changes}
    return run_id


def test_a_start_is_noted_before_it_is_made_and_forgotten_when_the_run_is_over(emulator, context, store):
    """Whenever the worker is lost, the store tells what may be going on."""
    seen = []
    respond = emulator.respond

    def watching(request):
        seen.append((request.call, dict(store.get(START_RECORD_KEY) or {}).get("run_id", "starting")))
        return respond(request)

    emulator.respond = watching
    emulator.run_seconds = 0.1

    _operator(playwright_project_name="passes").execute(context)

    [run_id] = emulator.runs
    assert seen[0] == ("start", "starting")
    assert {noted for call, noted in seen if call == "get"} == {run_id}
    assert store == {}


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_retry_takes_up_the_run_that_goes_on(emulator, context, store, deferrable):
    """After a lost worker the next try watches the run of the last; no second one is started."""
    run_id = _noted(emulator, store, run={"statuses": ["RUNNING", "RUNNING", "PASSED"]}, started_at=4e9)

    if deferrable:
        with pytest.raises(TaskDeferred) as deferred:
            _operator(deferrable=True).execute(context)
        assert deferred.value.trigger.run_id == run_id
        assert deferred.value.trigger.started_at == 4e9
    else:
        assert _operator().execute(context)["run_id"] == run_id
        assert store == {}

    assert context["xcom"]["stably_run"]["run_id"] == run_id
    assert emulator.requests("start") == []


@pytest.mark.parametrize("status", ["PASSED", "FAILED", "CANCELLED"])
def test_a_finished_run_is_never_reused(emulator, context, store, status):
    """The retry of a lost worker whose run is over starts a new one."""
    _noted(emulator, store, run={"statuses": [status]})
    emulator.run_seconds = 0.05

    _operator(playwright_project_name="passes").execute(context)

    assert len(emulator.requests("start")) == 1


@pytest.mark.parametrize(
    "changed", [{"max_tries": 7}, {"clear_number": 7}], ids=["max_tries", "clear_number"]
)
def test_a_users_clear_cancels_the_old_run_before_it_starts_another(emulator, context, store, changed):
    """Never two runs of one task at once."""
    run_id = _noted(emulator, store, **changed)
    emulator.run_seconds = 0.05

    _operator(playwright_project_name="passes").execute(context)

    calls = [request.call for request in emulator.requests()]
    assert emulator.status(run_id) == "CANCELLED"
    assert calls[:2] == ["cancel", "start"]


def test_no_run_is_started_beside_one_that_may_be_live(emulator, context, store):
    """If the old run cannot be shown to be over the task fails, retryably, and remembers it."""
    cleared = _noted(emulator, store, max_tries=7)
    emulator.inject(Fault(status=500), run_id=cleared, times=math.inf)
    with pytest.raises(StablyCancelError, match="no other is started beside it"):
        _operator().execute(context)

    retried = _noted(emulator, store)
    emulator.inject(Fault(drop=True), run_id=retried, times=math.inf)
    with pytest.raises(StablyUnreachableError):
        _operator().execute(context)

    assert emulator.requests("start") == []
    assert store[START_RECORD_KEY]["run_id"] == retried


def test_a_run_that_is_gone_does_not_block_the_task(emulator, context, store):
    """A run that its project no longer has is not waited for."""
    emulator.run_seconds = 0.05
    for changed in ({}, {"max_tries": 7}):
        del emulator.runs[_noted(emulator, store, **changed)]

        assert _operator(playwright_project_name="passes").execute(context)["status"] == "PASSED"


def test_a_single_404_does_not_start_a_second_run(emulator, context, store):
    """A run that an earlier try left is looked for twice before another is started."""
    run_id = _noted(emulator, store, run={"statuses": ["RUNNING", "PASSED"]}, started_at=4e9)
    emulator.inject(Fault(status=404), run_id=run_id)

    assert _operator().execute(context)["run_id"] == run_id
    assert emulator.requests("start") == []


def test_a_run_of_another_connection_is_cancelled_there(emulator, context, store, monkeypatch):
    """If the task's connection was changed meanwhile, the old run is cancelled with its own."""
    monkeypatch.setenv("AIRFLOW_CONN_BEFORE", emulator.connection())
    run_id = _noted(emulator, store, stably_conn_id="before")
    emulator.run_seconds = 0.05

    _operator(playwright_project_name="passes").execute(context)

    assert emulator.status(run_id) == "CANCELLED"


def test_a_store_that_fails_does_not_turn_a_passed_run_red(emulator, context, store, monkeypatch):
    """Tidying up is best effort."""
    emulator.run_seconds = 0.05
    monkeypatch.setattr(_Store, "delete", None)

    assert _operator(playwright_project_name="passes").execute(context)["status"] == "PASSED"


def test_a_start_of_which_nothing_is_known_fails_once_for_good(emulator, context, store):
    """The user is told that an untracked run may exist; who clears the task then gets a new run."""
    store[START_RECORD_KEY] = {"started_at": 1.0, "max_tries": 0, "clear_number": 0}
    emulator.run_seconds = 0.05

    with pytest.raises(AirflowFailException, match="an untracked run may exist"):
        _operator().execute(context)
    assert emulator.requests() == []

    assert _operator(playwright_project_name="passes").execute(context)["status"] == "PASSED"


def test_a_start_that_failed_leaves_no_note(emulator, context, store):
    """A refused start, or one reported as ambiguous, does not block the next try."""
    for fault in (Fault(status=400), Fault(drop=True)):
        emulator.inject(fault, call="start")
        with pytest.raises(AirflowFailException):
            _operator().execute(context)

        assert store == {}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({name: wrong}, f"{name} is a number of seconds")
        for name in ("timeout", "poll_interval")
        for wrong in (0, -1, math.nan, math.inf, "30", True, None)
    ],
)
def test_arguments_that_make_no_sense_fail_the_dags_parse(arguments, problem):
    """What is not templated is checked when the DAG is parsed."""
    with pytest.raises(ValueError, match=problem):
        _operator(**arguments)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"env_overrides": {"A": [1]}}, "env_overrides: 'A'"),
        ({"project_id": "a/b"}, "not a Stably project id"),
        ({"stably_conn_id": "nope"}, "'nope'"),
    ],
)
def test_bad_arguments_fail_for_good_and_start_nothing(emulator, context, arguments, problem):
    """One clear error, no request, no retry."""
    with pytest.raises(AirflowFailException, match=problem):
        _operator(**arguments).execute(context)

    assert emulator.requests() == []


@pytest.mark.parametrize(
    ("status", "kind"), [(400, AirflowFailException), (422, AirflowFailException), (429, None)]
)
def test_a_refused_start_is_retried_only_if_the_api_said_later(emulator, context, status, kind):
    """A no for good is not asked again by the task's retries."""
    emulator.inject(Fault(status=status), call="start", times=math.inf)

    with pytest.raises(Exception, match=str(status)) as caught:
        _operator().execute(context)

    assert isinstance(caught.value, AirflowFailException) is (kind is AirflowFailException)

"""The run operator is killed: its run is cancelled, in time and with as few requests as can be."""

import math
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_stably.execution import run_tests
from airflow_provider_stably.runs import watch
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.operators.run_operator import ENDS_KILLED, executing, run_operator
from tests.waiting import wait_until


def test_a_kill_while_waiting_cancels_with_one_request(emulator, context):
    """on_kill sends one POST; the task may be retried, for a worker that shuts down kills it, too."""
    operator = run_operator()

    with executing(operator, context) as result:
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

    with executing(operator, context) as result:
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

    with executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        operator.on_kill()
        live = emulator.live_runs()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert live == []


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404])
def test_a_kill_in_a_poll_outlasts_a_wrong_answer(emulator, context, status):
    """While a poll hangs nobody else cancels, and on a bad day a refusal, a 404 or a proxy's 400 passes."""
    operator = run_operator()

    with executing(operator, context) as result:
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
    """A 400 of its own is what the API says of one; the task settles it when it goes on."""
    operator = run_operator()

    with executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        emulator.inject(Fault(status=400, body={"error": "?"}), call="cancel")
        operator.on_kill()
        requests = len(emulator.requests("cancel"))
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert requests <= 2  # the second is the task's own


@pytest.mark.parametrize("gives_up_already", [False, True], ids=["while waiting", "while giving up"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_kill_outlasts_a_long_retry_after(emulator, context, status, gives_up_already):
    """The API is back before the SIGKILL, five seconds later, but had asked to wait for half a minute."""
    operator = run_operator()
    for call in ("get", "cancel"):
        emulator.inject(Fault(status=status, headers={"Retry-After": "30"}), call=call, times=math.inf)
    if gives_up_already:
        context["ti"].xcom_push.side_effect = RuntimeError("the database is gone")

    with executing(operator, context) as result:
        wait_until(lambda: emulator.requests("cancel" if gives_up_already else "get"))
        operator.on_kill()
        asked = len(emulator.requests("cancel"))
        wait_until(lambda: len(emulator.requests("cancel")) > asked)
        emulator.heal()
        with pytest.raises((*ENDS_KILLED, RuntimeError)):
            result.result(timeout=3)

    assert emulator.live_runs() == []


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

    with executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        operator.on_kill()
        operator.on_kill()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert len(emulator.requests("cancel")) == 1


def test_a_kill_after_a_rotated_key_uses_the_new_one(emulator, context, monkeypatch):
    """on_kill cancels with the key that the polls use by now."""
    operator = run_operator()

    with executing(operator, context) as result:
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


def test_a_kill_before_a_rotated_key_is_noticed(emulator, context, monkeypatch):
    """No poll may have met the new key yet; when the task goes on, it cancels with that one."""
    monkeypatch.setattr(watch, "SHORTEST_DELAY_SECONDS", 60.0)
    operator = run_operator(poll_interval=60)

    with executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        rotated = emulator.connection(login=PROJECT, password="sk-rotated")
        monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", rotated)
        emulator.api_key = "sk-rotated"
        operator.on_kill()
        with pytest.raises(AirflowException):
            result.result()

    assert emulator.live_runs() == []


@pytest.mark.parametrize("retry_after", ["1", "60"])
def test_no_start_follows_a_kill(emulator, context, retry_after):
    """A start that waits for its next attempt gives up when the task is killed."""
    operator = run_operator()
    emulator.inject(Fault(status=429, headers={"Retry-After": retry_after}), call="start")

    with executing(operator, context) as result:
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

    with executing(operator, context) as result:
        wait_until(lambda: emulator.requests("start"))
        operator.on_kill()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert len(emulator.runs) == 1
    assert emulator.live_runs() == []


def test_a_kill_during_the_start_cancels_before_airflow_is_told(emulator, context):
    """Airflow may take seconds to store a run's id, and Airflow 3 ends the process 5 s after a kill."""
    operator, pushed_before, respond = run_operator(), [], emulator.respond
    emulator.inject(Fault(delay=0.3), call="start")

    def note(request):
        if request.call == "cancel":
            pushed_before.append(dict(context["xcom"]))
        return respond(request)

    emulator.respond = note
    with executing(operator, context) as result:
        wait_until(lambda: emulator.requests("start"))
        operator.on_kill()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert pushed_before == [{}]
    assert emulator.live_runs() == []


def test_a_kill_during_the_deferral_ends_the_task(emulator, context, monkeypatch):
    """Deferred, it would find its run cancelled, and take that for somebody's purpose."""
    operator, wait = run_operator(deferrable=True), run_tests.wait_in_triggerer

    def kill_and_wait(*arguments, **options):
        operator.on_kill()
        wait(*arguments, **options)

    monkeypatch.setattr(run_tests, "wait_in_triggerer", kill_and_wait)

    with pytest.raises(AirflowException, match="killed"):
        operator.execute(context)

    assert len(emulator.runs) == 1
    assert emulator.live_runs() == []

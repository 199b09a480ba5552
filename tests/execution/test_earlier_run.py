"""What the run operator makes of a start that an earlier try recorded in the task state store."""

import math
from threading import Timer

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    TaskDeferred,
)

from airflow_provider_stably.exceptions import (
    StablyCancelError,
    StablyError,
    StablyRunCancelledError,
    StablyRunTimeoutError,
)
from airflow_provider_stably.runs import belief
from airflow_provider_stably.tasks.start_record import START_RECORD_KEY
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.execution.noted import noted
from tests.interruption import Interrupted, interrupt_when
from tests.operators.run_operator import run_operator


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_retry_resumes_a_live_run(emulator, context, store, deferrable):
    """After a lost worker the next try watches the run of the last; no second one is started."""
    run_id = noted(emulator, store, run={"statuses": ["RUNNING", "RUNNING", "PASSED"]}, started_at=4e9)

    if deferrable:
        with pytest.raises(TaskDeferred) as deferred:
            run_operator(deferrable=True).execute(context)
        assert deferred.value.trigger.run_id == run_id
        assert deferred.value.trigger.started_at == 4e9
    else:
        assert run_operator().execute(context)["run_id"] == run_id
        assert store == {}

    assert context["xcom"]["stably_run"]["run_id"] == run_id
    assert emulator.requests("start") == []


@pytest.mark.parametrize("status", ["PASSED", "FAILED", "CANCELLED"])
def test_a_finished_run_is_never_reused(emulator, context, store, status):
    """The retry of a lost worker whose run is over starts a new one."""
    noted(emulator, store, run={"statuses": [status]})
    emulator.run_seconds = 0.05

    run_operator(playwright_project_name="passes").execute(context)

    assert len(emulator.requests("start")) == 1


@pytest.mark.parametrize(
    "changed", [{"max_tries": 7}, {"clear_number": 7}], ids=["max_tries", "clear_number"]
)
def test_a_clear_cancels_the_old_run_before_a_new_one(emulator, context, store, changed):
    """Never two runs of one task at once."""
    run_id = noted(emulator, store, **changed)
    emulator.run_seconds = 0.05

    run_operator(playwright_project_name="passes").execute(context)

    calls = [request.call for request in emulator.requests()]
    assert emulator.status(run_id) == "CANCELLED"
    assert calls[:2] == ["cancel", "start"]


@pytest.mark.parametrize("status", [403, 404, 409, 429])
def test_a_run_that_was_not_found_is_remembered_until_a_start_is_accepted(emulator, context, store, status):
    """The API has a bad day: its 404 said nothing of the run, so the next try looks for it again."""
    cleared = noted(emulator, store, clear_number=7)
    for call in ("cancel", "get"):
        emulator.inject(Fault(status=404, body={"error": "?"}), call=call, times=math.inf)
    emulator.inject(Fault(status=status, body={"error": "?"}), call="start", times=math.inf)
    with pytest.raises(StablyError):
        run_operator().execute(context)
    emulator.heal()
    context["xcom"].clear()
    context["ti"].try_number = 2

    run_operator(wait_for_completion=False).execute(context)

    assert emulator.status(cleared) == "CANCELLED"
    assert len(emulator.live_runs()) == 1


def test_a_clear_outlasts_a_rotated_key(emulator, context, store, monkeypatch):
    """The connection is looked up again while the old one is refused, and the start has the new key, too."""
    monkeypatch.setattr(belief, "MISSING_SECONDS", 10.0)
    cleared = noted(emulator, store, max_tries=7)

    def rotate():
        emulator.api_key = "sk-rotated"
        rotated = emulator.connection(login=PROJECT)
        Timer(0.3, monkeypatch.setenv, ["AIRFLOW_CONN_STABLY_DEFAULT", rotated]).start()

    rotate()
    run_operator(wait_for_completion=False).execute(context)

    assert emulator.status(cleared) == "CANCELLED"
    assert len(emulator.live_runs()) == 1


def test_no_run_is_started_beside_one_that_may_be_live(emulator, context, store):
    """If the old run cannot be shown to be over the task fails, retryably, and remembers it."""
    cleared = noted(emulator, store, max_tries=7)
    emulator.inject(Fault(status=500), run_id=cleared, times=math.inf)

    with pytest.raises(StablyCancelError, match="no other is started beside it"):
        run_operator().execute(context)

    assert emulator.requests("start") == []
    assert (store[START_RECORD_KEY]["run_id"], store[START_RECORD_KEY]["max_tries"]) == (cleared, 7)
    assert context["xcom"]["stably_run"]["run_id"] == cleared  # for callbacks and teardowns


@pytest.mark.parametrize(
    "fault", [Fault(status=503), Fault(status=400), Fault(body="<html>"), Fault(drop=True)], ids=repr
)
def test_a_run_that_cannot_be_read_is_watched(emulator, context, store, fault):
    """Polls that fail are as harmless to a run that was resumed as to any other."""
    run_id = noted(emulator, store, run={"statuses": ["RUNNING", "PASSED"]}, started_at=4e9)
    emulator.inject(fault, call="get", times=7)

    assert run_operator().execute(context)["run_id"] == run_id
    assert emulator.requests("start") == []


def test_a_resumed_run_is_cancelled_at_the_deadline(emulator, context, store):
    """The deadline counts from the start, whoever made it; the record keeps that time."""
    run_id = noted(emulator, store)
    emulator.inject(Fault(drop=True), run_id=run_id, times=math.inf)

    with pytest.raises(StablyRunTimeoutError, match="may still be running"):
        run_operator().execute(context)

    assert store[START_RECORD_KEY]["run_id"] == run_id
    assert store[START_RECORD_KEY]["started_at"] == 1.0


@pytest.mark.parametrize("changed", [{}, {"max_tries": 7}], ids=["retried", "cleared"])
def test_an_interruption_of_a_resume_cancels_the_run(emulator, context, store, changed):
    """From its first moment on a try answers for the run that it was left."""
    run_id = noted(emulator, store, **changed)
    emulator.inject(Fault(delay=0.3), call="get" if not changed else "cancel")

    with (
        interrupt_when(lambda: emulator.requests(run_id=run_id)),
        pytest.raises(Interrupted),
    ):
        run_operator().execute(context)

    assert emulator.live_runs() == []
    assert emulator.requests("start") == []


def test_clearing_a_task_that_did_not_wait_cancels(emulator, context, store):
    """Nobody else knows of the first run once Airflow has cleared the XCom."""
    operator = run_operator(wait_for_completion=False)
    operator.execute(context)
    [first] = emulator.runs
    context["ti"].max_tries = 7

    operator.execute(context)

    assert emulator.status(first) == "CANCELLED"
    assert len(emulator.live_runs()) == 1


def test_a_run_that_is_gone_does_not_block_a_clear(emulator, context, store):
    """When a user clears the task, a run that stays not found is taken for gone."""
    emulator.run_seconds = 0.05
    del emulator.runs[noted(emulator, store, max_tries=7)]

    assert run_operator(playwright_project_name="passes").execute(context)["status"] == "PASSED"


def test_no_run_is_started_beside_one_just_seen(emulator, context, store):
    """A 404 after a live status has not lasted, so it unlocks no clear."""
    run_id = noted(emulator, store, max_tries=7)
    emulator.inject(Fault(body={"cancelled": []}), call="cancel", times=math.inf)
    emulator.inject(Fault(body={"status": "RUNNING"}), call="get", times=2)
    emulator.inject(Fault(status=404, body={"error": "?"}), call="get", times=math.inf)

    with pytest.raises(StablyCancelError, match="no other is"):
        run_operator().execute(context)

    assert emulator.requests("start") == []
    assert store[START_RECORD_KEY]["run_id"] == run_id


def test_a_404_in_a_long_outage_unlocks_no_clear(emulator, context, store):
    """What was not found once, after minutes in which nothing was answered, may be live."""
    run_id = noted(emulator, store, max_tries=7)
    emulator.inject(Fault(status=503, delay=0.1), call="cancel", times=math.inf)
    emulator.inject(Fault(status=404, body={"error": "?"}), call="get")

    with pytest.raises(StablyCancelError, match="no other is"):
        run_operator().execute(context)

    assert emulator.requests("start") == []
    assert store[START_RECORD_KEY]["run_id"] == run_id


def test_a_retry_starts_no_run_on_a_404(emulator, context, store):
    """A retry watches the run of the try before, and ends when that stays not found."""
    del emulator.runs[noted(emulator, store, started_at=4e9)]

    with pytest.raises(AirflowFailException, match="not found"):
        run_operator().execute(context)

    assert emulator.requests("start") == []


def test_a_clear_after_a_long_404_looks_for_the_run_again(emulator, context, store):
    """The API was wrong for as long as that is believed: the run goes on, and no other starts beside it."""
    for call in ("cancel", "get"):
        emulator.inject(Fault(status=404, body={"error": "?"}), call=call, times=math.inf)
    with pytest.raises(AirflowFailException, match="not found"):
        run_operator().execute(context)
    emulator.heal()
    emulator.run_seconds = 0.05
    [lost] = emulator.live_runs()
    context["ti"].max_tries = 7

    run_operator(playwright_project_name="passes").execute(context)

    assert emulator.status(lost) == "CANCELLED"


def test_a_late_404_does_not_start_a_second_run(emulator, context, store):
    """A run that an earlier try left may be not found for a while."""
    run_id = noted(emulator, store, run={"statuses": ["RUNNING", "PASSED"]}, started_at=4e9)
    emulator.inject(Fault(status=404), run_id=run_id, times=3)

    assert run_operator().execute(context)["run_id"] == run_id
    assert emulator.requests("start") == []


def test_a_cancelled_run_of_an_earlier_try_is_retried(emulator, context, store):
    """A late on_kill of the try before may have cancelled it, so nobody meant to."""
    noted(emulator, store, run={"statuses": ["RUNNING", "CANCELLED"]}, started_at=4e9, try_number=1)
    context["ti"].try_number = 2

    with pytest.raises(StablyRunCancelledError):
        run_operator().execute(context)


@pytest.mark.parametrize("changed", [{}, {"max_tries": 7}], ids=["retried", "cleared"])
def test_an_earlier_trys_run_is_not_passed_off_as_new(emulator, context, store, changed):
    """If no run comes of this try, a task behind it does not take an old one for its own."""
    noted(emulator, store, run={"statuses": ["PASSED"]}, **changed)
    emulator.inject(Fault(status=400, body={"error": "?"}), call="start")

    with pytest.raises(AirflowFailException):
        run_operator().execute(context)

    assert {"run_id", "run_url"}.isdisjoint(context["xcom"])


def test_a_clear_that_leaves_runs_alone_names_none(emulator, context, store):
    """A teardown is not to cancel what cancel_on_kill=False let go."""
    noted(emulator, store, max_tries=7)
    emulator.inject(Fault(status=400, body={"error": "?"}), call="start")

    with pytest.raises(AirflowFailException):
        run_operator(cancel_on_kill=False).execute(context)

    assert context["xcom"] == {}
    assert len(emulator.live_runs()) == 1

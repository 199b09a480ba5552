"""The rule that watches a run: decisions only, no I/O, no clock but a made-up one."""

import asyncio

import pytest

from airflow_provider_stably.api.models import Run
from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyHTTPError,
    StablyNotFoundError,
    StablyUnreachableError,
)
from airflow_provider_stably.operators.stably import StablyRunTestsOperator
from airflow_provider_stably.runs import watch
from airflow_provider_stably.runs.belief import Belief
from airflow_provider_stably.runs.cancel import CancelOutcome
from airflow_provider_stably.runs.driver import BlockingDriver, run_blocking
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.watch import (
    is_queued_too_long,
    next_delay,
    pause,
    poll_once,
    settle,
)
from airflow_provider_stably.runs.watch_result import WatchEnd
from airflow_provider_stably.testing import Fault
from tests.runs.scripted import ScriptedDriver

REFERENCE = RunReference("r1", "p1")
LOST = StablyUnreachableError("dropped", request_sent=True)
GONE = StablyNotFoundError("404", status=404, detail="", is_from_api=True)
REFUSED = StablyAuthError("401", status=401, detail="")
BUSY = StablyHTTPError("429", status=429, detail="", retry_after=45.0)
BAD_REQUEST = StablyHTTPError("400", status=400, detail="")


def _run(status, **fields):
    return Run.from_json("r1", {"status": status, **fields})


def _watch(replies, *, deadline=1e9, poll_interval=30.0, cancel=True, queue_deadline=None):
    """Watch a run that gets these replies; return the driver and the result."""
    driver = ScriptedDriver(replies, now=1000.0)

    async def watch_and_settle():
        result = await watch.watch(
            REFERENCE,
            driver,
            Belief(key_has_worked=True),
            started_at=1000.0,
            deadline=1000.0 + deadline,
            poll_interval=poll_interval,
            queue_deadline=queue_deadline,
        )
        return await settle(REFERENCE, driver, result) if cancel else result

    return driver, driver.run(watch_and_settle())


@pytest.mark.parametrize(
    ("replies", "end", "status"),
    [
        pytest.param([_run("PASSED")], WatchEnd.FINISHED, "PASSED", id="over at the first look"),
        pytest.param(
            [_run("QUEUED"), _run("RUNNING"), _run("FAILED")], WatchEnd.FINISHED, "FAILED", id="in the end"
        ),
        pytest.param(
            [_run("PAUSED"), _run("PASSED")], WatchEnd.FINISHED, "PASSED", id="unknown status, then over"
        ),
        pytest.param(
            [_run("MELTED", finishedAt="2026-11-22T12:00:00Z")],
            WatchEnd.FINISHED,
            "MELTED",
            id="unknown and over",
        ),
        pytest.param(
            [LOST] * 50 + [_run("PASSED")], WatchEnd.FINISHED, "PASSED", id="fifty failures, then over"
        ),
        pytest.param(
            [GONE, _run("RUNNING"), GONE, _run("PASSED")], WatchEnd.FINISHED, "PASSED", id="404 not confirmed"
        ),
        pytest.param(
            [GONE, LOST, GONE, LOST, _run("PASSED")], WatchEnd.FINISHED, "PASSED", id="404 and failures"
        ),
        pytest.param([REFUSED, _run("PASSED")], WatchEnd.FINISHED, "PASSED", id="key rotated"),
        pytest.param(
            [REFUSED, LOST, REFUSED, _run("PASSED")], WatchEnd.FINISHED, "PASSED", id="401, failure, 401"
        ),
    ],
)
def test_passing_trouble_does_not_end_the_watching(replies, end, status):
    """Whatever happens on the way, the run is watched to its end."""
    _, result = _watch(replies)

    assert (result.end, result.run.status, result.cancellation) == (end, status, None)


@pytest.mark.parametrize(
    ("error", "end", "seconds"), [(GONE, WatchEnd.NOT_FOUND, 120), (REFUSED, WatchEnd.DENIED, 900)]
)
def test_what_lasts_ends_it_and_cancels(error, end, seconds):
    """A 404 or a refusal that has lasted is believed; the run is cancelled as far as possible."""
    driver = ScriptedDriver([_run("RUNNING"), *[error] * 500], now=1000.0)
    rule = watch.watch(
        REFERENCE,
        driver,
        Belief(key_has_worked=True),
        started_at=1000.0,
        deadline=1e9,
        poll_interval=30.0,
    )

    result = asyncio.run(rule)

    assert (result.end, result.run.status) == (end, "RUNNING")
    assert seconds <= driver.time - 1000.0 < seconds + 70


def test_an_outage_of_refusals_ends_in_the_runs_result():
    """Forty seconds of 403s do not cost a run."""
    driver, result = _watch([_run("RUNNING"), *[REFUSED] * 30, _run("PASSED")])

    assert (result.end, result.run.status, result.cancellation) == (WatchEnd.FINISHED, "PASSED", None)
    assert sum(driver.sleeps) > 40


def test_a_new_run_may_be_not_found_at_first():
    """The first polls of a run may say 404."""
    _, result = _watch([GONE, GONE, GONE, _run("RUNNING"), _run("PASSED")])

    assert (result.end, result.run.status) == (WatchEnd.FINISHED, "PASSED")


def test_a_doubt_is_polled_at_least_once_a_minute():
    """A poll interval of an hour does not let two polls decide."""
    driver = ScriptedDriver([REFUSED] * 500, now=1e6)
    rule = watch.watch(
        REFERENCE,
        driver,
        Belief(key_has_worked=True),
        started_at=0.0,
        deadline=1e9,
        poll_interval=3600.0,
    )

    asyncio.run(rule)

    assert max(driver.sleeps) <= 60


def test_a_refused_key_is_looked_up_anew_once_a_minute():
    """The connection is read after the first refusal, and once a minute while it lasts."""
    driver, _ = _watch([_run("RUNNING"), *[REFUSED] * 12, _run("PASSED")])

    assert driver.steps[4] == "reconnect"
    assert driver.steps.count("reconnect") == 1


def test_a_local_failure_to_read_hands_the_run_back():
    """A trigger whose machine lacks something ends the wait without cancelling the run."""
    no_trust = StablyUnreachableError("certificate", request_sent=False, is_local=True)
    driver = ScriptedDriver([no_trust] * 500, now=1000.0)
    rule = watch.watch(
        REFERENCE,
        driver,
        Belief(key_has_worked=True, local_seconds=300),
        started_at=1000.0,
        deadline=1e9,
        poll_interval=30.0,
    )

    result = asyncio.run(settle(REFERENCE, driver, asyncio.run(rule)))

    assert (result.end, result.cancellation) == (WatchEnd.HANDED_BACK, None)
    assert "cancel" not in driver.calls
    assert driver.steps.count("reconnect") == 5  # once a minute: its CA bundle may have been renewed


@pytest.mark.parametrize(
    ("reply", "end"),
    [
        pytest.param(_run("RUNNING"), None, id="live"),
        pytest.param(_run("FAILED"), WatchEnd.FINISHED, id="over"),
        pytest.param(LOST, None, id="fails in passing"),
        pytest.param(GONE, None, id="404"),
        pytest.param(REFUSED, None, id="401"),
    ],
)
def test_one_poll_believes_no_refusal(reply, end):
    """A single poll shows only whether the run is over."""
    driver = ScriptedDriver([reply])

    result = driver.run(poll_once(REFERENCE, driver, Belief(key_has_worked=False)))

    assert (result and result.end) == end
    assert ("reconnect" in driver.steps) == (reply is REFUSED)


@pytest.mark.parametrize(("error", "end"), [(GONE, WatchEnd.NOT_FOUND), (REFUSED, WatchEnd.DENIED)])
def test_polls_that_share_a_belief_end_in_time(error, end):
    """From poke to poke a refusal adds up."""
    driver, belief = ScriptedDriver([error] * 5), Belief(key_has_worked=False)
    results = []
    for now in (1000.0, 1030.0, 1060.0, 1119.0, 1120.0):
        driver.time = now
        results.append(asyncio.run(poll_once(REFERENCE, driver, belief)))

    assert [result and result.end for result in results] == [None, None, None, None, end]


def test_the_deadline_polls_once_more_then_cancels(monkeypatch):
    """The last poll is at the deadline, not before and not after."""
    driver, result = _watch([_run("RUNNING")] * 4 + [("r1",)], deadline=5.0)

    assert sum(driver.sleeps) == pytest.approx(5.0)
    assert driver.calls == ["r1"] * 4 + ["cancel"]
    assert (result.end, result.cancellation) == (WatchEnd.TIMED_OUT, CancelOutcome.CANCELLED)


def test_a_deadline_in_the_past_still_brings_one_poll():
    """After a long outage of the triggerer the run may have passed meanwhile."""
    driver, result = _watch([_run("PASSED")], deadline=-100.0)

    assert (driver.steps, result.end) == (["r1"], WatchEnd.FINISHED)


def test_without_cancelling_the_run_is_left_alone():
    """cancel=False only watches."""
    driver, result = _watch([_run("RUNNING")], deadline=0.0, cancel=False)

    assert (driver.steps, result.end, result.cancellation) == (["r1"], WatchEnd.TIMED_OUT, None)


def test_a_run_found_over_when_cancelling_is_finished():
    """No run that passed is shown red because the last poll failed, nor because its results are not known."""
    passed = _run("PASSED", results={"testCases": [{"title": "a", "status": "PASSED"}]})

    driver, result = _watch([LOST, BAD_REQUEST, passed], deadline=0.0)

    assert driver.calls == ["r1", "cancel", "r1"]
    assert (result.end, result.run.status, result.run.total) == (WatchEnd.FINISHED, "PASSED", 1)
    assert result.error(min_tests=1) is None


def test_retry_after_is_heeded():
    """Retry-After may ask for a longer pause than the schedule has; it is jittered upwards."""
    driver, _ = _watch([BUSY, _run("PASSED")])

    assert 45.0 <= driver.steps[1] <= 45.0 * 1.25


def test_retry_after_is_heeded_up_to_a_limit():
    """A Retry-After of an hour does not keep the end of a run from being seen."""
    driver, _ = _watch([StablyHTTPError("503", status=503, detail="", retry_after=3600.0), _run("PASSED")])

    assert 60.0 <= driver.steps[1] <= 60.0 * 1.25


@pytest.mark.parametrize(
    ("age", "poll_interval", "shortest", "longest"),
    [
        (0, 30, 1.8, 2.2),
        (10, 30, 1.8, 2.2),
        (100, 30, 9.0, 11.0),
        (10_000, 30, 24.5, 30),
        (-50, 30, 1.8, 2.2),
        (100, 0.5, 0.4, 0.5),
    ],
)
def test_the_pace_follows_the_runs_age(monkeypatch, age, poll_interval, shortest, longest):
    """A tenth of the age, at least 2 s, never more than the poll interval, always jittered."""
    delays = {next_delay(age, poll_interval) for _ in range(200)}

    assert shortest <= min(delays) <= max(delays) <= longest
    assert len(delays) > 100


def test_a_wait_of_many_minutes_keeps_its_pace(emulator, hook, monkeypatch):
    """With the operator's default arguments the pause grows to the poll interval and stays there."""
    emulator.inject(Fault(body={"status": "RUNNING"}), call="get", times=60)
    emulator.inject(Fault(body={"status": "PASSED"}), call="get")
    operator = StablyRunTestsOperator(task_id="run")
    clock = [1000.0]
    driver = BlockingDriver(
        hook.client, sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds), now=lambda: clock[0]
    )

    result = run_blocking(
        watch.watch(
            REFERENCE,
            driver,
            Belief(key_has_worked=True),
            started_at=1000.0,
            deadline=1000.0 + operator.timeout,
            poll_interval=operator.poll_interval,
        )
    )

    assert result.run.status == "PASSED"
    assert clock[0] > 1600


@pytest.mark.parametrize(
    ("status", "now", "queue_deadline", "is_too_long"),
    [
        ("QUEUED", 99.9, 100.0, False),
        ("QUEUED", 100.0, 100.0, True),
        ("QUEUED", 200.0, None, False),
        ("RUNNING", 200.0, 100.0, False),
        ("PAUSED", 200.0, 100.0, False),
    ],
)
def test_only_a_queued_run_is_queued_too_long(status, now, queue_deadline, is_too_long):
    """A run that has begun, or whose status is not known, is waited for."""
    assert is_queued_too_long(_run(status), now, queue_deadline) is is_too_long


@pytest.mark.parametrize(
    ("delay", "now", "deadline", "queue_deadline", "seconds"),
    [
        (30.0, 0.0, 100.0, None, 30.0),
        (30.0, 90.0, 100.0, None, 10.0),
        (30.0, 0.0, 100.0, 20.0, 20.0),
        (30.0, 20.0, 100.0, 20.0, 30.0),
        (30.0, 110.0, 100.0, 20.0, 0.0),
    ],
)
def test_there_is_a_poll_at_each_deadline(delay, now, deadline, queue_deadline, seconds):
    """A pause ends at the next deadline; one that is over shortens no pause."""
    assert pause(delay, now, deadline, queue_deadline) == seconds


def test_a_run_that_stays_queued_is_cancelled():
    """At its queue_timeout it goes the way of every run that is not over in time."""
    driver, result = _watch([_run("QUEUED"), _run("QUEUED"), ("r1",)], queue_deadline=1001.0)

    assert driver.calls == ["r1", "r1", "cancel"]
    assert sum(driver.sleeps) == pytest.approx(1.0)
    assert (result.end, result.cancellation) == (WatchEnd.TIMED_OUT, CancelOutcome.CANCELLED)
    assert str(result.error()).startswith("Run r1 never left the queue in time (its queue")


def test_failed_polls_do_not_make_a_run_queued():
    """What was queued when it was last seen may have begun since: the next status decides."""
    replies = [_run("QUEUED"), LOST, LOST, _run("RUNNING"), _run("PASSED")]

    _, result = _watch(replies, queue_deadline=1003.0)

    assert result.run.status == "PASSED"

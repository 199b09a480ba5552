"""The rule that watches a run: decisions only, no I/O, no clock but a made-up one."""

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
from airflow_provider_stably.runs.cancel import CancelOutcome
from airflow_provider_stably.runs.driver import BlockingDriver, run_blocking
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.watch import next_delay, poll_once, watch_or_cancel
from airflow_provider_stably.runs.watch_result import WatchEnd
from airflow_provider_stably.testing import Fault
from tests.runs.scripted import ScriptedDriver

REFERENCE = RunReference("r1", "p1")
LOST = StablyUnreachableError("dropped", request_sent=True)
GONE = StablyNotFoundError("404", status=404, detail="")
REFUSED = StablyAuthError("401", status=401, detail="")
BUSY = StablyHTTPError("429", status=429, detail="", retry_after=45.0)
BAD_REQUEST = StablyHTTPError("400", status=400, detail="")


def _run(status, **fields):
    return Run.from_json("r1", {"status": status, **fields})


def _watch(replies, *, deadline=1e9, poll_interval=30.0, cancel=True):
    """Watch a run that gets these replies; return the driver and the result."""
    driver = ScriptedDriver(replies, now=1000.0)
    rule = watch_or_cancel(
        REFERENCE,
        driver,
        started_at=1000.0,
        deadline=1000.0 + deadline,
        poll_interval=poll_interval,
        cancel_unfinished=cancel,
    )
    return driver, driver.run(rule)


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


@pytest.mark.parametrize(("error", "end"), [(GONE, WatchEnd.NOT_FOUND), (REFUSED, WatchEnd.DENIED)])
def test_what_a_second_look_confirms_ends_it_and_cancels(error, end):
    """404 and 401 are believed when seen twice in a row; the run is cancelled as far as possible."""
    driver, result = _watch([_run("RUNNING"), error, error, ("r1",)])

    assert (result.end, result.run.status) == (end, "RUNNING")
    assert result.cancellation == CancelOutcome.CANCELLED
    assert driver.steps[-1] == "cancel"


def test_a_refused_key_reconnects_after_a_pause():
    """The connection is looked up anew between the two looks, and only then."""
    driver, _ = _watch([_run("RUNNING"), REFUSED, _run("RUNNING"), _run("PASSED")])

    assert driver.calls == ["r1", "r1", "reconnect", "r1", "r1"]


@pytest.mark.parametrize(
    ("replies", "end"),
    [
        pytest.param([_run("RUNNING")], None, id="live"),
        pytest.param([_run("FAILED")], WatchEnd.FINISHED, id="over"),
        pytest.param([LOST], None, id="fails in passing"),
        pytest.param([GONE, _run("RUNNING")], None, id="404, then live"),
        pytest.param([GONE, _run("PASSED")], WatchEnd.FINISHED, id="404, then over"),
        pytest.param([GONE, LOST], None, id="404, then a failure"),
        pytest.param([GONE, REFUSED], None, id="404, then 401"),
        pytest.param([GONE, GONE], WatchEnd.NOT_FOUND, id="404 twice"),
        pytest.param([REFUSED, REFUSED], WatchEnd.DENIED, id="401 twice"),
    ],
)
def test_one_poll_believes_a_refusal_when_seen_twice(replies, end):
    """One poll is made, and a second one after a pause if the first is refused."""
    driver = ScriptedDriver(replies)

    result = driver.run(poll_once(REFERENCE, driver, pause=7.0))

    assert (result and result.end) == end
    assert driver.steps.count(7.0) == len(replies) - 1
    assert ("reconnect" in driver.steps) == (replies[0] is REFUSED)


def test_the_deadline_brings_a_last_look_and_then_a_cancellation(monkeypatch):
    """The last look is at the deadline, not before and not after."""
    monkeypatch.setattr(watch, "SHORTEST_DELAY_SECONDS", 2.0)
    driver, result = _watch([_run("RUNNING")] * 4 + [("r1",)], deadline=5.0)

    assert sum(driver.sleeps) == pytest.approx(5.0)
    assert driver.calls == ["r1"] * 4 + ["cancel"]
    assert (result.end, result.cancellation) == (WatchEnd.TIMED_OUT, CancelOutcome.CANCELLED)


def test_a_deadline_that_has_passed_still_brings_one_look():
    """After a long outage of the triggerer the run may have passed meanwhile."""
    driver, result = _watch([_run("PASSED")], deadline=-100.0)

    assert (driver.steps, result.end) == (["r1"], WatchEnd.FINISHED)


def test_without_cancelling_the_run_is_left_alone():
    """cancel=False only watches."""
    driver, result = _watch([_run("RUNNING")], deadline=0.0, cancel=False)

    assert (driver.steps, result.end, result.cancellation) == (["r1"], WatchEnd.TIMED_OUT, None)


def test_a_run_found_over_while_it_was_to_be_cancelled_counts_as_watched():
    """No run that passed is shown red because the last look failed."""
    replies = [LOST, BAD_REQUEST, _run("PASSED"), _run("PASSED", results={"testCases": []})]

    _, result = _watch(replies, deadline=0.0)

    assert (result.end, result.run.status, result.run.total) == (WatchEnd.FINISHED, "PASSED", 0)


def test_results_that_cannot_be_read_do_not_hide_the_verdict():
    """If only the status could be read, the status decides."""
    _, result = _watch([LOST, BAD_REQUEST, _run("PASSED"), LOST], deadline=0.0)

    assert (result.end, result.run.status) == (WatchEnd.FINISHED, "PASSED")


def test_the_apis_wish_to_wait_is_honoured():
    """Retry-After may ask for a longer pause than the schedule has."""
    driver, _ = _watch([BUSY, _run("PASSED")])

    assert driver.steps[1] == 45.0


def test_the_apis_wish_to_wait_has_a_limit():
    """A Retry-After of an hour does not keep the end of a run from being seen."""
    driver, _ = _watch([StablyHTTPError("503", status=503, detail="", retry_after=3600.0), _run("PASSED")])

    assert driver.steps[1] == 60.0


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
    monkeypatch.setattr(watch, "SHORTEST_DELAY_SECONDS", 2.0)
    delays = {next_delay(age, poll_interval) for _ in range(200)}

    assert shortest <= min(delays) <= max(delays) <= longest
    assert len(delays) > 100


def test_a_wait_of_many_minutes_keeps_its_pace(emulator, hook, monkeypatch):
    """With the operator's default arguments the pause grows to the poll interval and stays there."""
    monkeypatch.setattr(watch, "SHORTEST_DELAY_SECONDS", 2.0)
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
            started_at=1000.0,
            deadline=1000.0 + operator.timeout,
            poll_interval=operator.poll_interval,
        )
    )

    assert result.run.status == "PASSED"
    assert clock[0] > 1600

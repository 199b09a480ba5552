"""The rule that cancels a run: decisions only, no I/O."""

import asyncio
from dataclasses import replace

import pytest

from airflow_provider_stably.api.models import Run
from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyHTTPError,
    StablyNotFoundError,
    StablyResponseError,
    StablyUnreachableError,
)
from airflow_provider_stably.runs import cancel as cancel_module
from airflow_provider_stably.runs.cancel import MAX_CANCEL_ATTEMPTS, CancelOutcome, CancelResult, cancel
from airflow_provider_stably.runs.reference import RunReference
from tests.runs.scripted import ScriptedDriver

RUN = RunReference("r1", "p1")
YES, OTHER, NONE = ("r1",), ("r2",), ()
BAD_REQUEST = StablyHTTPError("400", status=400, detail="", is_from_api=True)
FAILING = StablyHTTPError("503", status=503, detail="", is_from_api=True)
GONE = StablyNotFoundError("404", status=404, detail="", is_from_api=True)
PAGE = StablyNotFoundError("404", status=404, detail="<html>")
REFUSED = StablyAuthError("401", status=401, detail="")
LOST = StablyUnreachableError("dropped", request_sent=True)
HTML = StablyResponseError("html", status=200, content_type="text/html", detail="")


def _run(status, **fields):
    return Run.from_json("r1", {"status": status, **fields})


@pytest.mark.parametrize(
    ("replies", "outcome", "status"),
    [
        pytest.param([YES], CancelOutcome.CANCELLED, "CANCELLED", id="listed"),
        pytest.param([("r2", "r1")], CancelOutcome.CANCELLED, "CANCELLED", id="listed among others"),
        pytest.param(
            [BAD_REQUEST, _run("CANCELLED")],
            CancelOutcome.CANCELLED,
            "CANCELLED",
            id="400, cancelled already",
        ),
        pytest.param(
            [NONE, _run("CANCELLED")],
            CancelOutcome.CANCELLED,
            "CANCELLED",
            id="not listed, cancelled already",
        ),
        *[
            pytest.param(
                [BAD_REQUEST, _run(status)], CancelOutcome.ALREADY_FINISHED, status, id=f"400, {status}"
            )
            for status in ("PASSED", "FAILED", "TIMEDOUT", "INTERRUPTED")
        ],
        pytest.param(
            [OTHER, _run("PASSED")], CancelOutcome.ALREADY_FINISHED, "PASSED", id="another listed, passed"
        ),
        pytest.param(
            [BAD_REQUEST, _run("MELTED", results={"testCases": []})],
            CancelOutcome.ALREADY_FINISHED,
            "MELTED",
            id="400, unknown but final",
        ),
        pytest.param([BAD_REQUEST, GONE], CancelOutcome.NOT_FOUND, None, id="400, unknown run"),
        pytest.param([GONE, GONE], CancelOutcome.NOT_FOUND, None, id="404 twice"),
        pytest.param([NONE, GONE], CancelOutcome.NOT_FOUND, None, id="not listed, unknown run"),
        pytest.param([LOST, GONE], CancelOutcome.UNKNOWN, None, id="answer lost, then not found"),
        pytest.param([FAILING, GONE], CancelOutcome.UNKNOWN, None, id="503, then not found"),
        pytest.param([HTML, GONE], CancelOutcome.UNKNOWN, None, id="answer HTML, then not found"),
        pytest.param([PAGE, GONE], CancelOutcome.UNKNOWN, None, id="a front end's 404, then not found"),
        pytest.param([BAD_REQUEST, PAGE], CancelOutcome.UNKNOWN, None, id="404, a front end's"),
        pytest.param([GONE, _run("PASSED")], CancelOutcome.ALREADY_FINISHED, "PASSED", id="404, then found"),
        pytest.param([REFUSED] * 4, CancelOutcome.DENIED, None, id="key refused"),
        pytest.param([*[REFUSED] * 3, LOST], CancelOutcome.DENIED, None, id="key refused, look lost"),
        pytest.param([*[REFUSED] * 3, _run("RUNNING")], CancelOutcome.DENIED, None, id="key refused, live"),
        pytest.param(
            [*[REFUSED] * 3, _run("PASSED")],
            CancelOutcome.ALREADY_FINISHED,
            "PASSED",
            id="cancels refused, over",
        ),
        pytest.param(
            [*[BAD_REQUEST, REFUSED] * 3, REFUSED], CancelOutcome.DENIED, None, id="key refused at the look"
        ),
        pytest.param([REFUSED, YES], CancelOutcome.CANCELLED, "CANCELLED", id="key refused once"),
        pytest.param(
            [LOST, _run("CANCELLED")], CancelOutcome.CANCELLED, "CANCELLED", id="answer lost, cancelled"
        ),
        pytest.param(
            [HTML, _run("CANCELLED")], CancelOutcome.CANCELLED, "CANCELLED", id="answer HTML, cancelled"
        ),
        pytest.param([LOST, LOST], CancelOutcome.UNKNOWN, None, id="nothing readable"),
        pytest.param([BAD_REQUEST, HTML], CancelOutcome.UNKNOWN, None, id="look unreadable"),
        pytest.param(
            [BAD_REQUEST, _run("QUEUED"), YES], CancelOutcome.CANCELLED, "CANCELLED", id="live, then listed"
        ),
        pytest.param(
            [LOST, _run("RUNNING"), YES], CancelOutcome.CANCELLED, "CANCELLED", id="lost, live, listed"
        ),
        pytest.param([NONE, _run("RUNNING")] * 3, CancelOutcome.STILL_LIVE, "RUNNING", id="live for good"),
        pytest.param(
            [NONE, _run("PAUSED")] * 3, CancelOutcome.STILL_LIVE, "PAUSED", id="unknown and live for good"
        ),
    ],
)
def test_each_answer_leads_to_its_outcome(replies, outcome, status):
    """Whatever the API answers, the outcome is the one of the semantics table."""
    driver = ScriptedDriver(replies)

    result = driver.run(cancel(RUN, driver))

    assert (result.outcome, result.status) == (outcome, status)


def test_a_run_that_stays_live_is_cancelled_again():
    """Cancel, read, pause - three times, then the task has to decide."""
    driver = ScriptedDriver([NONE, _run("RUNNING")] * MAX_CANCEL_ATTEMPTS)

    result = driver.run(cancel(RUN, driver))

    pause = cancel_module.SECONDS_BETWEEN_ATTEMPTS
    assert driver.steps == ["cancel", "r1", pause, "cancel", "r1", 2 * pause, "cancel", "r1"]
    assert "3 attempts" in result.detail


def test_a_young_run_that_is_not_found_is_tried_again():
    """Some services do not find a new run for its first seconds; an old one is believed missing at once."""
    young = ScriptedDriver([GONE, GONE, PAGE, PAGE, YES], now=1000.0)
    old = ScriptedDriver([GONE, GONE], now=1000.0)

    of_young = young.run(cancel(replace(RUN, started_at=995.0), young))
    of_old = old.run(cancel(replace(RUN, started_at=0.0), old))

    assert (of_young.outcome, of_old.outcome) == (CancelOutcome.CANCELLED, CancelOutcome.NOT_FOUND)


def test_a_young_run_is_not_tried_for_ever():
    """After two minutes a run that is not found is not found."""
    driver = ScriptedDriver([GONE] * 500, now=1000.0)

    result = asyncio.run(cancel(replace(RUN, started_at=1000.0), driver))

    assert result.outcome is CancelOutcome.NOT_FOUND
    assert 120 <= driver.time - 1000.0 <= 140


def test_a_404_lasts_from_its_first_answer_on():
    """After minutes without an answer a single 404 says as little as at any other time."""
    driver = ScriptedDriver([LOST, GONE, YES], seconds_of_a_call=70.0)

    result = driver.run(cancel(RUN, driver, missing_seconds=120.0))

    assert result.outcome is CancelOutcome.CANCELLED


def test_a_refusal_after_others_is_asked_again():
    """What a young run's 404s have cost takes nothing from the attempts that a refusal has."""
    driver = ScriptedDriver([*[GONE, GONE] * MAX_CANCEL_ATTEMPTS, REFUSED, YES])

    result = driver.run(cancel(replace(RUN, started_at=driver.time), driver))

    assert result.outcome is CancelOutcome.CANCELLED


@pytest.mark.parametrize("failure", [REFUSED, LOST, GONE, NONE], ids=["refused", "lost", "404", "not listed"])
def test_with_patience_nothing_is_given_up_early(failure):
    """Whoever has time goes on until the run is settled; a refused key is read again."""
    replies = {REFUSED: [REFUSED], NONE: [NONE, _run("RUNNING")]}.get(failure, [failure, failure])
    driver = ScriptedDriver([*replies * 5, YES])

    result = driver.run(cancel(RUN, driver, patience=120.0))

    assert result.outcome is CancelOutcome.CANCELLED
    assert ("reconnect" in driver.steps) == (failure is REFUSED)


def test_patience_has_an_end():
    """When the time is over the last result stands."""
    driver = ScriptedDriver([REFUSED] * 500, now=1000.0)

    result = asyncio.run(cancel(RUN, driver, patience=120.0))

    assert result.outcome is CancelOutcome.DENIED
    assert 120 <= driver.time - 1000.0 <= 140


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (CancelResult(CancelOutcome.CANCELLED, "CANCELLED"), "cancelled (CANCELLED)"),
        (CancelResult(CancelOutcome.DENIED, detail="401"), "denied, 401"),
        (CancelResult(CancelOutcome.STILL_LIVE, "RUNNING", "slow"), "still_live (RUNNING), slow"),
    ],
    ids=["cancelled", "denied", "live"],
)
def test_a_result_reads_as_one_line(result, text):
    """Logs and errors show a result in the same words: outcome, status, detail."""
    assert str(result) == text

"""What a run's end means: one result for operator, trigger and sensor."""

import json
import math
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_stably.api.models import Run, RunStatus, TestResult
from airflow_provider_stably.exceptions import (
    StablyRunCancelledError,
    StablyRunFailedError,
    StablyRunLostError,
    StablyRunTimeoutError,
)
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary, is_another_branch
from airflow_provider_stably.runs.watch_result import WatchEnd, WatchResult

REFERENCE = RunReference("r1", "p1")


def _result(end, run, *rest):
    return WatchResult(end, RunSummary.of(REFERENCE, run), *rest)


NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def _case(title, status, ms=None):
    return TestResult(title, status, ms)


def _run(status="FAILED", cases=(), seconds=90):
    return Run("r1", status, NOON, NOON + timedelta(seconds=seconds), None, tuple(cases))


@pytest.mark.parametrize(
    "results", [None, (_case("a", "PASSED"),), (_case("a", "FAILED"),)], ids=["none", "ok", "bad"]
)
@pytest.mark.parametrize("status", [*(s for s in RunStatus if s not in {"QUEUED", "RUNNING"}), "MELTED"])
def test_only_passed_is_green_whatever_the_results(status, results):
    """The run's status decides, with and without results; each other end has its error."""
    run = Run("r1", status, finished_at=NOON, test_results=results)

    error = _result(WatchEnd.FINISHED, run).error()

    kinds = {"PASSED": type(None), "CANCELLED": StablyRunCancelledError}
    assert type(error) is kinds.get(status, StablyRunFailedError)


@pytest.mark.parametrize(
    ("result", "kind", "told"),
    [
        pytest.param(
            _result(WatchEnd.TIMED_OUT, Run("r1", RunStatus.RUNNING), "", "cancelled"),
            StablyRunTimeoutError,
            "was not over in time; last seen RUNNING, now cancelled",
            id="too long",
        ),
        pytest.param(
            _result(WatchEnd.TIMED_OUT, None, "no answer", "unknown"),
            StablyRunTimeoutError,
            "(no answer); its status was never read, cancel result: unknown, so it may still be",
            id="never reached",
        ),
        pytest.param(
            _result(WatchEnd.TIMED_OUT, Run("r1", RunStatus.QUEUED)),
            StablyRunTimeoutError,
            "left alone",
            id="not cancelled",
        ),
        pytest.param(
            _result(WatchEnd.DENIED, None, "401"),
            StablyRunLostError,
            "refused the key for minutes (401)",
            id="denied",
        ),
        pytest.param(
            _result(WatchEnd.NOT_FOUND, None, "404"),
            StablyRunLostError,
            "not found it for minutes (404)",
            id="not found",
        ),
    ],
)
def test_an_early_end_says_what_became_of_the_run(result, kind, told):
    """The error names the run, why watching ended, what became of the run and its page."""
    error = result.error()

    assert type(error) is kind
    assert told in str(error)
    assert "Run r1 " in str(error)
    assert "see https://app.stably.ai/project/p1/playwright/history/r1" in str(error)


@pytest.mark.parametrize(
    ("result", "knows_run", "may_be_our_cancel", "may_retry"),
    [
        pytest.param(_result(WatchEnd.FINISHED, _run("FAILED")), False, False, True, id="failed"),
        pytest.param(_result(WatchEnd.FINISHED, _run("CANCELLED")), True, False, False, id="cancelled"),
        pytest.param(_result(WatchEnd.FINISHED, _run("CANCELLED")), True, True, True, id="resumed"),
        pytest.param(_result(WatchEnd.NOT_FOUND, None), True, False, False, id="not found"),
        pytest.param(_result(WatchEnd.NOT_FOUND, None, "", "not_found"), True, False, False, id="nor then"),
        pytest.param(_result(WatchEnd.NOT_FOUND, None, "", "cancelled"), False, False, True, id="found then"),
        pytest.param(_result(WatchEnd.NOT_FOUND, None, "", "unknown"), True, False, True, id="outage then"),
        pytest.param(_result(WatchEnd.NOT_FOUND, None, "", "unknown"), False, False, False, id="untold then"),
        pytest.param(_result(WatchEnd.TIMED_OUT, None, "", "cancelled"), False, False, True, id="late"),
        pytest.param(_result(WatchEnd.TIMED_OUT, None, "", "unknown"), False, False, False, id="live"),
        pytest.param(_result(WatchEnd.TIMED_OUT, None, "", "unknown"), True, False, True, id="live, known"),
        pytest.param(_result(WatchEnd.DENIED, None, "", "denied"), False, False, False, id="refused"),
        pytest.param(_result(WatchEnd.DENIED, None, "", "denied"), True, False, True, id="refused, known"),
    ],
)
def test_a_retry_leaves_no_run_behind(result, knows_run, may_be_our_cancel, may_retry):
    """A task is retried where that may help and the next try would not start a run beside a live one."""
    assert result.may_retry(next_try_knows_run=knows_run, may_be_our_cancel=may_be_our_cancel) is may_retry


def test_a_result_crosses_a_database():
    """An event is plain JSON and reads back the same; keys it does not know are ignored."""
    cases = [_case("a", "FAILED", 1200), _case("b", "PASSED", 100)]
    result = _result(WatchEnd.TIMED_OUT, _run(cases=cases), "d", "cancelled")

    event = json.loads(json.dumps(result.to_event()))
    later = {**event, "new": 1, "run": {**event["run"], "new": 1}}

    assert WatchResult.from_event(event) == result == WatchResult.from_event(later)


def test_an_event_without_an_address_gets_the_runs():
    """What a summary can do without is filled in with what can be put into an XCom."""
    event = {"end": "timed_out", "run": {"run_id": "r1", "project_id": "p1"}}

    run = WatchResult.from_event(event).run

    assert run == RunSummary.of(REFERENCE, None)
    assert json.loads(json.dumps(run.return_value()))["run_url"] == REFERENCE.run_url


@pytest.mark.parametrize(
    "event",
    [
        None,
        "finished",
        {},
        {"end": "exploded", "run": {"run_id": "r1", "project_id": "p1"}},
        {"end": "finished", "run": None},
        {"end": "finished", "run": {"run_id": "r1", "project_id": "p1"}},
        {"end": "timed_out", "run": {"run_id": "r1", "project_id": "p1"}, "cancellation": ["cancelled"]},
        {"end": "timed_out", "run": {"run_id": "r1", "project_id": "p1"}, "detail": {"why": "deep"}},
        {"end": "finished", "run": {"run_id": "r/1", "project_id": "p1"}},
        {"end": "finished", "run": {"run_id": "r1"}},
        {"end": "finished", "run": {"run_id": "r1", "project_id": "p1", "status": "PASSED", "total": "3"}},
        {
            "end": "finished",
            "run": {"run_id": "r1", "project_id": "p1", "status": "PASSED", "branch": 1},
        },
        {"end": "timed_out", "run": {"run_id": "r1", "project_id": "p1", "failed_tests": [1]}},
        {"end": "timed_out", "run": {"run_id": "r1", "project_id": "p1", "duration_ms": 10**400}},
        {"end": "x" * 10**6, "run": {"run_id": "r1", "project_id": "p1"}},
        {"end": ["finished"], "run": {"run_id": "r1", "project_id": "p1"}},
        {"end": "handed_back", "run": {"run_id": "r1", "project_id": "p1"}, "deadline": math.nan},
        {"end": "handed_back", "run": {"run_id": "r1", "project_id": "p1"}, "deadline": 10**400},
        {"end": "handed_back", "run": {"run_id": "r1", "project_id": "p1"}, "deadline": "tomorrow"},
    ],
    ids=lambda event: repr(event)[:80],
)
def test_an_event_of_somebody_else_is_refused(event):
    """What crossed the database is checked before it is believed."""
    with pytest.raises(ValueError, match=r"^.{1,200}$"):
        WatchResult.from_event(event)


def test_what_an_event_says_is_short_and_on_one_line():
    """Whoever can write one fills no log, and leads the button nowhere else."""
    loud = "\x1b[31m\n" * 10**5
    run = {
        "run_id": "r1",
        "project_id": "p1",
        "run_url": "javascript:alert(1)",
        "status": loud,
        "branch": loud,
        "failed_tests": [loud] * 1000,
        "story": [loud] * 1000,
    }

    result = WatchResult.from_event({"end": "timed_out", "run": run, "detail": loud, "cancellation": loud})

    assert result.run.run_url == REFERENCE.run_url
    for text in (str(result.error()), *result.run.story, *result.run.failed_tests, result.run.headline):
        assert text.isprintable()
        assert len(text) < 3000
    assert len(result.run.report) < 20_000


def test_the_summary_counts_and_names():
    """Counts are of all tests; failed ones are all that neither passed nor were skipped."""
    cases = [
        _case("a", "PASSED", 100),
        _case("b", "FAILED", 4000),
        _case("c", "SKIPPED"),
        _case("d", "TIMEDOUT", 30_000),
        _case("e", "FLAKY"),
    ]

    summary = RunSummary.of(REFERENCE, _run(cases=cases))

    assert summary.return_value() == {
        "run_id": "r1",
        "project_id": "p1",
        "run_url": REFERENCE.run_url,
        "status": "FAILED",
        "total": 5,
        "passed": 1,
        "failed": 3,
        "skipped": 1,
        "duration_ms": 90_000,
        "started_at": NOON.isoformat(),
        "queued_ms": None,
        "branch": None,
        "failed_tests": ["b", "d", "e"],
    }
    assert summary.report.splitlines() == [
        f"Run r1 FAILED: 3 of 5 tests failed in 90.0 s; see {REFERENCE.run_url}",
        "  FAILED  b (4.0 s)",
        "  TIMEDOUT  d (30.0 s)",
        "  FLAKY  e",
        "  slowest:",
        "    30.0 s  d",
        "    4.0 s  b",
        "    0.1 s  a",
    ]


def test_a_run_that_ends_before_it_starts_has_no_duration():
    """Two times that do not fit together tell nothing."""
    summary = RunSummary.of(REFERENCE, _run("PASSED", seconds=-9))

    assert summary.duration_ms is None
    assert " in " not in summary.headline


def test_a_huge_run_fits_on_a_screen_and_into_an_event():
    """Titles and lists are capped; the counts are not."""
    cases = [_case(f"{index} " + "x" * 1000, "FAILED", index) for index in range(10_000)]

    summary = RunSummary.of(REFERENCE, _run(cases=cases))

    assert (summary.failed, len(summary.failed_tests)) == (10_000, 20)
    assert len(summary.report.splitlines()) <= 30
    assert "... and 9980 more" in summary.report
    assert len(json.dumps(summary.to_json())) < 20_000


def test_an_error_carries_the_run_as_data():
    """Callbacks can read the facts without parsing the message."""
    error = _result(WatchEnd.FINISHED, _run(cases=[_case("b", "FAILED")])).error()

    assert (error.run["run_id"], error.run["failed"], error.run["failed_tests"]) == ("r1", 1, ["b"])
    assert "Failed: b" in str(error)


@pytest.mark.parametrize("title", ["x" * 1000, "テスト" * 100, "🚢" * 300], ids=["long", "Japanese", "emoji"])
def test_a_summary_of_2000_cases_stays_below_16_kb(title):
    """However long the titles are, and whatever their script."""
    cases = [_case(f"{index} {title}", "FAILED", index) for index in range(2000)]

    error = _result(WatchEnd.FINISHED, _run(cases=cases)).error()

    assert (error.run["total"], error.run["failed"]) == (2000, 2000)
    assert len(error.run["failed_tests"]) >= 1
    assert len(json.dumps(error.run)) < 16_000


@pytest.mark.parametrize("status", ["FAILED", "🚢" * 200], ids=["failed", "unknown"])
@pytest.mark.parametrize("size", [1, 5, 40, 200])
def test_no_odd_answer_makes_a_summary_longer(status, size):
    """Nor do a long branch, a status that is no word, and an error that quotes a page of emoji."""
    cases = [_case("🚢" * size, status, 10**11)] * 2000
    run = Run("r1", status, NOON, NOON, "🚢" * 200, tuple(cases))
    summary = RunSummary.of(RunReference("r" * 200, "p" * 200), run)

    ended = WatchResult(WatchEnd.FINISHED, summary).error()
    gave_up = WatchResult(WatchEnd.TIMED_OUT, summary, "🚢" * 1500, "unknown").error()

    assert len(json.dumps(ended.run)) < 16_000
    assert len(json.dumps(gave_up.run)) < 16_000


def test_a_summary_says_how_the_wait_ended():
    """Green or red, it has one line for people; a red one is its error's."""
    passed, late = _result(WatchEnd.FINISHED, _run("PASSED")), _result(WatchEnd.TIMED_OUT, _run("RUNNING"))

    error = late.error()

    assert passed.summary(passed.error())["message"] == passed.run.headline
    assert late.summary(error) == error.run
    assert error.run["message"] == str(error)


@pytest.mark.parametrize(
    ("cases", "min_tests", "passes"),
    [
        (None, 0, True),
        ((), 0, True),
        (None, 1, False),
        ((), 1, False),
        ((_case("a", "PASSED"),), 1, True),
        ((_case("a", "PASSED"),), 2, False),
        ((_case("a", "SKIPPED"), _case("b", "PASSED")), 2, True),
    ],
    ids=str,
)
def test_a_run_that_passed_has_to_have_min_tests(cases, min_tests, passes):
    """With fewer test cases, or without results, it is an error that names the number and is not retried."""
    run = Run("r1", "PASSED", test_results=cases)
    result = _result(WatchEnd.FINISHED, Run.from_json("r1", run.to_json()))

    error = result.error(min_tests=min_tests)

    assert (error is None) is passes
    if error is not None:
        assert f"min_tests is {min_tests}" in str(error)
        assert (error.run["status"], error.run["message"]) == ("PASSED", str(error))
        assert not result.may_retry(next_try_knows_run=True, may_be_our_cancel=True)


def test_a_timeout_in_the_queue_says_so():
    """It is not the tests that took too long."""
    queued, running = (_result(WatchEnd.TIMED_OUT, _run(status)) for status in ("QUEUED", "RUNNING"))

    assert "never left the queue" in str(queued.error())
    assert "queue" not in str(running.error())


@pytest.mark.parametrize(
    ("asked_at", "queued_ms"),
    [(None, None), (NOON.timestamp() - 12.5, 12_500), (NOON.timestamp() + 3, 0)],
    ids=["not known", "12.5 s", "clocks that differ"],
)
def test_time_in_the_queue_counts_from_the_start_call(asked_at, queued_ms):
    """Summary and log have it, and it is never negative."""
    run = _result(WatchEnd.FINISHED, _run("PASSED")).run.with_queue_time(asked_at)

    assert run.queued_ms == queued_ms
    assert ("in the queue" in run.headline) is (queued_ms is not None)
    assert _result(WatchEnd.TIMED_OUT, None).run.with_queue_time(asked_at).queued_ms is None


@pytest.mark.parametrize(
    ("asked", "told", "is_another"),
    [
        ("main", "main", False),
        ("main", "dev", True),
        (None, "main", False),
        ("main", None, False),
        ("x" * 300, "x" * 200, False),
        ("🚢" * 300, "🚢" * 100, False),
        ("feature-1", "***", False),
    ],
)
def test_another_branch_is_noticed(asked, told, is_another):
    """What the answer leaves out, cuts or hides is no other branch."""
    assert is_another_branch(asked, told) is is_another

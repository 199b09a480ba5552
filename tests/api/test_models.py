from datetime import UTC, datetime

import pytest

from airflow_provider_stably.api.models import Run, RunStatus, TestResult

MIDDAY = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("answer", "finished", "passed"),
    [
        pytest.param({"status": "QUEUED"}, False, False, id="queued"),
        pytest.param({"status": "RUNNING"}, False, False, id="running"),
        pytest.param(
            {"status": "RUNNING", "finishedAt": "2026-11-22T12:00:00Z"}, False, False, id="running+end"
        ),
        pytest.param({"status": "PASSED"}, True, True, id="passed"),
        pytest.param({"status": "FAILED"}, True, False, id="failed"),
        pytest.param({"status": "TIMEDOUT"}, True, False, id="timedout"),
        pytest.param({"status": "CANCELLED"}, True, False, id="cancelled"),
        pytest.param({"status": "INTERRUPTED"}, True, False, id="interrupted"),
        pytest.param({"status": "passed"}, False, False, id="other spelling"),
        pytest.param({"status": "PAUSED"}, False, False, id="unknown"),
        pytest.param(
            {"status": "PAUSED", "finishedAt": None, "results": None}, False, False, id="unknown, nulls"
        ),
        pytest.param(
            {"status": "MELTED", "finishedAt": "2026-11-22T12:00:00Z"}, True, False, id="unknown+end"
        ),
        pytest.param({"status": "MELTED", "results": {"testCases": []}}, True, False, id="unknown+results"),
    ],
)
def test_only_passed_succeeds_and_only_final_ends(answer, finished, passed):
    """The status rule holds for every status, known and unknown."""
    run = Run.from_json("run-1", answer)

    assert (run.is_finished, run.is_passed) == (finished, passed)


def test_every_known_status_is_read_as_its_enum_member():
    """A known status is a RunStatus, an unknown one the API's own word."""
    known = [Run.from_json("r", {"status": status.value}).status for status in RunStatus]
    unknown = Run.from_json("r", {"status": "PAUSED"}).status

    assert known == list(RunStatus)
    assert all(isinstance(status, RunStatus) for status in known)
    assert (unknown, type(unknown)) == ("PAUSED", str)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "PASSED",
        {},
        {"status": None},
        {"status": ""},
        {"status": 3},
        {"state": "PASSED"},
    ],
    ids=repr,
)
def test_an_answer_without_a_status_is_an_error(answer):
    """An answer that has no status is not taken for a run."""
    with pytest.raises(ValueError, match="expected"):
        Run.from_json("run-1", answer)


def test_an_unknown_status_is_text_airflow_can_keep():
    """Half a surrogate pair and NUL, which would kill a triggerer, are escaped in a run's status."""
    run = Run.from_json("run-1", {"status": "MELTED\ud83d\0", "results": {"testCases": []}})

    assert run.status == "MELTED\\ud83d\\x00"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-22T12:00:00Z", MIDDAY),
        ("2026-11-22T12:00:00.000Z", MIDDAY),
        ("2026-11-22T13:00:00+01:00", MIDDAY),
        ("2026-11-22T12:00:00", MIDDAY),
        ("yesterday", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("0001-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00.000Z", None),
        ("", None),
        (1763812800, None),
        (None, None),
    ],
)
def test_times_are_aware_utc_or_none(text, time):
    """Times are read as aware UTC; one that cannot be read, or stands for none, does not hide the run."""
    run = Run.from_json("run-1", {"status": "RUNNING", "startedAt": text})

    assert run.started_at == time
    assert run.started_at is None or run.started_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("case", "result"),
    [
        pytest.param(
            {"title": "buy", "status": "PASSED", "durationMs": 12},
            TestResult("buy", "PASSED", 12),
            id="whole",
        ),
        pytest.param({"title": "buy", "status": "FLAKY"}, TestResult("buy", "FLAKY"), id="unknown status"),
        pytest.param({"status": "FAILED"}, TestResult("(no title)", "FAILED"), id="no title"),
        pytest.param({"title": 3, "status": None}, TestResult("(no title)", "UNKNOWN"), id="wrong types"),
        pytest.param(
            {"title": "a", "status": "PASSED", "durationMs": 1.6}, TestResult("a", "PASSED", 2), id="fraction"
        ),
        pytest.param(
            {"title": "x\ud83d\0y", "status": "FAILED"},
            TestResult("x\\ud83d\\x00y", "FAILED"),
            id="half a surrogate, NUL",
        ),
        pytest.param(
            {"title": "a", "status": "PASSED", "durationMs": 10**400}, TestResult("a", "PASSED"), id="huge"
        ),
        pytest.param(
            {"title": "a", "status": "PASSED", "durationMs": True}, TestResult("a", "PASSED"), id="boolean"
        ),
        pytest.param(
            {"title": "a", "status": "PASSED", "durationMs": float("inf")},
            TestResult("a", "PASSED"),
            id="inf",
        ),
        pytest.param(
            {"title": "a", "status": "PASSED", "durationMs": -5}, TestResult("a", "PASSED"), id="negative"
        ),
        pytest.param(
            {"title": "a", "status": "PASSED", "durationMs": "12"}, TestResult("a", "PASSED"), id="text"
        ),
    ],
)
def test_a_test_case_is_read_despite_odd_details(case, result):
    """An odd detail of a test case does not hide the test case."""
    run = Run.from_json("run-1", {"status": "FAILED", "results": {"testCases": [case, "noise"]}})

    assert run.test_results == (result,)


@pytest.mark.parametrize("results", [None, {}, {"testCases": None}, {"testCases": {}}, []], ids=repr)
def test_results_of_another_shape_count_as_none(results):
    """Results that are not a list of test cases are no results."""
    run = Run.from_json("run-1", {"status": "PASSED", "results": results})

    assert run.test_results is None


def test_a_run_written_as_json_reads_back_the_same():
    """to_json and from_json are inverse."""
    run = Run(
        run_id="run-1",
        status=RunStatus.FAILED,
        started_at=MIDDAY,
        finished_at=MIDDAY,
        branch_name="main",
        test_results=(TestResult("a", "PASSED", 3), TestResult("b", "SKIPPED")),
    )

    assert Run.from_json("run-1", run.to_json()) == run
    assert Run("run-1", RunStatus.QUEUED).to_json() == {"status": "QUEUED"}

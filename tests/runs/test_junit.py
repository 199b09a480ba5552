"""A run as JUnit XML, read back by another parser and held against a schema."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_stably.api.models import Run, TestResult
from airflow_provider_stably.runs.junit import junit_xml
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary
from tests.runs.read_junit import outcomes, read_junit

NOON = datetime(2026, 11, 26, 12, 0, 0, 500_000, tzinfo=UTC)
CASES = (
    TestResult("sign in", "PASSED", 1500),
    TestResult("search", "SKIPPED"),
    TestResult("check out", "FAILED", 30_000),
    TestResult("pay", "TIMEDOUT", 1),
    TestResult("return", "INTERRUPTED"),
    TestResult("still at it", "RUNNING"),
    TestResult("new", "MELTED"),
)


def _write(run, *, suite="smoke", verdict="", environment=None, status=None):
    reference = RunReference("r1", "p1")
    summary = RunSummary.of(reference, run or Run("r1", status))
    return junit_xml(summary, run, suite=suite, verdict=verdict, environment=environment)


def _run(status="FAILED", cases=CASES):
    return Run("r1", status, NOON, NOON + timedelta(seconds=90), "main", cases)


def test_each_case_has_its_outcome():
    """Only what passed passes: a failure is all that neither passed nor was skipped."""
    suite = read_junit(_write(_run(), verdict="Run r1 FAILED"))

    assert outcomes(suite) == {
        "sign in": "passed",
        "search": "skipped",
        "check out": "failure",
        "pay": "failure",
        "return": "failure",
        "still at it": "failure",
        "new": "failure",
    }
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7",
        "failures": "5",
        "errors": "0",
        "skipped": "1",
    }


def test_the_suite_says_what_ran_and_how_long():
    """Name, times and properties are there; a case without a duration took 0 s."""
    suite = read_junit(_write(_run(), environment="staging"))

    times = {case.get("name"): float(case.get("time")) for case in suite.iter("testcase")}
    assert (suite.get("name"), suite.get("timestamp")) == ("smoke", "2026-11-26T12:00:00")
    assert (float(suite.get("time")), times["sign in"], times["search"]) == (90.0, 1.5, 0.0)
    assert {case.get("classname") for case in suite.iter("testcase")} == {"smoke"}
    assert {each.get("name"): each.get("value") for each in suite.iter("property")} == {
        "run_id": "r1",
        "project_id": "p1",
        "run_url": RunReference("r1", "p1").run_url,
        "branch": "main",
        "environment": "staging",
    }


def test_long_names_are_cut():
    """Each of ten thousand cases repeats the suite's name, which a DAG run's conf may make long."""
    document = _write(_run(), suite="s" * 10_000, environment="e" * 10_000)

    assert len(document) < 10_000
    assert read_junit(document).get("name") == "s" * 200


@pytest.mark.parametrize(
    "run",
    [None, _run("CANCELLED", None), _run("FAILED", ()), _run("PASSED", ()), _run("FAILED", CASES[:2])],
    ids=["not read", "cancelled", "without cases", "too few tests", "nothing failed"],
)
def test_a_red_task_has_no_green_suite(run):
    """Where no test case failed, one more has the verdict as its error."""
    suite = read_junit(_write(run, verdict="it did not pass", status="FAILED"))

    assert outcomes(suite)["Stably run"] == "error"
    assert suite.get("errors") == "1"
    assert suite.find("testcase/error").get("message") == "it did not pass"


def test_a_green_run_gets_no_case_of_ours():
    """A run without a case stays an empty suite."""
    assert outcomes(read_junit(_write(_run("PASSED", ())))) == {}


def test_a_run_without_times_takes_none():
    """A run whose times do not fit together, and a case without a duration, take 0 s."""
    run = Run("r1", "PASSED", NOON, NOON - timedelta(seconds=9), None, (TestResult("a", "PASSED"),))

    suite = read_junit(_write(run))

    assert (float(suite.get("time")), float(suite.find("testcase").get("time"))) == (0.0, 0.0)


@settings(deadline=None)  # the first example may be the first to need the schema, whose reading takes long
@given(title=st.text(max_size=50), status=st.text(max_size=20), suite=st.text(min_size=1, max_size=20))
def test_any_text_makes_a_valid_document(title, status, suite):
    """Titles and names may hold whatever JSON may: half surrogate pairs, NUL, markup."""
    document = _write(_run(cases=(TestResult(title, f"?{status}"),)), suite=suite, verdict=title)

    assert len(read_junit(document).findall("testcase")) == 1

"""Write a run as JUnit XML, which CI servers and dashboards read. Needs the extra ``junit``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC
from io import BytesIO
from typing import TYPE_CHECKING

from airflow_provider_stably.api.models import MAX_CHARACTERS, Run, TestResult, TestStatus
from airflow_provider_stably.api.text import one_line
from airflow_provider_stably.runs.summary import NOT_FAILED, RunSummary

if TYPE_CHECKING:
    from junitparser import TestCase

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document may have, not even escaped."""


def junit_xml(
    summary: RunSummary, run: Run | None, *, suite: str, verdict: str, environment: str | None = None
) -> bytes:
    """Return a run as a JUnit document with one suite.

    A red run without a failed test case gets one more, with an error: no reader may take it for green.

    :param run: The run as last read; None if it cannot be read.
    :param suite: The suite's name, and the class name of its cases: the same for each run, so that readers
        can compare them.
    :param verdict: Why the task failed; empty if it did not.
    """
    from junitparser import Error, JUnitXml, TestCase, TestSuite

    suite = _text(one_line(suite, limit=MAX_CHARACTERS))  # each case repeats it
    written = TestSuite(suite)
    for name, value in _properties(summary, environment).items():
        written.add_property(name, _text(value))
    results = () if run is None or run.test_results is None else run.test_results
    cases = list(_cases(results, suite))
    if verdict and all(result.status in NOT_FAILED for result in results):
        lost = TestCase("Stably run", classname=suite, time=0.0)
        lost.result = [Error(_text(verdict), type_=_text(summary.status or "UNKNOWN"))]
        cases.append(lost)
    written.add_testcases(cases)
    written.time = _seconds(summary.duration_ms)
    if run is not None and run.started_at is not None:
        written.timestamp = run.started_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    document = JUnitXml()
    document.add_testsuite(written)
    document.time = written.time
    file = BytesIO()
    document.write(file)
    return file.getvalue()


def _properties(summary: RunSummary, environment: str | None) -> Mapping[str, str]:
    properties = {
        "run_id": summary.run_id,
        "project_id": summary.project_id,
        "run_url": summary.run_url,
        "branch": summary.branch,
        "environment": None if environment is None else one_line(environment, limit=MAX_CHARACTERS),
    }
    return {name: value for name, value in properties.items() if value is not None}


def _cases(results: tuple[TestResult, ...], suite: str) -> Iterator[TestCase]:
    from junitparser import Failure, Skipped, TestCase

    for result in results:
        case = TestCase(_text(result.title), classname=suite, time=_seconds(result.duration_ms))
        if result.status == TestStatus.SKIPPED:
            case.result = [Skipped()]
        elif result.status not in NOT_FAILED:
            case.result = [Failure(_text(result.status), type_=_text(result.status))]
        yield case


def _seconds(milliseconds: int | None) -> float:
    return (milliseconds or 0) / 1000


def _text(text: str) -> str:
    return _NOT_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), text)

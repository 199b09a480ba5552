"""Sum a run up: its status, its numbers, and a report for the log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from heapq import nlargest
from itertools import accumulate
from operator import itemgetter
from typing import Any

from airflow_provider_stably.api.calls import check_id
from airflow_provider_stably.api.models import MAX_CHARACTERS, Run, RunStatus, TestResult, TestStatus
from airflow_provider_stably.api.text import one_line
from airflow_provider_stably.exceptions import (
    StablyRunCancelledError,
    StablyRunError,
    StablyRunFailedError,
)
from airflow_provider_stably.runs.reference import RunReference

_TYPES: dict[str, type] = {
    **dict.fromkeys(("total", "passed", "failed", "skipped", "duration_ms", "queued_ms"), int),
    **dict.fromkeys(("failed_tests", "story"), list),
}
"""What a summary has besides texts."""

_TOO_MUCH = 10**15
"""No number of a summary is: ten thousand years have fewer milliseconds."""

_MOST_LINES, _LONGEST_LINE = 30, 500
"""Of the lists that are read back; those that are written are shorter."""

MAX_FAILED_TESTS = 20
"""How many failed tests are named; the counts are of all."""

MAX_SLOWEST_TESTS = 5
MAX_TITLE_CHARACTERS = 200
MAX_STATUS_CHARACTERS = 50

MAX_FAILED_BYTES = 4600
MAX_SLOWEST_BYTES = 1500
MAX_BRANCH_BYTES = 1200
MAX_MESSAGE_BYTES = 2000
"""How much they may take as JSON, where an emoji takes twelve bytes: an XCom stays below 16 kB."""

NOT_FAILED = frozenset({TestStatus.PASSED, TestStatus.SKIPPED})


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run, small enough for XCom, a trigger's event and one screen of log.

    :param status: The run's status; None if it was not read.
    :param total: Number of test cases; None if the run has no results. So are the three counts after it.
    :param failed: Test cases that neither passed nor were skipped.
    :param duration_ms: From start to finish, in milliseconds; None if not given.
    :param started_at: When it left the queue, ISO 8601; None if not given.
    :param queued_ms: From the start call to then, in milliseconds; None if not known.
    :param branch: The git branch that the answer names; None if it names none.
    :param failed_tests: Titles of failed tests, the first 20; fewer if they are long.
    :param story: Failed and slowest tests with status and duration, a line each.
    """

    run_id: str
    project_id: str
    run_url: str
    status: str | None = None
    total: int | None = None
    passed: int | None = None
    failed: int | None = None
    skipped: int | None = None
    duration_ms: int | None = None
    started_at: str | None = None
    queued_ms: int | None = None
    branch: str | None = None
    failed_tests: tuple[str, ...] = ()
    story: tuple[str, ...] = ()

    @classmethod
    def of(cls, reference: RunReference, run: Run | None) -> RunSummary:
        """Sum a run up.

        :param run: The run as last read; None if it was not.
        """
        named = cls(reference.run_id, reference.project_id, reference.run_url)
        if run is None:
            return named
        read = replace(
            named,
            status=_status(run),
            duration_ms=_duration_ms(run),
            started_at=None if run.started_at is None else run.started_at.isoformat(),
            branch=None if run.branch_name is None else _branch(run.branch_name),
        )
        results = run.test_results
        if results is None:
            return read
        failed = [result for result in results if result.status not in NOT_FAILED]
        listed = failed[: len(_that_fit(map(_failed_line, failed[:MAX_FAILED_TESTS]), MAX_FAILED_BYTES))]
        more = [f"  ... and {len(failed) - len(listed)} more"] if len(failed) > len(listed) else []
        return replace(
            read,
            total=len(results),
            passed=sum(result.status == TestStatus.PASSED for result in results),
            failed=len(failed),
            skipped=sum(result.status == TestStatus.SKIPPED for result in results),
            failed_tests=tuple(_title(result) for result in listed),
            story=(*map(_failed_line, listed), *more, *_slowest_lines(results)),
        )

    def with_queue_time(self, asked_at: float | None) -> RunSummary:
        """Add how long the run was in the queue.

        :param asked_at: When the start was asked for, in seconds since the epoch; None if that is not known.
        """
        try:
            started_at = datetime.fromisoformat(str(self.started_at)).timestamp()
        except (ValueError, OverflowError):
            return self
        if asked_at is None:
            return self
        # The two clocks are not the same: never less than nothing.
        return replace(self, queued_ms=max(0, round((started_at - asked_at) * 1000)))

    def return_value(self) -> dict[str, Any]:
        """Write what a task returns: the documented keys, plain JSON."""
        value = self.to_json()
        del value["story"]
        return value

    def to_json(self) -> dict[str, Any]:
        """Write everything, plain JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: object) -> RunSummary:
        """Read what :meth:`to_json` wrote and a database kept.

        :raises ValueError: if it is something else.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a run's summary, got {type(value).__name__}")
        run_id = check_id("run", value.get("run_id"))
        project_id = check_id("project", value.get("project_id"))
        bare = cls.of(RunReference(run_id, project_id), None)
        own = {"run_id", "project_id", "run_url"}  # as checked, and as made from that
        return replace(
            bare,
            **{
                name: _read_back(name, value[name])
                for name in asdict(bare)
                if name not in own and value.get(name) is not None
            },
        )

    @property
    def headline(self) -> str:
        """The result in one line: status, counts, address."""
        counts = "" if self.failed is None else f": {self.failed} of {self.total} tests failed"
        if self.failed == 0:
            counts = f": {self.passed} of {self.total} tests passed, {self.skipped} skipped"
        took = "" if self.duration_ms is None else f" in {_seconds(self.duration_ms)}"
        queued = "" if self.queued_ms is None else f", after {_seconds(self.queued_ms)} in the queue"
        branch = "" if self.branch is None else f", on branch {self.branch}"
        told = f"{self.status or 'was never read'}{counts}{took}{queued}{branch}"
        return f"Run {self.run_id} {told}; see {self.run_url}"

    @property
    def report(self) -> str:
        """The result with failed and slowest tests, on one screen."""
        return "\n".join([self.headline, *self.story])

    def with_message(self, message: str) -> dict[str, Any]:
        """Write the XCom ``summary``: everything, and one line on how the run, or the wait for it, ended."""
        shown = one_line(message, limit=MAX_MESSAGE_BYTES)
        return {**self.to_json(), "message": "".join(_that_fit(shown, MAX_MESSAGE_BYTES))}

    def error(self, *, min_tests: int = 0) -> StablyRunError | None:
        """Return the error that this run's end means; None if it passed.

        :param min_tests: How many test cases a run has to have for that.
        """
        if self.status == RunStatus.PASSED:
            if (self.total or 0) >= min_tests:
                return None
            ran = "without results" if self.total is None else f"with too few test cases ({self.total})"
            message = (
                f"Run {self.run_id} {self.status}, but {ran}; min_tests is {min_tests}: is the "
                f"Playwright project's name right? See {self.run_url}"
            )
            return StablyRunFailedError(message, run=self.with_message(message))
        kind = StablyRunCancelledError if self.status == RunStatus.CANCELLED else StablyRunFailedError
        named = ", ".join(self.failed_tests)
        message = f"{self.headline}{f'. Failed: {named}' if named else ''}"
        return kind(message, run=self.with_message(self.headline))


def _read_back(name: str, value: object) -> Any:
    """Return a value of a summary, as short and on as few lines as it was written.

    :raises ValueError: if it is of another type.
    """
    kind = _TYPES.get(name, str)
    if kind is str and isinstance(value, str):
        return one_line(value, limit=MAX_CHARACTERS)
    if kind is int and isinstance(value, int) and abs(value) < _TOO_MUCH:
        return value
    if kind is list and isinstance(value, list | tuple) and all(isinstance(line, str) for line in value):
        return tuple(one_line(line, limit=_LONGEST_LINE) for line in value[:_MOST_LINES])
    raise ValueError("a run's summary has a value of another type, or too big a number")


def is_another_branch(asked: str | None, told: str | None) -> bool:
    """Whether a run was associated with another branch than it was asked for, as far as its answer tells."""
    if asked is None or told is None or "***" in told:  # hidden, as it is in the environment overrides, too
        return False
    return _branch(asked) != told


def _duration_ms(run: Run) -> int | None:
    if run.started_at is None or run.finished_at is None or run.finished_at < run.started_at:
        return None
    return round((run.finished_at - run.started_at).total_seconds() * 1000)


def _branch(name: str) -> str:
    return "".join(_that_fit(one_line(name, limit=MAX_CHARACTERS), MAX_BRANCH_BYTES))


def _status(read: Run | TestResult) -> str:
    return str(read.status)[:MAX_STATUS_CHARACTERS]


def _title(result: TestResult) -> str:
    return result.title[:MAX_TITLE_CHARACTERS]


def _failed_line(result: TestResult) -> str:
    return f"  {_status(result)}  {_title(result)}{_took(result)}"


def _slowest_lines(results: Sequence[TestResult]) -> list[str]:
    timed = [(result.duration_ms, _title(result)) for result in results if result.duration_ms]
    slowest = nlargest(MAX_SLOWEST_TESTS, timed, key=itemgetter(0))
    lines = [f"    {_seconds(duration_ms)}  {title}" for duration_ms, title in slowest]
    return ["  slowest:", *_that_fit(lines, MAX_SLOWEST_BYTES)] if lines else []


def _that_fit(texts: Iterable[str], limit: int) -> list[str]:
    """Return the first lines of a list or characters of a text, as many as fit into so many bytes of JSON."""
    kept = list(texts)
    sizes = accumulate(len(json.dumps(text)) - len('""') for text in kept)
    return kept[: sum(size <= limit for size in sizes)]


def _took(result: TestResult) -> str:
    return "" if result.duration_ms is None else f" ({_seconds(result.duration_ms)})"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.1f} s"

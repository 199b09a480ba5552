"""Runs and test results as the API gives them.

Source: the vendor's documentation and open-source clients, November 2026. Only ``status`` decides a result,
so only ``status`` is required; any other field that is absent or unreadable becomes None, so that a change
the vendor makes to a detail cannot keep a finished run from being seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from airflow_provider_stably.api.redaction import Redactor
from airflow_provider_stably.api.text import one_line

MAX_CHARACTERS = 200
"""How much of a title, a branch's name, or a status that this version does not know is kept."""

_LONGEST_MS = 10**12
"""Some thirty years: a longer duration is not one."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Services that have no time may write the zero of their clock: this, or one in the year 1."""

_E = TypeVar("_E", bound=StrEnum)


class RunStatus(StrEnum):
    """A run's status, in the API's spelling."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PASSED = "PASSED"
    FAILED = "FAILED"
    TIMEDOUT = "TIMEDOUT"
    CANCELLED = "CANCELLED"
    INTERRUPTED = "INTERRUPTED"


LIVE_STATUSES = frozenset({RunStatus.QUEUED, RunStatus.RUNNING})


class TestStatus(StrEnum):
    """A test case's status, in the API's spelling."""

    __test__ = False  # pytest would collect the name

    RUNNING = "RUNNING"
    PASSED = "PASSED"
    FAILED = "FAILED"
    TIMEDOUT = "TIMEDOUT"
    SKIPPED = "SKIPPED"
    INTERRUPTED = "INTERRUPTED"


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test case of a finished run.

    :param title: The test's title; ``(no title)`` where the answer has none.
    :param status: A :class:`TestStatus`, or the API's own word where this version does not know it.
    :param duration_ms: How long it took, in milliseconds; None if not given.
    """

    __test__: ClassVar[bool] = False

    title: str
    status: TestStatus | str
    duration_ms: int | None = None

    @classmethod
    def from_json(cls, answer: Mapping[str, Any], redactor: Redactor | None = None) -> TestResult:
        """Read one entry of ``results.testCases``; parameters as of :meth:`Run.from_json`."""
        return cls(
            title=_text(answer.get("title"), redactor) or "(no title)",
            status=_status(TestStatus, answer.get("status"), redactor) or "UNKNOWN",
            duration_ms=_milliseconds(answer.get("durationMs")),
        )

    def to_json(self) -> dict[str, Any]:
        """Write the entry as the API would."""
        entry: dict[str, Any] = {"title": self.title, "status": str(self.status)}
        return entry if self.duration_ms is None else {**entry, "durationMs": self.duration_ms}


@dataclass(frozen=True, slots=True)
class Run:
    """A test run as one status answer describes it.

    :param run_id: The run's id; the answer does not repeat it.
    :param status: A :class:`RunStatus`, or the API's own word where this version does not know it.
    :param started_at: Aware UTC; None while queued or if not given.
    :param finished_at: Aware UTC; None while live or if not given.
    :param branch_name: Git branch the run is associated with; None if not given.
    :param test_results: One per test case; None if the answer has no results.
    """

    run_id: str
    status: RunStatus | str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    branch_name: str | None = None
    test_results: tuple[TestResult, ...] | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the run is over.

        A status that this version does not know is final only if the answer has a finish time or results.
        """
        if isinstance(self.status, RunStatus):
            return self.status not in LIVE_STATUSES
        return self.finished_at is not None or self.test_results is not None

    @property
    def is_passed(self) -> bool:
        """Whether the run succeeded: only PASSED does."""
        return self.status is RunStatus.PASSED

    @classmethod
    def from_json(cls, run_id: str, answer: object, redactor: Redactor | None = None) -> Run:
        """Read a status answer; its texts come out on one line and short.

        :param redactor: Takes secrets out of the texts; None if the answer is not a server's.
        :raises ValueError: if it is not an object with a ``status``; its text is the rest of a sentence.
        """
        if not isinstance(answer, Mapping):
            raise ValueError(f"has no run: expected an object, got {type(answer).__name__}")
        status = _status(RunStatus, answer.get("status"), redactor)
        if not status:
            found = type(answer.get("status")).__name__
            raise ValueError(f"has no run: expected 'status' to be a non-empty string, got {found}")
        return cls(
            run_id=run_id,
            status=status,
            started_at=_time(answer.get("startedAt")),
            finished_at=_time(answer.get("finishedAt")),
            branch_name=_text(answer.get("branchName"), redactor),
            test_results=_test_results(answer.get("results"), redactor),
        )

    def to_json(self) -> dict[str, Any]:
        """Write the run as a status answer would; what is None is left out."""
        cases = None if self.test_results is None else [result.to_json() for result in self.test_results]
        answer = {
            "status": str(self.status),
            "startedAt": _iso(self.started_at),
            "finishedAt": _iso(self.finished_at),
            "branchName": self.branch_name,
            "results": None if cases is None else {"testCases": cases},
        }
        return {name: value for name, value in answer.items() if value is not None}


def _status(enum: type[_E], value: object, redactor: Redactor | None) -> _E | str | None:
    # A status that is known is no secret, also if an environment override has the same value.
    known = enum.__members__.get(value) if isinstance(value, str) else None
    return known or _text(value, redactor)


def _text(value: object, redactor: Redactor | None) -> str | None:
    if not isinstance(value, str):
        return None
    return redactor.of(value, limit=MAX_CHARACTERS) if redactor else one_line(value, limit=MAX_CHARACTERS)


def _milliseconds(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return round(value) if 0 <= value < _LONGEST_MS else None  # also false for nan


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        # Assumed: a time without a zone is UTC (the vendor's examples all end in "Z").
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return time if time > _EPOCH else None


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat().replace("+00:00", "Z")  # as the API spells UTC


def _test_results(results: object, redactor: Redactor | None) -> tuple[TestResult, ...] | None:
    cases = results.get("testCases") if isinstance(results, Mapping) else None
    if not isinstance(cases, list):
        return None
    return tuple(TestResult.from_json(case, redactor) for case in cases if isinstance(case, Mapping))

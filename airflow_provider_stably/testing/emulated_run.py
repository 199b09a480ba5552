"""A run in the emulator; the Playwright project name it is started with decides how it goes. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_stably.api.models import LIVE_STATUSES, Run, RunStatus, TestResult, TestStatus

SCRIPTS: Mapping[str, tuple[str, str | None]] = {
    "passes": ("RUNNING", "PASSED"),
    "finds-no-tests": ("RUNNING", "PASSED"),  # as with a mistyped Playwright project
    "fails": ("RUNNING", "FAILED"),
    "times-out": ("RUNNING", "TIMEDOUT"),
    "is-interrupted": ("RUNNING", "INTERRUPTED"),
    "is-cancelled": ("RUNNING", "CANCELLED"),  # as if by a person, in the dashboard
    "hangs": ("RUNNING", None),
    "stays-queued": ("QUEUED", None),
    "pauses": ("PAUSED", "PASSED"),  # a live status that no client knows yet
    "ends-unknown": ("RUNNING", "ABANDONED"),  # a final one
}
"""Playwright project name to the status while the run goes on and the one it ends with (None: never)."""

_BAD_CASE = {
    "FAILED": TestStatus.FAILED,
    "TIMEDOUT": TestStatus.TIMEDOUT,
    "INTERRUPTED": TestStatus.INTERRUPTED,
}


@dataclass(slots=True)
class EmulatedRun:
    """A run in the emulator.

    :param started_with: The start's body. Not in the repr: it may hold secrets.
    :param statuses: If given, each status read moves on to the next, the last one stays; else time decides.
    :param cancelled_at: Aware UTC; None unless cancelled by a call.
    """

    run_id: str
    project_id: str
    script: str
    run_seconds: float
    created_at: datetime
    started_with: Mapping[str, Any] = field(default_factory=dict, repr=False)
    statuses: Sequence[str] = ()
    reads: int = 0
    cancelled_at: datetime | None = None

    def status(self, now: datetime) -> str:
        """Return the status at a time."""
        if self.cancelled_at is not None:
            return "CANCELLED"
        if self.statuses:
            return self.statuses[min(self.reads, len(self.statuses) - 1)]
        meanwhile, final = SCRIPTS.get(self.script, SCRIPTS["passes"])
        age = (now - self.created_at).total_seconds()
        if final is not None and age >= self.run_seconds:
            return final
        return "QUEUED" if age < self._queue_seconds else meanwhile

    @property
    def _queue_seconds(self) -> float:
        return 0.0 if self.statuses else min(1.0, self.run_seconds / 10)

    def is_live(self, now: datetime) -> bool:
        """Whether the run can be cancelled at a time.

        A status that no client knows is live if it is PAUSED or another one follows in ``statuses``.
        """
        status = self.status(now)
        if status in RunStatus.__members__:
            return status in LIVE_STATUSES
        return status == "PAUSED" or self.reads < len(self.statuses) - 1

    def describe(self, now: datetime) -> Run:
        """Return what a status answer says at a time."""
        status = self.status(now)
        over = status != "QUEUED" and not self.is_live(now)
        return Run(
            run_id=self.run_id,
            status=status,
            started_at=self.started_at(now),
            finished_at=self._finished_at(now) if over else None,
            branch_name=self.started_with.get("branch"),
            test_results=self._test_results(status) if over else None,
        )

    def started_at(self, now: datetime) -> datetime | None:
        """Return when the run left the queue; None if it had not at a time."""
        if self.script == "stays-queued":
            return None
        started_at = self.created_at + timedelta(seconds=self._queue_seconds)
        is_queued = self.status(now) == "QUEUED" or (self.cancelled_at or now) < started_at
        return None if is_queued else started_at

    def _finished_at(self, now: datetime) -> datetime:
        planned = self.created_at + timedelta(seconds=self.run_seconds)
        return self.cancelled_at or min(planned, now)

    def _test_results(self, status: str) -> tuple[TestResult, ...]:
        if self.script == "finds-no-tests":
            return ()
        each = round(self.run_seconds * 1000 / 3)
        last = _BAD_CASE.get(status, TestStatus.PASSED if status == RunStatus.PASSED else TestStatus.SKIPPED)
        return (
            TestResult("sign in", TestStatus.PASSED, each),
            TestResult("search the catalogue", TestStatus.SKIPPED),
            TestResult("check out a basket", last, each),
        )

"""How watching a run ended, and the error that this means for its task; also as a trigger's event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_provider_stably.api.models import Run, RunStatus
from airflow_provider_stably.api.text import MAX_SHOWN, one_line, shown
from airflow_provider_stably.exceptions import (
    StablyRunError,
    StablyRunLostError,
    StablyRunTimeoutError,
)
from airflow_provider_stably.runs.cancel import OVER, CancelOutcome
from airflow_provider_stably.runs.summary import MAX_MESSAGE_BYTES, RunSummary


class WatchEnd(StrEnum):
    """Why watching ended."""

    FINISHED = "finished"
    TIMED_OUT = "timed_out"
    DENIED = "denied"
    NOT_FOUND = "not_found"
    HANDED_BACK = "handed_back"
    """Only in a trigger: its machine cannot reach the API, so the worker goes on watching."""


@dataclass(frozen=True, slots=True)
class WatchResult:
    """How watching a run ended, in plain values.

    :param end: Why watching ended.
    :param run: The run as last seen.
    :param detail: What went wrong, for people.
    :param cancellation: The outcome of cancelling the run because watching ended before it did; None if that
        was not tried.
    :param deadline: When to give up a run that is watched on after all, in seconds since the epoch; None if
        it is over, or its time is.
    :param polled: The run as the poll that saw its end had it; None in an event.
    """

    end: WatchEnd
    run: RunSummary
    detail: str = ""
    cancellation: str | None = None
    deadline: float | None = None
    polled: Run | None = field(default=None, repr=False, compare=False)

    def to_event(self) -> dict[str, Any]:
        """Write a trigger's event: plain JSON, keys are only ever added."""
        return {
            "end": str(self.end),
            "run": self.run.to_json(),
            "detail": self.detail,
            "cancellation": self.cancellation,
            "deadline": self.deadline,
        }

    @classmethod
    def from_event(cls, event: object) -> WatchResult:
        """Read a trigger's event back; it crossed a database and perhaps an upgrade.

        :raises ValueError: if it is not one of ours.
        """
        if not isinstance(event, Mapping):
            raise ValueError(f"expected an event, got {type(event).__name__}")
        if event.get("end") not in list(WatchEnd):
            raise ValueError(f"{shown(event.get('end'))} is no end of a wait")
        end, run = WatchEnd(event["end"]), RunSummary.from_json(event.get("run"))
        cancellation, detail = event.get("cancellation"), event.get("detail", "")
        if end is WatchEnd.FINISHED and not isinstance(run.status, str):
            raise ValueError("a finished run without a status")
        if not isinstance(cancellation, str | None):
            raise ValueError(f"expected 'cancellation' to be text, got {type(cancellation).__name__}")
        if not isinstance(detail, str):
            raise ValueError(f"expected 'detail' to be text, got {type(detail).__name__}")
        deadline = event.get("deadline")
        if deadline is not None and not (isinstance(deadline, int | float) and 0 < deadline < 1e11):
            raise ValueError("expected 'deadline' to be seconds since the epoch")
        cancellation = cancellation and one_line(cancellation, limit=MAX_SHOWN)
        return cls(end, run, one_line(detail, limit=MAX_MESSAGE_BYTES), cancellation, deadline)

    @property
    def is_over(self) -> bool:
        """Whether the run is known to have ended."""
        return self.end is WatchEnd.FINISHED or self.cancellation in OVER

    def may_retry(self, *, next_try_knows_run: bool, may_be_our_cancel: bool) -> bool:
        """Whether another try of the task may help, and leaves no run behind.

        Not after a run that somebody cancelled on purpose, one that its cancel does not find either, or one
        that passed with too few tests. Nor while a run may be live that the next try would not know of: it
        would start another one beside it.

        :param next_try_knows_run: Whether the next try can find an unfinished run of this one.
        :param may_be_our_cancel: Whether an ``on_kill`` may have cancelled the run: of this try, or late of
            an earlier one that started it. Then a cancelled one says nothing about somebody's purpose.
        """
        if self.end is WatchEnd.FINISHED:
            if self.run.status == RunStatus.CANCELLED:
                return may_be_our_cancel
            return self.run.status != RunStatus.PASSED
        if self.end is WatchEnd.NOT_FOUND and self.cancellation in {None, CancelOutcome.NOT_FOUND}:
            return False
        return self.is_over or next_try_knows_run

    def error(self, *, min_tests: int = 0) -> StablyRunError | None:
        """Return the error that the task is to end with; None if the run passed.

        :param min_tests: How many test cases a run that passed has to have.
        """
        if self.end is WatchEnd.FINISHED:
            return self.run.error(min_tests=min_tests)
        cause = f" ({self.detail})" if self.detail else ""
        never_began = self.end is WatchEnd.TIMED_OUT and self.run.status == RunStatus.QUEUED
        why = "never left the queue in time" if never_began else _WHY[self.end]
        message = f"Run {self.run.run_id} {why}{cause}; {self._aftermath()}; see {self.run.run_url}"
        kind = StablyRunTimeoutError if self.end is WatchEnd.TIMED_OUT else StablyRunLostError
        return kind(message, run=self.run.with_message(message), is_over=self.is_over)

    def summary(self, error: StablyRunError | None) -> dict[str, Any]:
        """Write the XCom ``summary``; if the task ends with an error, that has the same one."""
        return self.run.with_message(self.run.headline) if error is None else dict(error.run)

    def _aftermath(self) -> str:
        last = f"last seen {self.run.status}" if self.run.status else "its status was never read"
        if self.cancellation is None:
            return f"{last}, left alone"
        if self.cancellation == CancelOutcome.CANCELLED:
            return f"{last}, now cancelled"
        return f"{last}, cancel result: {self.cancellation}, so it may still be running"


HANDED_BACK = "The triggerer could not watch run %s, so the worker does: %s"
"""What the log says of it."""

_WHY = {
    WatchEnd.TIMED_OUT: "was not over in time",
    WatchEnd.DENIED: "cannot be watched: the API has refused the key for minutes",
    WatchEnd.NOT_FOUND: "cannot be watched: the API has not found it for minutes",
    WatchEnd.HANDED_BACK: "cannot be watched in the triggerer",
}

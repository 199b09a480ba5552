"""What became of a cell of the matrix, judged by the emulator's runs and the task's state alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from airflow_provider_stably.testing.emulator import EmulatedRun


class CellVerdict(StrEnum):
    """A cell's verdict; the worst one that applies."""

    OK = "ok"
    DUP = "DUP"
    LEAK = "LEAK"
    FALSE_GREEN = "FALSE GREEN"
    FALSE_RED = "FALSE RED"


def judge(runs: Sequence[EmulatedRun], state: str, *, marked_by_user: bool = False) -> CellVerdict:
    """Judge what a task has left.

    :param runs: All that the task started, oldest first.
    :param state: The state it ended in.
    :param marked_by_user: Whether that state is a user's word, not the task's.
    """
    now = datetime.now(UTC)
    if any(run.is_live(now) or later.created_at < ended_at(run) for run, later in pairwise(runs)):
        return CellVerdict.DUP
    if any(run.is_live(now) for run in runs):
        return CellVerdict.LEAK
    has_passed = bool(runs) and runs[-1].status(now) == "PASSED"
    if state == "success" and not has_passed and not marked_by_user:
        return CellVerdict.FALSE_GREEN
    if state != "success" and has_passed and not marked_by_user:
        return CellVerdict.FALSE_RED
    return CellVerdict.OK


def ended_at(run: EmulatedRun) -> datetime:
    """Return when a run that is over ended."""
    return run.cancelled_at or run.created_at + timedelta(seconds=run.run_seconds)

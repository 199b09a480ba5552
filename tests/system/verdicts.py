"""The verdict on a cell of the matrix, from the emulator's runs and the task's state alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from airflow_provider_stably.testing.emulated_run import EmulatedRun


class CellVerdict(StrEnum):
    """How a cell ended, worst first: if several apply, the first counts.

    DUP: a second run was started while one was live. LEAK: a run is still live. FALSE_GREEN: the task
    succeeded although its last run has not passed. FALSE_RED: it failed although its last run has passed.
    """

    DUP = "DUP"
    LEAK = "LEAK"
    FALSE_GREEN = "FALSE GREEN"
    FALSE_RED = "FALSE RED"
    OK = "ok"


def judge(runs: Sequence[EmulatedRun], state: str, *, marked_by_user: bool = False) -> CellVerdict:
    """Return the verdict on a task that has ended.

    :param runs: All runs that the task started, oldest first.
    :param state: The state that the task ended in.
    :param marked_by_user: Whether a user set that state, so that it need not match the run's status.
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
    """Return when a run ended that is no longer live."""
    return run.cancelled_at or run.created_at + timedelta(seconds=run.run_seconds)

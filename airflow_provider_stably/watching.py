"""How a run is watched to its end: when to look, what a failed look means, when to stop."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from airflow_provider_stably.api import protocol
from airflow_provider_stably.api.models import Run, RunStatus
from airflow_provider_stably.cancellation import CancelOutcome, CancelResult, cancellation
from airflow_provider_stably.conversation import Once, Pause, Reconnect, Step
from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyError,
    StablyHTTPError,
    StablyNotFoundError,
)
from airflow_provider_stably.run_reference import RunReference

log = logging.getLogger(__name__)

SHORTEST_DELAY_SECONDS = 2.0
"""Between two looks at a young run."""

SHARE_OF_AGE = 0.1
"""Pause between two looks, as a share of the run's age: its end is seen within a tenth of its duration."""

JITTER = 0.1


class WatchEnd(StrEnum):
    """Why watching ended."""

    FINISHED = "finished"
    TIMED_OUT = "timed_out"
    DENIED = "denied"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class Watched:
    """What watching a run came to.

    :param run: The run as last read; None if it never could be.
    :param detail: What went wrong, for people; empty if nothing did.
    :param cancellation: What became of the run where it was cancelled because watching ended before it did.
    """

    end: WatchEnd
    run: Run | None = None
    detail: str = ""
    cancellation: CancelResult | None = None


Watching = Generator[Step, Any, Watched]


def next_delay(age: float, poll_interval: float) -> float:
    """Return how many seconds to wait before the next look.

    :param age: Seconds since the run was started, by the wall clock: a restarted triggerer goes on at the
        same pace instead of falling back to the shortest delay for every run at once.
    :param poll_interval: Longest delay, in seconds.
    :returns: A tenth of the age with up to 10 % jitter, between 2 s and the poll interval. Old runs are
        jittered too, below that limit: a triggerer that is restarted takes all up at once, and without
        jitter they would be looked at together ever after.
    """
    jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, hides nothing
    longest = poll_interval / (1 + JITTER)
    return min(max(SHARE_OF_AGE * age, SHORTEST_DELAY_SECONDS), longest) * jitter


def supervision(
    run: RunReference,
    *,
    started_at: float,
    deadline: float,
    poll_interval: float,
    cancel: bool,
    now: Callable[[], float] = time.time,
) -> Watching:
    """Watch a run to its end; where watching ends first, cancel it.

    A run that turns out to have ended after all, while it was to be cancelled, counts as watched to its end.

    :param cancel: Whether to cancel the run if watching ends first.
    """
    watched = yield from watching(
        run, started_at=started_at, deadline=deadline, poll_interval=poll_interval, now=now
    )
    if watched.end is WatchEnd.FINISHED or not cancel:
        return watched
    verdict = yield from cancellation(run)
    log.info("Run %s: %s, so it was cancelled: %s", run.run_id, watched.end, verdict.outcome)
    if verdict.outcome is CancelOutcome.ALREADY_FINISHED:
        try:
            last = yield protocol.get_run(run.project_id, run.run_id)
        except StablyError:
            log.warning("Run %s ended %s, but its results cannot be read", run.run_id, verdict.status)
            last = Run.from_json(run.run_id, {"status": verdict.status})
        return Watched(WatchEnd.FINISHED, last)
    return replace(watched, cancellation=verdict)


def watching(
    run: RunReference,
    *,
    started_at: float,
    deadline: float,
    poll_interval: float,
    now: Callable[[], float] = time.time,
) -> Watching:
    """Look at a run until it is over or the deadline has passed, with one last look then.

    A look that fails is logged and repeated at the next turn. Only two ends are fatal, each confirmed by a
    second look: a key that is refused again after reconnecting (it may have been rotated), and a run that is
    not found.

    :param started_at: When the run was started, in seconds since the epoch.
    :param deadline: When to stop, in seconds since the epoch.
    :param poll_interval: Longest pause between two looks, in seconds.
    :param now: Tells the present, in seconds since the epoch.
    """
    call = protocol.get_run(run.project_id, run.run_id)
    last: Run | None = None
    failure: StablyError | None = None
    while True:
        is_last_look = now() >= deadline
        asked_delay = 0.0
        try:
            looked: Run = yield Once(call)
        except StablyError as error:
            fatal = _fatal_end(error, failure)
            if fatal is not None:
                return Watched(fatal, last, str(error))
            log.warning("Run %s: %s; looking again later", run.run_id, error)
            failure = error
            asked_delay = _asked_delay(error)
        else:
            _log_look(looked, last)
            last, failure = looked, None
            if looked.is_finished:
                return Watched(WatchEnd.FINISHED, looked)
        if is_last_look:
            return Watched(WatchEnd.TIMED_OUT, last, "" if failure is None else str(failure))
        delay = max(next_delay(now() - started_at, poll_interval), asked_delay)
        yield Pause(max(0.0, min(delay, deadline - now())))
        if isinstance(failure, StablyAuthError):
            yield Reconnect.RECONNECT


def glance(
    run: RunReference, *, pause: float, refusal: StablyError | None = None
) -> Generator[Step, Any, Watched | None]:
    """Look at a run once; if that is refused, once more after a pause, and only that is believed.

    :param pause: Seconds between the two looks.
    :param refusal: What the first look came to, if this is the second.
    :returns: None if the run is not over yet, and if the look failed in passing.
    """
    try:
        looked: Run = yield protocol.get_run(run.project_id, run.run_id)
    except StablyError as error:
        fatal = _fatal_end(error, refusal)
        if fatal is not None:
            return Watched(fatal, None, str(error))
        log.warning("Run %s: %s; looking again later", run.run_id, error)
        if refusal is not None or not isinstance(error, StablyAuthError | StablyNotFoundError):
            return None
        refusal = error
    else:
        return Watched(WatchEnd.FINISHED, looked) if looked.is_finished else None
    yield Pause(pause)
    if isinstance(refusal, StablyAuthError):
        yield Reconnect.RECONNECT
    return (yield from glance(run, pause=pause, refusal=refusal))


def _fatal_end(error: StablyError, before: StablyError | None) -> WatchEnd | None:
    """Tell whether a failed look ends the watching: only what was confirmed by a second look does."""
    if isinstance(error, StablyAuthError) and isinstance(before, StablyAuthError):
        return WatchEnd.DENIED
    if isinstance(error, StablyNotFoundError) and isinstance(before, StablyNotFoundError):
        return WatchEnd.NOT_FOUND
    return None


def _asked_delay(error: StablyError) -> float:
    asked = error.retry_after if isinstance(error, StablyHTTPError) else None
    return min(asked or 0.0, protocol.MAX_RETRY_AFTER_SECONDS)


def _log_look(looked: Run, last: Run | None) -> None:
    if isinstance(looked.status, RunStatus):
        log.debug("Run %s is %s", looked.run_id, looked.status)
    elif last is None or last.status != looked.status:
        log.warning(
            "Run %s has the status %s, which this version does not know; it is taken as %s",
            looked.run_id,
            looked.status,
            "over, and not a success" if looked.is_finished else "still going on",
        )

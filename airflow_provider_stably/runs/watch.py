"""Watch a run to its end: when to poll, what a failed poll means, when to stop."""

from __future__ import annotations

import logging
import random
from dataclasses import replace

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.models import Run, RunStatus
from airflow_provider_stably.api.retries import MAX_RETRY_AFTER_SECONDS
from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyError,
    StablyHTTPError,
    StablyNotFoundError,
)
from airflow_provider_stably.runs.cancel import CancelOutcome, cancel
from airflow_provider_stably.runs.driver import Driver
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary
from airflow_provider_stably.runs.watch_result import WatchEnd, WatchResult

log = logging.getLogger(__name__)

SHORTEST_DELAY_SECONDS = 2.0
"""Between two polls of a young run."""

SHARE_OF_AGE = 0.1
"""Pause between two polls, as a share of the run's age."""

JITTER = 0.1


def next_delay(age: float, poll_interval: float) -> float:
    """Return how many seconds to wait before the next poll.

    :param age: Seconds since the run was started, by the wall clock: a restarted triggerer goes on at the
        same pace instead of falling back to the shortest delay for every run at once.
    :param poll_interval: Longest delay, in seconds.
    :returns: A tenth of the age with up to 10 % jitter, between 2 s and the poll interval. Old runs are
        jittered too, below that limit: a restarted triggerer polls all of them at once, and without jitter
        they would stay together ever after.
    """
    jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, hides nothing
    longest = poll_interval / (1 + JITTER)
    return min(max(SHARE_OF_AGE * age, SHORTEST_DELAY_SECONDS), longest) * jitter


async def watch_or_cancel(
    run: RunReference,
    stably: Driver,
    *,
    started_at: float,
    deadline: float,
    poll_interval: float,
    cancel_unfinished: bool,
) -> WatchResult:
    """Watch a run to its end; where watching ends first, cancel it.

    A run that turns out to be over when it is to be cancelled counts as watched to its end.

    :param cancel_unfinished: Whether to cancel the run if watching ends first.
    """
    result = await watch(run, stably, started_at=started_at, deadline=deadline, poll_interval=poll_interval)
    if result.end is WatchEnd.FINISHED or not cancel_unfinished:
        return result
    cancelled = await cancel(run, stably)
    log.info("Run %s: %s, so it was cancelled: %s", run.run_id, result.end, cancelled.outcome)
    if cancelled.outcome is not CancelOutcome.ALREADY_FINISHED:
        return replace(result, cancellation=str(cancelled.outcome))
    try:
        last = await stably.send(calls.get_run(run.project_id, run.run_id))
    except StablyError:
        log.warning("Run %s ended %s, but its results cannot be read", run.run_id, cancelled.status)
        last = Run.from_json(run.run_id, {"status": cancelled.status})
    return WatchResult(WatchEnd.FINISHED, RunSummary.of(run, last))


async def watch(
    run: RunReference,
    stably: Driver,
    *,
    started_at: float,
    deadline: float,
    poll_interval: float,
) -> WatchResult:
    """Poll a run until it is over or the deadline has passed, with one last poll then.

    A poll that fails is logged and repeated at the next turn. Only two failures end the watching, each
    confirmed by a second poll: a key that is refused again after reconnecting (it may have been rotated), and
    a run that is not found.

    :param started_at: When the run was started, in seconds since the epoch.
    :param deadline: When to stop, in seconds since the epoch.
    :param poll_interval: Longest pause between two polls, in seconds.
    """
    call = calls.get_run(run.project_id, run.run_id)
    last: Run | None = None
    failure: StablyError | None = None
    while True:
        is_last_poll = stably.now() >= deadline
        asked_delay = 0.0
        try:
            polled = await stably.send_once(call)
        except StablyError as error:
            fatal = fatal_end(error, failure)
            if fatal is not None:
                return WatchResult(fatal, RunSummary.of(run, last), str(error))
            log.warning("Run %s: %s; polling again later", run.run_id, error)
            failure = error
            asked_delay = _asked_delay(error)
        else:
            _log_poll(polled, last)
            last, failure = polled, None
            if polled.is_finished:
                return WatchResult(WatchEnd.FINISHED, RunSummary.of(run, polled))
        if is_last_poll:
            detail = "" if failure is None else str(failure)
            return WatchResult(WatchEnd.TIMED_OUT, RunSummary.of(run, last), detail)
        delay = max(next_delay(stably.now() - started_at, poll_interval), asked_delay)
        await stably.sleep(max(0.0, min(delay, deadline - stably.now())))
        if may_be_rotated_key(failure):
            await stably.reconnect()


async def poll_once(
    run: RunReference, stably: Driver, *, pause: float, refusal: StablyError | None = None
) -> WatchResult | None:
    """Poll a run once; if that is refused, once more after a pause, and only that is believed.

    :param pause: Seconds between the two polls.
    :param refusal: What the first poll came to, if this is the second.
    :returns: None if the run is not over yet, and if the poll failed in passing.
    """
    try:
        polled = await stably.send(calls.get_run(run.project_id, run.run_id))
    except StablyError as error:
        fatal = fatal_end(error, refusal)
        if fatal is not None:
            return WatchResult(fatal, RunSummary.of(run, None), str(error))
        log.warning("Run %s: %s; polling again later", run.run_id, error)
        if refusal is not None or not isinstance(error, StablyAuthError | StablyNotFoundError):
            return None
        refusal = error
    else:
        return WatchResult(WatchEnd.FINISHED, RunSummary.of(run, polled)) if polled.is_finished else None
    await stably.sleep(pause)
    if may_be_rotated_key(refusal):
        await stably.reconnect()
    return await poll_once(run, stably, pause=pause, refusal=refusal)


def may_be_rotated_key(failure: StablyError | None) -> bool:
    """Whether to look the connection up anew after this failure."""
    return isinstance(failure, StablyAuthError)


def fatal_end(error: StablyError, before: StablyError | None) -> WatchEnd | None:
    """Return how a failed poll ends the watching; None if it is not confirmed by the poll before."""
    if isinstance(error, StablyAuthError) and isinstance(before, StablyAuthError):
        return WatchEnd.DENIED
    if isinstance(error, StablyNotFoundError) and isinstance(before, StablyNotFoundError):
        return WatchEnd.NOT_FOUND
    return None


def _asked_delay(error: StablyError) -> float:
    asked = error.retry_after if isinstance(error, StablyHTTPError) else None
    return min(asked or 0.0, MAX_RETRY_AFTER_SECONDS)


def _log_poll(polled: Run, last: Run | None) -> None:
    if isinstance(polled.status, RunStatus):
        log.debug("Run %s is %s", polled.run_id, polled.status)
    elif last is None or last.status != polled.status:
        log.warning(
            "Run %s has the status %s, which this version does not know; it is taken as %s",
            polled.run_id,
            polled.status,
            "over, and not a success" if polled.is_finished else "still going on",
        )

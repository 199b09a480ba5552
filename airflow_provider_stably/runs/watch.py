"""Watch a run to its end: when to poll, and when to stop."""

from __future__ import annotations

import logging
import random
from dataclasses import replace

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.models import Run, RunStatus
from airflow_provider_stably.api.retries import asked_delay
from airflow_provider_stably.exceptions import StablyError
from airflow_provider_stably.runs.belief import REMINDER_SECONDS, Belief, Doubt
from airflow_provider_stably.runs.cancel import cancel
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

CANCEL_PATIENCE_SECONDS = 120.0
"""How long to go on cancelling a run whose watching ended before it did, while the API does not settle it."""

_ENDS = {
    Doubt.REFUSED: WatchEnd.DENIED,
    Doubt.MISSING: WatchEnd.NOT_FOUND,
    Doubt.LOCAL: WatchEnd.HANDED_BACK,
}


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


def is_queued_too_long(polled: Run, now: float, queue_deadline: float | None) -> bool:
    """Whether a run has been seen QUEUED once its time in the queue was over."""
    return polled.status is RunStatus.QUEUED and queue_deadline is not None and now >= queue_deadline


def pause(delay: float, now: float, deadline: float, queue_deadline: float | None) -> float:
    """Return how many seconds to wait before the next poll, so that there is one at each deadline to come."""
    deadlines = [deadline, *([queue_deadline] if queue_deadline is not None and queue_deadline > now else [])]
    return max(0.0, min(delay, *(at - now for at in deadlines)))


async def settle(run: RunReference, stably: Driver, result: WatchResult) -> WatchResult:
    """Cancel the run if watching stopped before it ended, and add the outcome to the result.

    A run that turns out to be over by itself counts as watched to its end; one handed back goes on.
    """
    if result.is_over or result.end is WatchEnd.HANDED_BACK:
        return result
    cancelled = await cancel(run, stably, patience=CANCEL_PATIENCE_SECONDS)
    log.info(
        "Run %s is given up (%s); cancel result: %s", run.run_id, result.end.replace("_", " "), cancelled
    )
    if cancelled.summary is None:
        return replace(result, cancellation=str(cancelled.outcome))
    return WatchResult(WatchEnd.FINISHED, cancelled.summary)


async def watch(
    run: RunReference,
    stably: Driver,
    belief: Belief,
    *,
    started_at: float,
    deadline: float,
    poll_interval: float,
    queue_deadline: float | None = None,
) -> WatchResult:
    """Poll a run until it is over or the deadline has passed, with one last poll then.

    A poll that fails is repeated at the next turn, until ``belief`` says that it has lasted for too long.

    :param started_at: When the run was started, in seconds since the epoch.
    :param deadline: When to stop, in seconds since the epoch.
    :param poll_interval: Longest pause between two polls, in seconds.
    :param queue_deadline: When to stop if the run is seen QUEUED then, in seconds since the epoch; None never
        stops for that.
    """
    call = calls.get_run(run.project_id, run.run_id)
    last: Run | None = None
    while True:
        is_last_poll = stably.now() >= deadline
        delay, detail = next_delay(stably.now() - started_at, poll_interval), ""
        try:
            # The last poll decides, so it is repeated within the retry policy.
            polled = await (stably.send(call) if is_last_poll else stably.send_once(call))
        except StablyError as error:
            detail = str(error)
            doubt = belief.failed(error, stably.now())
            if doubt is not None:
                return WatchResult(_ENDS[doubt], RunSummary.of(run, last), detail, deadline=deadline)
            # A doubt is believed once many polls have said it, also where the poll interval is an hour.
            delay = max(min(delay, REMINDER_SECONDS), asked_delay(error))
            needs_connection = _warn(run, belief, error, stably.now())
        else:
            belief.answered()
            needs_connection = False
            _log_poll(polled, last)
            last = polled
            if polled.is_finished:
                return WatchResult(WatchEnd.FINISHED, RunSummary.of(run, polled), polled=polled)
            if is_queued_too_long(polled, stably.now(), queue_deadline):
                detail = "its queue_timeout is over"
                return WatchResult(WatchEnd.TIMED_OUT, RunSummary.of(run, polled), detail)
        if is_last_poll:
            return WatchResult(WatchEnd.TIMED_OUT, RunSummary.of(run, last), detail)
        await stably.sleep(pause(delay, stably.now(), deadline, queue_deadline))
        if needs_connection:
            await stably.reconnect()


async def poll_once(run: RunReference, stably: Driver, belief: Belief) -> WatchResult | None:
    """Poll a run once.

    :param belief: Kept from poll to poll.
    :returns: None if the run is not over yet, or if the poll failed and that is not believed yet.
    """
    try:
        polled = await stably.send(calls.get_run(run.project_id, run.run_id))
    except StablyError as error:
        doubt = belief.failed(error, stably.now())
        if doubt is not None:
            return WatchResult(_ENDS[doubt], RunSummary.of(run, None), str(error))
        if _warn(run, belief, error, stably.now()):
            await stably.reconnect()
        return None
    belief.answered()
    return WatchResult(WatchEnd.FINISHED, RunSummary.of(run, polled)) if polled.is_finished else None


async def poll_again(run: RunReference, stably: Driver, result: WatchResult) -> WatchResult:
    """Poll a run that is not to be cancelled once more: its triggerer stopped watching before it ended.

    :returns: Handed back, where the run is live after all, unless its time is over.
    """
    try:
        polled = await stably.send(calls.get_run(run.project_id, run.run_id))
    except StablyError as error:
        log.info("Run %s: %s", run.run_id, error)
        return result
    if polled.is_finished:
        return WatchResult(WatchEnd.FINISHED, RunSummary.of(run, polled))
    return result if result.end is WatchEnd.TIMED_OUT else replace(result, end=WatchEnd.HANDED_BACK)


def _warn(run: RunReference, belief: Belief, error: StablyError, now: float) -> bool:
    """Warn of a failed poll, once a minute; return whether to read the connection again."""
    if not belief.remind(now):
        log.debug("Run %s: %s", run.run_id, error)
        return False
    log.warning("Run %s: %s; %s", run.run_id, error, belief)
    return belief.may_be_the_connection


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

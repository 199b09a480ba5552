"""Which calls are sent again, when, and what the last failure of a start means.

One policy for both clients, as arguments for tenacity; the clients differ only in who sleeps.
"""

from __future__ import annotations

import logging
import random
from functools import partial
from typing import Any

from tenacity import RetryCallState, retry_if_exception, stop_after_attempt, stop_before_delay

from airflow_provider_stably.api.calls import Call
from airflow_provider_stably.api.endpoint import DASHBOARD_URL
from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyError,
    StablyHTTPError,
    StablyUnreachableError,
)

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
"""How often a call is sent at most, the first time included."""

MAX_REPLAY_SECONDS = 120.0
"""Counted from the first attempt; a wait that would end later is not begun."""

FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 8.0
MAX_RETRY_AFTER_SECONDS = 60.0

RETRY_AFTER_JITTER = 0.25
"""How much longer than asked a call waits at most, as a share: or all that were asked come back together."""


def replay_policy(call: Call[Any], *, heeded: float = MAX_RETRY_AFTER_SECONDS) -> dict[str, Any]:
    """Return keyword arguments for ``tenacity.Retrying`` and ``tenacity.AsyncRetrying``.

    :param heeded: Up to how many seconds a Retry-After is heeded.
    """
    return {
        "retry": retry_if_exception(partial(may_replay, call)),
        "stop": stop_after_attempt(MAX_ATTEMPTS) | stop_before_delay(MAX_REPLAY_SECONDS),
        "wait": partial(_wait, heeded=heeded),
        "before_sleep": _log_replay,
        "reraise": True,
    }


def may_replay(call: Call[Any], error: BaseException) -> bool:
    """Whether a call that failed with this error may be sent again.

    A start may only if the request provably was not accepted: it never left, or the API said "later"
    (429, or 503 with Retry-After).
    """
    if isinstance(error, StablyUnreachableError):
        return call.replayable or not error.request_sent
    if not isinstance(error, StablyHTTPError):
        return False
    if call.replayable:
        return is_passing_status(error.status)
    return _asked_to_come_later(error)


def is_passing_status(status: int) -> bool:
    """Whether a status is temporary: the same call may succeed if it is sent again soon.

    That is 408, 425, 429 and every 5xx, front ends' 520 to 530 included, but for 501 and 505.
    """
    return status in {408, 425, 429} or (500 <= status <= 599 and status not in {501, 505})


def delay_before_replay(
    error: BaseException | None, attempt: int, *, heeded: float = MAX_RETRY_AFTER_SECONDS
) -> float:
    """Return the seconds to wait after this attempt failed with this error.

    Exponential, with up to half taken off at random so that many tasks that failed together do not come back
    together; longer if the API asks for it.

    :param attempt: 1 for the first.
    :param heeded: As of :func:`replay_policy`.
    """
    own = min(FIRST_DELAY_SECONDS * 2.0 ** (attempt - 1), MAX_DELAY_SECONDS) * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret
    return max(own, asked_delay(error, heeded=heeded))


def asked_delay(error: BaseException | None, *, heeded: float = MAX_RETRY_AFTER_SECONDS) -> float:
    """Return the seconds that the API asks to wait: at most a minute, and jittered upwards; 0 if it does not.

    :param error: The failure, whose Retry-After counts.
    :param heeded: As of :func:`replay_policy`.
    """
    asked = error.retry_after if isinstance(error, StablyHTTPError) else None
    return min(asked or 0.0, heeded) * random.uniform(1, 1 + RETRY_AFTER_JITTER)  # noqa: S311 - jitter, not a secret


def as_ambiguous_start(call: Call[Any], error: StablyError) -> StablyError:
    """Return the error of a start that may have been accepted; any other error as it is."""
    if call.replayable or _proves_not_accepted(error):
        return error
    message = (
        f"The answer to the start of a run in project {call.project_id} was lost, so an untracked run may "
        f"exist: look for it at {DASHBOARD_URL}/project/{call.project_id} before starting another. {error}"
    )
    return StablyAmbiguousStartError(message, project_id=call.project_id)


def _wait(state: RetryCallState, *, heeded: float) -> float:
    return delay_before_replay(_failure(state), state.attempt_number, heeded=heeded)


def _log_replay(state: RetryCallState) -> None:
    log.warning(
        "%s; attempt %d follows within %.1f s",
        _failure(state),
        state.attempt_number + 1,
        state.upcoming_sleep,
    )


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _asked_to_come_later(error: StablyHTTPError) -> bool:
    return error.status == 429 or (error.status == 503 and error.retry_after is not None)


def _proves_not_accepted(error: StablyError) -> bool:
    if isinstance(error, StablyUnreachableError):
        return not error.request_sent
    # 408: the server gave up on the request; whether before or after it was accepted is not known.
    if isinstance(error, StablyHTTPError):
        return (400 <= error.status <= 499 and error.status != 408) or _asked_to_come_later(error)
    return False

"""The replay policy as tenacity takes it: one for both clients, which differ only in who sleeps."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from tenacity import (
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
)

from airflow_provider_stably.api import protocol

log = logging.getLogger(__name__)


def replay_policy(call: protocol.Call[Any]) -> dict[str, Any]:
    """Keyword arguments for ``tenacity.Retrying`` and ``tenacity.AsyncRetrying``.

    :param call: The call that is sent.
    """
    return {
        "retry": retry_if_exception(partial(protocol.may_replay, call)),
        "stop": stop_after_attempt(protocol.MAX_ATTEMPTS) | stop_before_delay(protocol.MAX_REPLAY_SECONDS),
        "wait": _wait,
        "before_sleep": _log_replay,
        "reraise": True,
    }


def _wait(state: RetryCallState) -> float:
    return protocol.delay_before_replay(_failure(state), state.attempt_number)


def _log_replay(state: RetryCallState) -> None:
    log.warning(
        "%s; attempt %d follows in %.1f s",
        _failure(state),
        state.attempt_number + 1,
        state.upcoming_sleep,
    )


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None

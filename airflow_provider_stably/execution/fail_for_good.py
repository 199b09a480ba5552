"""Which errors a task may be retried after, and how the others end it for good."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_stably.api.retries import is_passing_status
from airflow_provider_stably.exceptions import (
    StablyCancelError,
    StablyConfigError,
    StablyHTTPError,
    StablyUnreachableError,
)

_NOT_ACCEPTED = frozenset({401, 403, 404, 409, 423, 425, 429})
"""Refusals that may be gone later. Outages send 401, 403 and 404, too."""


def may_retry(error: Exception) -> bool:
    """Whether another try of the task may help after this error, and starts no second run.

    It may if waiting can change the answer, and if a start that failed so provably was not accepted. After a
    wait, ``WatchResult.may_retry`` says it; after a cancel, ``runs.cancel.MAY_CHANGE``.
    """
    if isinstance(error, StablyConfigError):
        return error.may_pass
    if isinstance(error, StablyHTTPError):
        is_a_front_ends = 400 <= error.status <= 499 and not error.is_from_api  # who knows no argument
        return is_a_front_ends or error.status in _NOT_ACCEPTED or is_passing_status(error.status)
    return isinstance(error, StablyUnreachableError | StablyCancelError)


def task_error(error: Exception) -> Exception:
    """Return what a task raises for an error: itself if it may be retried; raise it ``from None``."""
    return error if may_retry(error) else not_retried(error)


def not_retried(error: Exception) -> AirflowFailException:
    """Return an error with the same text that Airflow does not retry; raise it ``from None``.

    The first one is its context and not its cause: Airflow would log the text of a cause a second time.
    """
    failure = AirflowFailException(str(error))
    failure.__context__ = error
    return failure

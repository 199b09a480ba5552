"""End a task for good: with the error that Airflow does not retry."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowFailException


def not_retried(error: Exception) -> AirflowFailException:
    """Return an error with the same text that Airflow does not retry; raise it ``from None``.

    The first one is its context and not its cause: Airflow would log the text of a cause a second time.
    """
    failure = AirflowFailException(str(error))
    failure.__context__ = error
    return failure

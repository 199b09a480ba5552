"""How long a deferred task may wait: by the wall clock, since no one process sees the whole of it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

DEFERRAL_GRACE_SECONDS = 300
"""How long after the trigger's own deadline Airflow gives up: only a dead triggerer gets there."""


def deferred_deadline(context: Any, *, from_time: float, timeout: float) -> float:
    """Return when a deferred task is to give up, in seconds since the epoch.

    The task's ``execution_timeout`` counts too, from the start of the task: Airflow 3 does not enforce it
    while a task is deferred.

    :param context: The task's context.
    :param from_time: When the wait began, in seconds since the epoch.
    :param timeout: Seconds to wait from then.
    """
    limit: timedelta | None = context["ti"].task.execution_timeout
    if limit is None:
        return from_time + timeout
    task_started_at: float = context["ti"].start_date.timestamp()
    return min(from_time + timeout, task_started_at + limit.total_seconds())


def deferral_timeout(deadline: float) -> timedelta:
    """Return how long Airflow itself is to wait for a trigger with this deadline."""
    return timedelta(seconds=max(0.0, deadline - time.time()) + DEFERRAL_GRACE_SECONDS)

"""How long a deferred task may wait: by the wall clock, since no one process sees the whole of it."""

from __future__ import annotations

import time
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

DEFERRAL_GRACE_SECONDS = 300
"""How long after the trigger's own deadline Airflow gives up: only a dead triggerer gets there."""

AIRFLOW_ENFORCES = find_spec("airflow.sdk") is None
"""Whether Airflow itself ends a deferred task at its ``execution_timeout``: 2.11 does. Delete with it."""

LONGEST_LEAD_SECONDS = 30
"""How long before Airflow the trigger gives up, at most: time to resume the task, which can name its run."""


def deferred_deadline(task: Any, context: Any, *, from_time: float) -> float:
    """Return when a deferred task is to give up, in seconds since the epoch.

    That is at its ``timeout``, or at its ``execution_timeout`` if that is earlier, which counts from the
    start of the task: Airflow 3 does not enforce it while a task is deferred. Airflow 2.11 does, with an
    error that names no run, so there the trigger is a little earlier.

    :param task: The operator or sensor.
    :param context: The task's context.
    :param from_time: When the wait began, in seconds since the epoch.
    """
    deadline: float = from_time + task.timeout
    if task.execution_timeout is None:
        return deadline
    task_started_at: float = context["ti"].start_date.timestamp()
    limit: float = task.execution_timeout.total_seconds()
    if AIRFLOW_ENFORCES:
        limit -= min(LONGEST_LEAD_SECONDS, limit / 10)
    return min(deadline, task_started_at + limit)


def deferral_timeout(deadline: float) -> timedelta:
    """Return how long Airflow itself is to wait for a trigger with this deadline."""
    return timedelta(seconds=max(0.0, deadline - time.time()) + DEFERRAL_GRACE_SECONDS)

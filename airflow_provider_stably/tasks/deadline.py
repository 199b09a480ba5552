"""How long a deferred task may wait: by the wall clock, as no process lives through the whole wait."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow_provider_stably.tasks.version_compat import AIRFLOW_ENFORCES_EXECUTION_TIMEOUT, task_started_at

TRIGGER_FAILED = "__fail__"
"""Airflow's name for the method to resume with after a trigger crashed or its deferral timed out."""

DEFERRAL_GRACE_SECONDS = 900
"""How long after the trigger's own deadline Airflow gives up: that happens only without a triggerer.

A trigger whose API is silent takes seven minutes for its last poll and its cancel.
"""

LONGEST_LEAD_SECONDS = 30
"""How long before Airflow the trigger gives up, at most: time to resume the task, which can name its run."""


def deferred_deadline(context: Any, *, from_time: float, timeout: float) -> float:
    """Return when a deferred task is to give up, in seconds since the epoch.

    That is after its ``timeout``, or after its ``execution_timeout`` (from the task's start) if that is
    earlier. Airflow 3 does not enforce the latter while a task is deferred; Airflow 2.11 does, with an error
    that names no run, so there the trigger is a little earlier.

    :param from_time: When the wait began, in seconds since the epoch.
    :param timeout: The task's own limit, in seconds from then on.
    """
    deadline = from_time + timeout
    execution_timeout: timedelta | None = context["task"].execution_timeout
    if execution_timeout is None:
        return deadline
    limit = execution_timeout.total_seconds()
    if AIRFLOW_ENFORCES_EXECUTION_TIMEOUT:
        limit -= min(LONGEST_LEAD_SECONDS, limit / 10)
    return min(deadline, task_started_at(context) + limit)


def deferral_timeout(deadline: float) -> timedelta:
    """Return how long Airflow itself is to wait for a trigger with this deadline."""
    return timedelta(seconds=max(0.0, deadline - time.time()) + DEFERRAL_GRACE_SECONDS)

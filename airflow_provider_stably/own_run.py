"""The callback that a task attaches to itself: its run goes when the whole worker was lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_stably.exceptions import StablyRunCancelledError, StablyRunFailedError


def cancel_run_on_failure(context: Mapping[str, Any]) -> None:
    """Cancel the run of a task that failed, unless it saw the run end. Never raises.

    Runs in the task's process, or in the dag processor if the whole worker was lost. May run twice and late.
    """
    from airflow_provider_stably.best_effort import best_effort
    from airflow_provider_stably.callback_cancelling import cancel_within_budget
    from airflow_provider_stably.pushed_runs import own_run_to_cancel

    task_id = getattr(context.get("ti"), "task_id", None)
    with best_effort(f"The run of task {task_id} could not be cancelled"):
        if run_has_ended(context):
            return
        if run := own_run_to_cancel(context["ti"]):
            cancel_within_budget([run])


def run_has_ended(context: Mapping[str, Any]) -> bool:
    """Whether a task failed because it saw its run end."""
    ended = (StablyRunFailedError, StablyRunCancelledError)
    exception = context.get("exception")
    return isinstance(exception, ended) or isinstance(getattr(exception, "__cause__", None), ended)

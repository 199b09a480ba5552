"""The failure callback that the operator adds to itself: it cancels the run after the worker was lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_stably.exceptions import find_run_error
from airflow_provider_stably.execution.callback_budget import budget_of, cancel_within_budget
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.connections import with_named_connection
from airflow_provider_stably.tasks.xcom import own_run_of_this_try


def cancel_own_run(context: Mapping[str, Any]) -> None:
    """Cancel the run of a task that failed, unless the task saw the run end. Never raises.

    Runs in the task's process, or in the dag processor if the whole worker was lost. May run twice and late.
    """
    task_id = getattr(context.get("ti"), "task_id", None)
    with best_effort(f"The run of task {task_id} could not be cancelled"):
        if run_has_ended(context):
            return
        own = own_run_of_this_try(context)
        if own is not None and own.cancel_on_kill:
            run = with_named_connection(own.run, context["task"])
            cancel_within_budget([run], budget_of(budget_owner(context)))


def budget_owner(context: Mapping[str, Any]) -> object:
    """Return whose callback a context is for: a try of a task, or a DAG run."""
    ti, dag_run = context.get("ti"), context.get("dag_run")
    if isinstance(dag_run, Mapping):  # a deadline's: plain values, and nothing else
        return dag_run.get("dag_id"), dag_run.get("dag_run_id")
    names = ("dag_id", "run_id", "task_id", "map_index", "try_number")
    if ti is None or "reason" in context:
        return getattr(context.get("dag"), "dag_id", None), context.get("run_id")
    return tuple(getattr(ti, name, None) for name in names)


def run_has_ended(context: Mapping[str, Any]) -> bool:
    """Whether a task failed knowing that its run had ended: by itself, or because the task cancelled it."""
    error = find_run_error(context.get("exception"))
    return error is not None and error.is_over

"""Cancel the runs that a notifier names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_stably.arguments import is_missing
from airflow_provider_stably.exceptions import StablyError
from airflow_provider_stably.execution.callback_budget import (
    Budget,
    acancel_within_budget,
    budget_of,
    cancel_within_budget,
)
from airflow_provider_stably.execution.options import NotifyOptions
from airflow_provider_stably.execution.own_callback import budget_owner, run_has_ended
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs.named_runs import read_runs
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.connections import with_named_connection
from airflow_provider_stably.tasks.triggerer import ask, started_by
from airflow_provider_stably.tasks.version_compat import with_readable_xcoms
from airflow_provider_stably.tasks.xcom import own_run_of_this_try, runs_of_tasks

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

_NO_TASK = "Neither task_ids nor run_ids is given, and this callback belongs to no task"
_FAILURE = "This callback could not cancel Stably runs"


def _failure(entry: object) -> str:
    return f"{_FAILURE} of {entry!r}"


@dataclass(slots=True, repr=False)
class Notify:
    """One call of the notifier.

    :param options: The notifier's options, not rendered: the notifier may be shared with other tasks.
    :param context: What Airflow passes. A DAG's callback has ``reason``, an arbitrary ``ti``, rarely none; a
        deadline's has ``dag_run`` as plain values, no ``ti``.
    :param render: Renders a value with a context, on a copy.
    """

    options: NotifyOptions
    context: Context
    render: Callable[[Any, Context], Any]

    def notify(self) -> None:
        """Cancel the runs; see the notifier."""
        with best_effort(_FAILURE):
            if self._is_dag_level:
                self.context = with_readable_xcoms(self.context)
            budget = budget_of(budget_owner(self.context))
            by_id = self.options.run_ids is not None
            runs = self._named_runs(budget) if by_id else self._pushed_runs()
            if self._are_any(runs):
                cancel_within_budget(runs, budget, stably_conn_id=self.options.stably_conn_id)

    async def async_notify(self) -> None:
        """Do the same on the event loop of a triggerer."""
        with best_effort(_FAILURE):
            budget = Budget()
            by_id = self.options.run_ids is not None
            runs = await (ask(self._named_runs, budget) if by_id else ask(self._runs_without_ti))
            if self._are_any(runs):
                await acancel_within_budget(runs, budget, stably_conn_id=self.options.stably_conn_id)

    @property
    def _is_dag_level(self) -> bool:
        return "reason" in self.context

    def _are_any(self, runs: Sequence[RunReference]) -> bool:
        if not runs:
            log.info("This callback cancels no Stably run")
        return bool(runs)

    def _named_runs(self, budget: Budget) -> list[RunReference]:
        task_ids = self.context["dag"].task_dict if "dag" in self.context else ()
        named = read_runs(self._rendered_run_ids(), task_ids=task_ids)
        for problem in named.problems("run_ids"):
            log.warning("%s; nothing is sent for it", problem)
        runs = [run.in_project("") for run in named.runs if run.project_id]
        without_project = [run for run in named.runs if not run.project_id]
        if without_project:
            with best_effort(_failure([run.run_id for run in without_project])):
                project_id = self._default_project(budget)
                runs += [run.in_project(project_id) for run in without_project]
        return runs

    def _default_project(self, budget: Budget) -> str:
        project_id = self.render(self.options.project_id, self.context)
        hook = StablyHook(self.options.stably_conn_id)
        given = None if is_missing(project_id) else project_id
        return budget.look_up(lambda: hook.resolve_project_id(given))

    def _rendered_run_ids(self) -> object:
        """Render each entry by itself: one that fails, for lack of an XCom perhaps, leaves the others."""
        run_ids = self.options.run_ids
        if not isinstance(run_ids, list | tuple):
            return self.render(run_ids, self.context)
        rendered: list[object] = []
        for entry in run_ids:
            with best_effort(_failure(entry)):
                rendered.append(self.render(entry, self.context))
        return rendered

    def _pushed_runs(self) -> list[RunReference]:
        task_ids = self.options.task_ids
        if "ti" not in self.context:
            return self._runs_without_ti()
        if task_ids is None:
            return self._own_run()
        started = runs_of_tasks(self.context, task_ids, of_all_indexes=self._is_dag_level)
        for problem in started.wrong:
            log.warning("%s", problem)
        return list(started.runs)

    def _runs_without_ti(self) -> list[RunReference]:
        """Return the runs by DAG id and run id: Airflow 3.2 and later may give no ``ti``."""
        if self.options.task_ids is None:
            raise StablyError(_NO_TASK)
        dag_id, dag_run_id = self._dag_run
        runs: list[RunReference] = []
        for name in self.options.task_ids:
            with best_effort(_failure(name)):
                for task_id, run in started_by(dag_id, dag_run_id, name):
                    runs.append(self._with_connection(run, task_id))
        return runs

    def _with_connection(self, run: RunReference, task_id: str) -> RunReference:
        """Give a run the connection that its task names; a deadline's context does not have the DAG."""
        context: Any = self.context
        task = context["dag"].task_dict.get(task_id) if "dag" in context else None
        return replace(run, stably_conn_id=None) if task is None else with_named_connection(run, task)

    @property
    def _dag_run(self) -> tuple[str, str]:
        """DAG id and run id; a deadline's context has them as plain values."""
        context: Any = self.context
        if "dag" in context:
            return context["dag"].dag_id, context["run_id"]
        return context["dag_run"]["dag_id"], context["dag_run"]["dag_run_id"]

    def _own_run(self) -> list[RunReference]:
        if self._is_dag_level:
            raise StablyError(_NO_TASK)
        own = None if run_has_ended(self.context) else own_run_of_this_try(self.context)
        return [] if own is None else [with_named_connection(own.run, self.context["task"])]

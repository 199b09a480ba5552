"""Cancel the runs that a notifier names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_stably.api.protocol import check_id
from airflow_provider_stably.asking import ask
from airflow_provider_stably.best_effort import best_effort
from airflow_provider_stably.callback_cancelling import acancel_within_budget, cancel_within_budget
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.own_run import run_has_ended
from airflow_provider_stably.pushed_runs import run_of_this_try, runs_of_tasks
from airflow_provider_stably.run_ids import is_missing, read_run_ids
from airflow_provider_stably.run_reference import RunReference
from airflow_provider_stably.triggerer_view import runs_started_by
from airflow_provider_stably.unsupervised import with_readable_xcoms

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier

log = logging.getLogger(__name__)

_FAILURE = "No Stably run was cancelled by this callback"


def _failure(entry: object) -> str:
    return f"No Stably run of {entry!r} was cancelled by this callback"


class CancelInCallback:
    """One call of the notifier.

    :param notifier: The notifier, shared with other tasks perhaps.
    :param context: What Airflow tells. A DAG's callback has ``reason``, an arbitrary ``ti``, rarely none; a
        deadline's has ``dag_run`` as plain values, no ``ti``.
    """

    def __init__(self, notifier: StablyCancelRunNotifier, context: Context) -> None:
        self._notifier = notifier
        self._context = context

    def notify(self) -> None:
        """Cancel the runs; see the notifier."""
        with best_effort(_FAILURE):
            if self._is_dag_level:
                self._context = with_readable_xcoms(self._context)
            runs = self._named_runs() if self._notifier.run_ids is not None else self._pushed_runs()
            if self._are_any(runs):
                cancel_within_budget(runs, stably_conn_id=self._notifier.stably_conn_id)

    async def async_notify(self) -> None:
        """Do the same on the event loop of a triggerer."""
        with best_effort(_FAILURE):
            by_id = self._notifier.run_ids is not None
            runs = await ask(self._named_runs) if by_id else await self._runs_started_by()
            if self._are_any(runs):
                await acancel_within_budget(runs, stably_conn_id=self._notifier.stably_conn_id)

    @property
    def _is_dag_level(self) -> bool:
        return "reason" in self._context

    def _are_any(self, runs: Sequence[RunReference]) -> bool:
        if not runs:
            log.info("Found no Stably run to cancel")
        return bool(runs)

    def _named_runs(self) -> list[RunReference]:
        named = read_run_ids(self._rendered_run_ids())
        for entry in named.malformed:
            log.warning("Not a run id, so nothing is sent for it: %s", entry)
        if not named.valid:
            return []
        project_id = self._render(self._notifier.project_id)
        hook = StablyHook(self._notifier.stably_conn_id)
        project_id = hook.resolve_project_id(None if is_missing(project_id) else project_id)
        return [RunReference(run_id, check_id("project", project_id)) for run_id in named.valid]

    def _rendered_run_ids(self) -> object:
        """Render each entry by itself: one that fails, for lack of an XCom perhaps, spares the others."""
        run_ids: object = self._notifier.run_ids
        if not isinstance(run_ids, list | tuple):
            return self._render(run_ids)
        rendered: list[object] = []
        for entry in run_ids:
            with best_effort(_failure(entry)):
                rendered.append(self._render(entry))
        return rendered

    def _pushed_runs(self) -> list[RunReference]:
        if "ti" not in self._context:
            raise ValueError("name run_ids: Airflow gave this callback no task instance to read XComs with")
        if self._notifier.task_ids is None:
            return self._own_run()
        pushed = runs_of_tasks(self._context, self._notifier.task_ids, of_all_indexes=self._is_dag_level)
        for problem in pushed.wrong:
            log.warning("%s", problem)
        return list(pushed.runs)

    def _own_run(self) -> list[RunReference]:
        if self._is_dag_level:
            raise ValueError("name task_ids or run_ids: a DAG's callback belongs to no task")
        own = None if run_has_ended(self._context) else run_of_this_try(self._context["ti"])
        return [own] if own else []

    async def _runs_started_by(self) -> list[RunReference]:
        if self._notifier.task_ids is None:
            raise ValueError("name task_ids or run_ids: a deadline's callback belongs to no task")
        dag_run: Any = self._context["dag_run"]
        runs: list[RunReference] = []
        for name in self._notifier.task_ids:
            with best_effort(_failure(name)):
                runs += await runs_started_by(dag_run["dag_id"], dag_run["dag_run_id"], name)
        return runs

    def _render(self, value: Any) -> Any:
        """Render a template on a copy: the notifier may be shared."""
        dag = self._context.get("dag")
        # At DAG level within dag.test() it is a serialized DAG, which has no environment.
        environment = self._notifier.get_template_env(dag if hasattr(dag, "get_template_env") else None)
        return self._notifier.render_template(value, self._context, environment)

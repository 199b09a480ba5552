"""Cancel Stably runs when something fails: as callback of a task, of a DAG, or of a deadline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_stably.arguments import check_conn_id, check_run_ids, check_text, read_task_ids
from airflow_provider_stably.hooks.stably import StablyHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, MappedOperator, TaskGroup, XComArg

    from airflow_provider_stably.execution.notify import Notify

    NamesTask: TypeAlias = str | BaseOperator | MappedOperator | TaskGroup | XComArg
    NamesRun: TypeAlias = str | BaseOperator | MappedOperator | XComArg


class StablyCancelRunNotifier(BaseNotifier):
    """Cancel Stably runs as a callback.

    For ``on_failure_callback``, ``on_retry_callback`` and ``on_skipped_callback`` of tasks, for a DAG's
    ``on_failure_callback``, and (the class, not an instance) for the ``AsyncCallback`` of a
    ``DeadlineAlert``.

    It never raises, writes no XCom, sends requests for some 15 s in all, and may run twice: a run that is
    over already is fine. It logs what became of each run. Nothing to cancel is fine, too.

    One instance may serve many tasks, so nothing is rendered in place; ``template_fields`` is empty.

    :param task_ids: The tasks of this DAG run whose Stably runs to cancel, or task groups, by id, as they
        are, or by their ``.output``; mapped tasks included, each run in its own project and with its own
        connection. Default, for tasks only: the run that the failing task itself has started, in this very
        try.
    :param run_ids: Instead: the runs, as the cancel operator's ``run_ids`` names them (templated, on a copy).
    :param project_id: Project of the runs in ``run_ids`` that come without one; default: the connection's
        (templated likewise).
    :param stably_conn_id: Id of a connection of type ``stably``, for ``run_ids``, and for ``task_ids`` where
        the DAG is not known: in a deadline's callback.
    :param context: Airflow passes it where it wants the class, not an instance.
    """

    def __init__(
        self,
        *,
        task_ids: NamesTask | Sequence[NamesTask] | None = None,
        run_ids: NamesRun | Sequence[NamesRun] | None = None,
        project_id: str | None = None,
        stably_conn_id: str = StablyHook.default_conn_name,
        context: Context | None = None,
    ) -> None:
        super().__init__()
        self.task_ids = read_task_ids(task_ids, run_ids=run_ids)
        self.run_ids = check_run_ids(run_ids, "run_ids")
        self.project_id = check_text(project_id, "project_id")
        self.stably_conn_id = check_conn_id(stably_conn_id)
        self.context = context or {}  # not passed on: the constructor of Airflow 2.11 takes none

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render nothing in place: at DAG level within ``dag.test()``, Airflow has no environment for it."""

    def notify(self, context: Context) -> None:
        """Cancel the runs, as callback of a task or a DAG."""
        self._execution(context).notify()

    async def async_notify(self, context: Context) -> None:
        """Cancel the runs, as callback of a deadline."""
        await self._execution(context).async_notify()

    def _execution(self, context: Context) -> Notify:
        from airflow_provider_stably.execution.notify import Notify
        from airflow_provider_stably.execution.options import NotifyOptions

        return Notify(NotifyOptions.of(self), context, self._render_on_copy)

    def _render_on_copy(self, value: Any, context: Context) -> Any:
        """Render a template on a copy: the notifier may be shared."""
        dag = context.get("dag")
        # At DAG level within dag.test() it is a serialized DAG, which has no environment.
        environment = self.get_template_env(dag if hasattr(dag, "get_template_env") else None)
        return self.render_template(value, context, environment)

"""The run of a task, as its XCom tells it to those who come after the process that started it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_stably.exceptions import StablyRunCancelledError, StablyRunFailedError

if TYPE_CHECKING:
    from airflow_provider_stably.run_reference import RunReference

log = logging.getLogger(__name__)


def own_run(ti: Any) -> RunReference | None:
    """Return the run that this try of a task started and that is to be cancelled with it.

    :param ti: The task instance of a context.
    :returns: None if there is none, only another try's, or one to be left alone.
    :raises ValueError: if the XCom is not one of ours.
    """
    from airflow_provider_stably.run_reference import STABLY_RUN_KEY, RunReference

    pushed = ti.xcom_pull(task_ids=ti.task_id, key=STABLY_RUN_KEY, map_indexes=ti.map_index)
    if pushed is None:
        return None
    run = RunReference.from_xcom(pushed)
    if pushed.get("try_number") != ti.try_number:
        log.info("Run %s belongs to another try than %s, so it is left alone", run.run_id, ti.try_number)
        return None
    return run if pushed.get("cancel_on_kill", True) else None


def cancel_own_run(context: Mapping[str, Any]) -> None:
    """Cancel the run of a task that failed; made to be a task's callback, so it never raises.

    Runs in the task's process, or in the dag processor if the whole worker was lost. May run twice and late.
    """
    from airflow_provider_stably.cancellation import cancellation
    from airflow_provider_stably.conversation import conduct
    from airflow_provider_stably.hooks.stably import StablyHook

    if _saw_the_end(context.get("exception")):
        return
    ti = context["ti"]
    try:
        run = own_run(ti)
        if run is None:
            return
        hook = StablyHook(run.stably_conn_id or StablyHook.default_conn_name)
        verdict = conduct(cancellation(run), hook.client)
        log.info("Run %s: its task failed, so it was cancelled: %s", run.run_id, verdict.outcome)
    except Exception:
        log.warning("The run of task %s could not be cancelled", ti.task_id, exc_info=True)


def _saw_the_end(exception: object) -> bool:
    """Whether the task failed because it saw its run end."""
    ended = (StablyRunFailedError, StablyRunCancelledError)
    return isinstance(exception, ended) or isinstance(getattr(exception, "__cause__", None), ended)

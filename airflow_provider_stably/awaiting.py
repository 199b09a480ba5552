"""Whether a deferred task still waits for a run: what a trigger that is being ended has to know."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import TaskInstanceState, XCom

from airflow_provider_stably.asking import ask
from airflow_provider_stably.run_reference import STABLY_RUN_KEY


async def is_still_deferred(ti: Any, run_id: str) -> bool:
    """Tell whether a task instance is deferred, and for this very run.

    :param ti: The trigger's ``task_instance``.
    """
    return await ask(_is_still_deferred, ti, run_id)


def _is_still_deferred(ti: Any, run_id: str) -> bool:
    if _state(ti) != TaskInstanceState.DEFERRED:
        return False
    pushed = XCom.get_value(ti_key=ti.key, key=STABLY_RUN_KEY)
    return bool(pushed) and pushed.get("run_id") == run_id


def _state(ti: Any) -> str | None:
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    except ImportError:  # Airflow 2.11; delete with it
        return _state_in_database(ti)
    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    name = ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
    state: str | None = states.get(ti.run_id, {}).get(name)
    return state


def _state_in_database(ti: Any) -> str | None:
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        query = session.query(TaskInstance.state).filter_by(
            dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index
        )
        state: str | None = query.scalar()
    return state

"""Reading XComs in a DAG's callback within ``dag.test()``: Airflow 3 makes it without a supervisor to ask."""

from __future__ import annotations

from typing import Any


def able_to_read(ti: Any) -> Any:
    """Return the task instance itself, or within ``dag.test()`` the same one as the database has it.

    :param ti: The task instance of a DAG callback's context.
    """
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:  # Airflow 2.11; delete with it
        return ti
    if hasattr(task_runner, "SUPERVISOR_COMMS"):
        return ti
    from airflow.models import TaskInstance

    return TaskInstance.get_task_instance(
        dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index
    )

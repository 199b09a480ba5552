"""Which runs a task of a DAG run has started, as a triggerer sees it, which has no task instance."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import XCom

from airflow_provider_stably.asking import ask
from airflow_provider_stably.run_reference import STABLY_RUN_KEY, RunReference


async def runs_started_by(dag_id: str, dag_run_id: str, name: str) -> list[RunReference]:
    """Return the runs that a task or task group has started, mapped ones included (Airflow 3.1 and later).

    :param name: The task or task group, with its task groups' prefix.
    :raises ValueError: if an XCom of that key is not ours.
    """
    return await ask(_runs, dag_id, dag_run_id, name)


def _runs(dag_id: str, dag_run_id: str, name: str) -> list[RunReference]:
    runs = []
    for task_id, map_index in _instances(dag_id, dag_run_id, name):
        pushed = XCom.get_one(
            key=STABLY_RUN_KEY, dag_id=dag_id, run_id=dag_run_id, task_id=task_id, map_index=map_index
        )
        if pushed is not None:
            runs.append(RunReference.from_xcom(pushed))
    return runs


def _instances(dag_id: str, dag_run_id: str, name: str) -> list[tuple[str, int]]:
    """Return task id and map index of each instance that a name means, -1 for a task that is not mapped.

    Airflow writes them as one text, ``<id>`` or ``<id>_<index>``. Within a task group that may mean either.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    which: dict[str, Any] = {"dag_id": dag_id, "run_ids": [dag_run_id]}
    of_task = RuntimeTaskInstance.get_task_states(**which, task_ids=[name]).get(dag_run_id, {})
    if of_task:
        return [(name, -1) if text == name else _mapped(text) for text in of_task]
    of_group = RuntimeTaskInstance.get_task_states(**which, task_group_id=name).get(dag_run_id, {})
    mapped = [_mapped(text) for text in of_group if text.rpartition("_")[2].isdecimal()]
    return [(text, -1) for text in of_group] + mapped


def _mapped(text: str) -> tuple[str, int]:
    task_id, _, index = text.rpartition("_")
    return task_id, int(index)

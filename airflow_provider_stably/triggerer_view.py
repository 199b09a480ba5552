"""Which runs the tasks of a DAG run have started, as a triggerer sees it, which has no task instance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import XCom

from airflow_provider_stably.asking import ask
from airflow_provider_stably.run_reference import STABLY_RUN_KEY, RunReference


async def runs_seen_by_triggerer(
    dag_id: str, dag_run_id: str, names: str | Sequence[str]
) -> list[RunReference]:
    """Return the runs that tasks or task groups have started, mapped ones included (Airflow 3.1 and later).

    :param names: Tasks or task groups, one or several, with their task groups' prefix.
    :raises ValueError: if an XCom of that key is not ours.
    """
    return await ask(_runs, dag_id, dag_run_id, names)


def _runs(dag_id: str, dag_run_id: str, names: str | Sequence[str]) -> list[RunReference]:
    runs: dict[RunReference, None] = {}
    for name in [names] if isinstance(names, str) else names:
        for instance in _instances(dag_id, dag_run_id, name):
            for task_id, map_index in _meanings(instance):
                pushed = XCom.get_one(
                    key=STABLY_RUN_KEY, dag_id=dag_id, run_id=dag_run_id, task_id=task_id, map_index=map_index
                )
                if pushed is not None:
                    runs[RunReference.from_xcom(pushed)] = None
    return list(runs)


def _instances(dag_id: str, dag_run_id: str, name: str) -> list[str]:
    """Return the instances that a name means, as Airflow writes them: the task's id, or ``<id>_<index>``."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    which: dict[str, Any] = {"dag_id": dag_id, "run_ids": [dag_run_id]}
    states = RuntimeTaskInstance.get_task_states(**which, task_ids=[name])
    if not states:
        states = RuntimeTaskInstance.get_task_states(**which, task_group_id=name)
    return list(states.get(dag_run_id, {}))


def _meanings(instance: str) -> Iterator[tuple[str, int]]:
    yield instance, -1
    task_id, _, index = instance.rpartition("_")
    if index.isdecimal():
        yield task_id, int(index)

"""Ask Airflow for states and XComs where no worker's task instance is: in triggers, and in some callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from airflow.providers.common.compat.sdk import TaskInstanceState, XCom
from asgiref.sync import sync_to_async

from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.version_compat import state_of_task, states_by_name
from airflow_provider_stably.tasks.xcom import STABLY_RUN_KEY

T = TypeVar("T")


async def ask(question: Callable[..., T], *arguments: Any) -> T:
    """Run a function that talks to Airflow in a thread and return its result."""
    # Not asyncio.to_thread: Airflow 3.0 and 3.1 would read the answer on an event loop of the thread's own,
    # which fails, and the stray answer would end the triggerer. Remove when the oldest supported is 3.2.
    return await sync_to_async(question, thread_sensitive=False)(*arguments)


async def is_still_deferred(ti: Any, run_id: str) -> bool:
    """Tell whether a trigger's task instance is deferred, and for this very run."""
    return await ask(_is_still_deferred, ti, run_id)


def started_by(dag_id: str, dag_run_id: str, name: str) -> list[tuple[str, RunReference]]:
    """Return the runs that a task or task group has started, each with its task's id (Airflow 3.1 and later).

    Needs no task instance, only DAG id and run id; blocks.

    :param name: The task or task group, with its task groups' prefix. Of an instance whose XCom cannot be
        read there is a warning: it must not hide the runs of the others.
    """
    runs = []
    for task_id, map_index in _instances(dag_id, dag_run_id, name):
        with best_effort(f"The XCom {STABLY_RUN_KEY!r} of task {task_id!r} cannot be read"):
            pushed = XCom.get_one(
                key=STABLY_RUN_KEY, dag_id=dag_id, run_id=dag_run_id, task_id=task_id, map_index=map_index
            )
            if pushed is not None:
                runs.append((task_id, RunReference.from_json(pushed)))
    return runs


def _is_still_deferred(ti: Any, run_id: str) -> bool:
    if state_of_task(ti) != TaskInstanceState.DEFERRED:
        return False
    pushed = XCom.get_value(ti_key=ti.key, key=STABLY_RUN_KEY)
    return bool(pushed) and pushed.get("run_id") == run_id


def _instances(dag_id: str, dag_run_id: str, name: str) -> list[tuple[str, int]]:
    """Return task id and map index of each instance that a name means, -1 for a task that is not mapped.

    Airflow writes them as one text, ``<id>`` or ``<id>_<index>``. Within a task group that may mean either.
    """
    of_task = states_by_name(dag_id, dag_run_id, task_ids=[name])
    if of_task:
        return [(name, -1) if text == name else _mapped(text) for text in of_task]
    of_group = states_by_name(dag_id, dag_run_id, task_group_id=name)
    mapped = [_mapped(text) for text in of_group if text.rpartition("_")[2].isdecimal()]
    # A task outside the group may have the name that is left; then the group lacks some of its instances.
    within = {
        task_id
        for task_id in {task_id for task_id, _ in mapped}
        if states_by_name(dag_id, dag_run_id, task_ids=[task_id]).keys() <= of_group.keys()
    }
    return [(text, -1) for text in of_group] + [instance for instance in mapped if instance[0] in within]


def _mapped(text: str) -> tuple[str, int]:
    task_id, _, index = text.rpartition("_")
    return task_id, int(index)

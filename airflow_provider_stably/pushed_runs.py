"""Which runs the tasks of a DAG run have started, as their XCom ``stably_run`` says.

Read through a context's task instance: that works in a task, its callbacks, and the dag processor.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from airflow_provider_stably.run_reference import STABLY_RUN_KEY, RunReference

log = logging.getLogger(__name__)


def run_of_this_try(ti: Any) -> RunReference | None:
    """Return the run that this try of a task started.

    :param ti: The task instance of a context.
    :returns: None if there is none, or only another try's: a callback may come late.
    :raises ValueError: if the XCom is not one of ours.
    """
    pushed = _pushed_by_this_try(ti)
    return None if pushed is None else RunReference.from_xcom(pushed)


def own_run_to_cancel(ti: Any) -> RunReference | None:
    """Return the same, but None if the task leaves its run alone (``cancel_on_kill=False``)."""
    pushed = _pushed_by_this_try(ti)
    return (
        None if pushed is None or not pushed.get("cancel_on_kill", True) else RunReference.from_xcom(pushed)
    )


def runs_of(ti: Any, task_id: str, *, map_index: int | None = None) -> list[RunReference]:
    """Return the runs that a task of the same DAG run started; none is an empty list.

    :param ti: Any task instance of the DAG run.
    :param task_id: The task that started them, with its task groups' prefix.
    :param map_index: Which of a mapped task's instances; None means all.
    :raises ValueError: if an XCom of that key is not ours.
    """
    which = {} if map_index is None else {"map_indexes": map_index}
    pulled = ti.xcom_pull(task_ids=task_id, key=STABLY_RUN_KEY, **which)
    if pulled is None:
        return []
    # One value for a plain task; for a mapped one a list, or on 2.11 a lazy sequence.
    values = [pulled] if isinstance(pulled, Mapping | str) else list(pulled)
    return [RunReference.from_xcom(value) for value in values if value is not None]


def shared_map_index(context: Any, task_id: str) -> int | None:
    """Return the map index that a task's word about another task means, None if it means all of them.

    Within a mapped task group that is its own: the runs of other indexes belong to its siblings.

    :param context: The task's context.
    :param task_id: The other task.
    """
    group = context["task"].get_closest_mapped_task_group()
    others = context["dag"].task_dict[task_id].get_closest_mapped_task_group()
    index: int | None = context["ti"].map_index if group is not None and others is group else None
    return index


def tasks_named(dag: Any, names: Iterable[str]) -> list[str]:
    """Return the ids of the tasks that names mean: tasks, or task groups with all their tasks.

    :param names: With their task groups' prefix.
    :raises ValueError: if the DAG has no such task or group.
    """
    groups = dag.task_group_dict
    task_ids: dict[str, None] = {}
    for name in names:
        if name not in dag.task_dict and name not in groups:
            close = get_close_matches(name, [*dag.task_dict, *groups], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"task_ids: this DAG has no task {name!r}{hint}")
        members = [name] if name in dag.task_dict else [task.task_id for task in groups[name].iter_tasks()]
        task_ids |= dict.fromkeys(members)
    return list(task_ids)


def has_run_of_another_try(ti: Any) -> bool:
    """Whether the run that a task's XCom names was started by another of its tries.

    :raises ValueError: if the XCom is not one of ours.
    """
    pushed = _pushed(ti)
    return pushed is not None and pushed.get("try_number") != ti.try_number


def _pushed_by_this_try(ti: Any) -> Mapping[str, Any] | None:
    pushed = _pushed(ti)
    if pushed is None or pushed.get("try_number") == ti.try_number:
        return pushed
    log.info(
        "Run %s belongs to another try than %s, so it is left alone", pushed.get("run_id"), ti.try_number
    )
    return None


def _pushed(ti: Any) -> Mapping[str, Any] | None:
    pushed = ti.xcom_pull(task_ids=ti.task_id, key=STABLY_RUN_KEY, map_indexes=ti.map_index)
    if pushed is not None and not isinstance(pushed, Mapping):
        raise ValueError(f"expected an object, got {type(pushed).__name__}")
    return pushed

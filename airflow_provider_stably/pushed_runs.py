"""Which runs the tasks of a DAG run have started, as their XCom ``stably_run`` says.

Read through a context's task instance: that works in a task, its callbacks, and the dag processor.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from airflow_provider_stably.best_effort import best_effort
from airflow_provider_stably.run_reference import STABLY_RUN_KEY, RunReference
from airflow_provider_stably.unsupervised import can_pull_xcoms

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


@dataclass(frozen=True, slots=True)
class PushedRuns:
    """The runs that tasks started, each once, and what could not be read.

    :param wrong: Names that mean no task and XComs that are not ours, told for people.
    :param unread: XComs that may be read at another try, told for people.
    """

    runs: Sequence[RunReference]
    wrong: Sequence[str]
    unread: Sequence[str]


def runs_of_tasks(context: Any, names: Iterable[str], *, of_all_indexes: bool = False) -> PushedRuns:
    """Return the runs that named tasks of a context's DAG run started; what cannot be read spares the rest.

    :param names: Tasks, or task groups with all their tasks, with their task groups' prefix.
    :param of_all_indexes: Whether a mapped task group's other indexes are meant too, where one is named
        within it.
    """
    runs: dict[RunReference, None] = {}
    task_ids, wrong = _tasks_named(context["dag"], names)
    unread: list[str] = []
    for task_id in task_ids:
        xcom = f"The XCom {STABLY_RUN_KEY!r} of task {task_id!r}"
        values: list[object] | None = None
        with best_effort(f"{xcom} cannot be read"):
            index = None if of_all_indexes else _shared_map_index(context, task_id)
            values = _values(context["ti"], task_id, map_index=index)
        if values is None:
            unread.append(f"{xcom} cannot be read now; the log has the cause")
        for value in values or []:
            try:
                runs[RunReference.from_xcom(value)] = None
            except ValueError as error:
                wrong.append(f"{xcom} is not one of this provider's: {error}")
    return PushedRuns(list(runs), list(dict.fromkeys(wrong)), unread)


def _values(ti: Any, task_id: str, *, map_index: int | None) -> list[object]:
    """Return what a task of the same DAG run pushed: an entry for each run.

    :param map_index: Which of a mapped task's instances; None means all.
    """
    pulled = _pull(ti, task_id, **({} if map_index is None else {"map_indexes": map_index}))
    if pulled is None:
        log.info("Task %s started no Stably run", task_id)
        return []
    # One value for a plain task; for a mapped one a list, or on 2.11 a lazy sequence.
    is_one = isinstance(pulled, Mapping | str) or not isinstance(pulled, Iterable)
    values = [pulled] if is_one else list(pulled)
    return [value for value in values if value is not None]


def _shared_map_index(context: Any, task_id: str) -> int | None:
    """Return the map index that a task's word about another task means, None if it means all of them.

    Within a mapped task group that is its own: the runs of other indexes belong to its siblings.

    :param context: The task's context.
    :param task_id: The other task.
    """
    group = context["task"].get_closest_mapped_task_group()
    others = context["dag"].task_dict[task_id].get_closest_mapped_task_group()
    index: int | None = context["ti"].map_index if group is not None and others is group else None
    return index


def _tasks_named(dag: Any, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the ids of the tasks that names mean, and what is wrong with the names that mean none."""
    groups = dag.task_group_dict
    task_ids: dict[str, None] = {}
    wrong: list[str] = []
    for name in names:
        if name in dag.task_dict:
            task_ids[name] = None
        elif name in groups:
            task_ids |= dict.fromkeys(task.task_id for task in groups[name].iter_tasks())
        else:
            close = get_close_matches(name, [*dag.task_dict, *groups], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            wrong.append(f"task_ids: this DAG has no task {name!r}{hint}")
    return list(task_ids), wrong


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
    pushed = _pull(ti, ti.task_id, map_indexes=ti.map_index)
    if pushed is not None and not isinstance(pushed, Mapping):
        raise ValueError(f"expected an object, got {type(pushed).__name__}")
    return pushed


def _pull(ti: Any, task_id: str, **which: int) -> Any:
    if not can_pull_xcoms():
        raise RuntimeError("The dag processor of Airflow 3.0 cannot read XComs")
    return ti.xcom_pull(task_ids=task_id, key=STABLY_RUN_KEY, **which)

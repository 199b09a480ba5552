"""The XCom ``stably_run``: which runs the tasks of a DAG run have started.

Read through a context's task instance: that works in a task, its callbacks, and the dag processor.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.connections import with_named_connection
from airflow_provider_stably.tasks.start_record import StartRecords
from airflow_provider_stably.tasks.version_compat import can_pull_xcoms, can_read_task_state_store

log = logging.getLogger(__name__)

STABLY_RUN_KEY = "stably_run"
"""A key of this provider's own: other providers push ``run_id`` too."""


@dataclass(frozen=True, slots=True)
class PushedRun:
    """A run as the task that started it pushed it.

    :param try_number: The task's try that started the run: callbacks of other tries leave it alone.
    :param cancel_on_kill: Whether the task's own callback is to cancel it.
    """

    run: RunReference
    try_number: int | None
    cancel_on_kill: bool = True

    def to_xcom(self) -> dict[str, str | float | None]:
        """Write the XCom ``stably_run``; keys are only ever added."""
        return {
            "run_id": self.run.run_id,
            "project_id": self.run.project_id,
            "run_url": self.run.run_url,
            "try_number": self.try_number,
            "stably_conn_id": self.run.stably_conn_id,
            "started_at": self.run.started_at,
            "cancel_on_kill": self.cancel_on_kill,
        }

    @classmethod
    def from_xcom(cls, value: object) -> PushedRun:
        """Read the XCom ``stably_run``.

        :raises ValueError: if it is not an object with a run id and a project id.
        """
        run = RunReference.from_json(value)
        fields = cast("Mapping[str, Any]", value)
        return cls(run, fields.get("try_number"), bool(fields.get("cancel_on_kill", True)))


def own_run(ti: Any) -> PushedRun | None:
    """Return the run that a task has pushed, in this try or in an earlier one; None if there is none.

    :param ti: The task instance of a context.
    :raises ValueError: if the XCom is not one of ours.
    """
    # A plain task's without an index: then Airflow 3 logs no error where there is none.
    which = {} if ti.map_index < 0 else {"map_indexes": ti.map_index}
    pushed = _pull(ti, ti.task_id, **which)
    return None if pushed is None else PushedRun.from_xcom(pushed)


def own_run_of_this_try(context: Any) -> PushedRun | None:
    """Return the run of a callback's own task, but None for a later try's: a callback may come late.

    An earlier try's XCom is there as long as this try has not begun: Airflow clears it then. Where the XCom
    is missing or cannot be read, the start record may name the run.

    :param context: The callback's context. No XCom is read if its task, in this process, pushed none.
    """
    ti = context["ti"]
    own = None
    if not getattr(context.get("task"), "knows_no_run", False):
        with best_effort(f"The XCom {STABLY_RUN_KEY!r} of task {ti.task_id!r} cannot be read"):
            own = own_run(ti)
    if own is None:
        record = StartRecords(context).read() if can_read_task_state_store() else None
        cancel_on_kill = getattr(context.get("task"), "cancel_on_kill", True)
        run = None if record is None else record.run_of(ti.try_number, cancel_on_kill=cancel_on_kill)
        return None if run is None else PushedRun(run, ti.try_number, cancel_on_kill)
    is_earlier = isinstance(own.try_number, int) and own.try_number < ti.try_number
    if own.try_number == ti.try_number or (is_earlier and own.cancel_on_kill):
        return own
    log.info("Run %s is left alone: another try than %s started it", own.run.run_id, ti.try_number)
    return None


@dataclass(frozen=True, slots=True)
class StartedRuns:
    """The runs that tasks started, each once, and what could not be read.

    :param wrong: Names that mean no task and XComs that are not ours, as messages.
    :param unread: XComs that another try may be able to read, as messages.
    """

    runs: Sequence[RunReference]
    wrong: Sequence[str]
    unread: Sequence[str]


def runs_of_tasks(context: Any, names: Iterable[str], *, of_all_indexes: bool = False) -> StartedRuns:
    """Return the runs that named tasks of a context's DAG run started, and what could not be read.

    :param names: Tasks, or task groups with all their tasks, with their task groups' prefix.
    :param of_all_indexes: Whether a mapped task group's other indexes are meant too, where one is named
        within it.
    """
    runs: dict[RunReference, None] = {}
    task_ids, wrong = tasks_named(context["dag"], names)
    unread: list[str] = []
    for task_id in task_ids:
        xcom = f"The XCom {STABLY_RUN_KEY!r} of task {task_id!r}"
        values: list[object] | None = None
        with best_effort(f"{xcom} cannot be read"):
            index = None if of_all_indexes else _shared_map_index(context, task_id)
            values = _values(context, task_id, map_index=index)
        if values is None:
            unread.append(f"{xcom} cannot be read now; the log has the cause")
        task = context["dag"].task_dict[task_id]
        for value in values or []:
            try:
                runs[with_named_connection(RunReference.from_json(value), task)] = None
            except ValueError as error:
                wrong.append(f"{xcom} is not one of this provider's: {error}")
    return StartedRuns(list(runs), list(dict.fromkeys(wrong)), unread)


def _values(context: Any, task_id: str, *, map_index: int | None) -> list[object]:
    """Return what a task of the same DAG run pushed: an entry for each of its instances that started a run.

    :param map_index: Which of a mapped task's instances; None means all.
    """
    # Of a list of tasks, so that Airflow gives a list, too: an instance that pushed one counts once.
    pulled = _pull(context["ti"], [task_id], **({} if map_index is None else {"map_indexes": map_index}))
    values = [value for value in pulled if value is not None]
    if not values:
        log.info("Task %s started no Stably run", task_id)
    return values


def _shared_map_index(context: Any, task_id: str) -> int | None:
    """Return the map index to read another task's run at; None for all of them.

    Within a mapped task group that is the task's own: the runs of other indexes belong to its siblings.
    """
    group = context["task"].get_closest_mapped_task_group()
    others = context["dag"].task_dict[task_id].get_closest_mapped_task_group()
    index: int | None = context["ti"].map_index if group is not None and others is group else None
    return index


def tasks_named(dag: Any, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the ids of the tasks that names mean, and a message for each name that means none."""
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


def _pull(ti: Any, task_ids: str | list[str], **which: int) -> Any:
    if not can_pull_xcoms():
        raise RuntimeError("The dag processor of Airflow 3.0 cannot read XComs")
    return ti.xcom_pull(task_ids=task_ids, key=STABLY_RUN_KEY, **which)

"""Which tasks an argument names: the rule for ``task_ids``, which no template can make."""

from __future__ import annotations

from collections.abc import Sequence, Set


def read_task_ids(task_ids: object, *, run_ids: object) -> list[str] | None:
    """Return the argument ``task_ids`` as a list; None if it is not given.

    :param task_ids: One id of a task or task group, or several.
    :param run_ids: The argument that names runs instead.
    :raises ValueError: if both are given, or if something in it cannot be an id.
    """
    if task_ids is None:
        return None
    if run_ids is not None:
        raise ValueError("run_ids and task_ids exclude each other: name runs, or the tasks that start them")
    names = [task_ids] if isinstance(task_ids, str) else task_ids
    if not isinstance(names, Sequence | Set) or not all(name and isinstance(name, str) for name in names):
        raise ValueError(f"task_ids are ids of tasks or task groups, as text, not {task_ids!r}")
    return list(names)

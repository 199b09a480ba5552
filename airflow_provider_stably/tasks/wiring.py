"""Check that a DAG's cancel tasks and notifiers name the tasks that start Stably runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_stably.arguments import read_task_ids
from airflow_provider_stably.tasks.xcom import tasks_named

_CALLBACKS = (
    "on_failure_callback",
    "on_retry_callback",
    "on_skipped_callback",
    "on_success_callback",
    "on_execute_callback",
)


@dataclass(frozen=True, slots=True)
class _Canceller:
    """A cancel task, or a notifier.

    :param where: What it is, for messages.
    :param arguments: ``task_ids`` and ``run_ids`` as given.
    :param needs_name: Whether it cancels nothing unless it names something.
    """

    where: str
    arguments: Mapping[str, Any]
    needs_name: bool = False


def wiring_problems(dag: Any, *, left_by: str | None = None) -> list[str]:
    """Return what is wrong with a DAG's wiring, as messages.

    - A cancel task or notifier names a task that the DAG does not have, or that starts no run.
    - A DAG's notifier names nothing.
    - A task starts a run and leaves it, and no cancel task, teardown or notifier names that task.

    :param dag: The DAG as its file makes it.
    :param left_by: The one task that may leave its run; None means any. A task warns of its own run.
    """
    starts = {task.task_id for task in dag.tasks if _is_our(task, "StablyRunTestsOperator")}
    problems: list[str] = []
    covered: set[str] = set()
    for canceller in _cancellers(dag):
        names, wrong = _names(dag, canceller, starts)
        problems += [f"{canceller.where}: {problem}" for problem in wrong]
        covered |= names
    for task in dag.tasks if left_by is None else [dag.get_task(left_by)]:
        arguments = _arguments(task)
        leaves = task.task_id in starts and not arguments.get("wait_for_completion", True)
        if leaves and task.task_id not in covered and not arguments.get("cancelled_elsewhere"):
            problems.append(
                f"task {task.task_id!r} leaves its run, and no cancel task, teardown or notifier names it; "
                "if one gets the id through another task or DAG, set cancelled_elsewhere=True"
            )
    return problems


def _names(dag: Any, canceller: _Canceller, starts: set[str]) -> tuple[set[str], list[str]]:
    """Return the tasks whose runs it cancels, and what is wrong with its names."""
    run_ids = canceller.arguments.get("run_ids")
    if run_ids is not None:
        return _tasks_in(run_ids, starts), []
    try:
        names = read_task_ids(canceller.arguments.get("task_ids"), run_ids=None)
    except ValueError as error:  # of a mapped task, or a deadline's callback: made when it runs
        return set(), [str(error)]
    if names is None:
        return set(), ["it names neither task_ids nor run_ids"] if canceller.needs_name else []
    covered: set[str] = set()
    problems: list[str] = []
    for name in names:
        task_ids, wrong = tasks_named(dag, [name])
        problems += wrong
        if task_ids and not starts.intersection(task_ids):
            problems.append(f"task_ids: {name!r} starts no Stably run")
        covered |= starts.intersection(task_ids)
    return covered, problems


def _tasks_in(run_ids: Any, starts: set[str]) -> set[str]:
    """Return the starting tasks that ``run_ids`` refers to: by an output, or quoted in a template."""
    if isinstance(run_ids, str):
        return {task_id for task_id in starts if f"'{task_id}'" in run_ids or f'"{task_id}"' in run_ids}
    if hasattr(run_ids, "iter_references"):
        return starts.intersection(task.task_id for task, _ in run_ids.iter_references())
    if isinstance(run_ids, Mapping):
        run_ids = run_ids.values()
    if isinstance(run_ids, Iterable):
        return set().union(*(_tasks_in(entry, starts) for entry in run_ids))
    return set()


def _cancellers(dag: Any) -> Iterator[_Canceller]:
    for task in dag.tasks:
        if _is_our(task, "StablyCancelRunOperator"):
            yield _Canceller(f"task {task.task_id!r}", _arguments(task), needs_name=True)
        for name in _CALLBACKS:
            for notifier in _notifiers(getattr(task, name, None)):
                yield _Canceller(f"{name} of task {task.task_id!r}", notifier)
    for name in ("on_failure_callback", "on_success_callback"):
        for notifier in _notifiers(getattr(dag, name, None)):
            yield _Canceller(f"{name} of the DAG", notifier, needs_name=True)
    for alert in _as_list(getattr(dag, "deadline", None)):
        callback: Any = alert.callback
        if str(callback.path).endswith(".StablyCancelRunNotifier"):
            yield _Canceller("deadline of the DAG", callback.kwargs or {}, needs_name=True)


def _notifiers(callbacks: Any) -> Iterator[Mapping[str, Any]]:
    for callback in _as_list(callbacks):
        if _is_our(callback, "StablyCancelRunNotifier"):
            yield vars(callback)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _arguments(task: Any) -> Mapping[str, Any]:
    """Return an operator's arguments; those of a mapped one with what it is mapped over."""
    if not hasattr(task, "partial_kwargs"):
        arguments: Mapping[str, Any] = vars(task)
        return arguments
    mapped = getattr(task.expand_input, "value", None)
    if not isinstance(mapped, Mapping):  # expand_kwargs(): where the names come from, at least
        return {**task.partial_kwargs, "run_ids": task.expand_input}
    task_ids = [name for entry in _as_list(mapped.get("task_ids")) for name in _as_list(entry)]
    return {**task.partial_kwargs, **mapped, "task_ids": task_ids or task.partial_kwargs.get("task_ids")}


def _is_our(thing: Any, name: str) -> bool:
    """Whether something is an instance of our class of that name, or of a subclass; mapped ones, too.

    By name: the classes stand above this module, and a DAG processor that has no notifier imports none.
    """
    kind = getattr(thing, "operator_class", type(thing))
    return any(
        cls.__name__ == name and cls.__module__.startswith("airflow_provider_stably.")
        for cls in getattr(kind, "__mro__", ())
    )

"""Which connection reaches a task's run: one that the task names in the DAG, whatever its XCom says."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_stably.runs.reference import RunReference

log = logging.getLogger(__name__)

_ARGUMENT = "stably_conn_id"


def with_named_connection(run: RunReference, task: Any) -> RunReference:
    """Return a run with a connection that its task names in the DAG; with none, if the task names none.

    Whoever may write the XCom could name another team's connection.
    """
    # dag.test() gives a DAG's callback a serialized DAG, which does not say: that is one's own.
    if type(task).__module__.startswith("airflow.serialization"):
        return run
    named = [name for name in _named_by(task) if isinstance(name, str)]
    if run.stably_conn_id in named:
        return run
    if run.stably_conn_id is not None:
        log.warning(
            "Run %s: its task does not name the connection %.80r in the DAG, so that is not used",
            run.run_id,
            run.stably_conn_id,
        )
    return replace(run, stably_conn_id=named[0] if named else None)


def _named_by(task: Any) -> Iterable[object]:
    if not hasattr(task, "partial_kwargs"):
        return [getattr(task, _ARGUMENT, None)]
    kind = task.operator_class  # a description of it where Airflow has the DAG from its database
    parameter = inspect.signature(kind).parameters.get(_ARGUMENT) if isinstance(kind, type) else None
    in_all = task.partial_kwargs.get(_ARGUMENT, parameter and parameter.default)
    expanded = getattr(task.expand_input, "value", None)  # None for a decorated task's
    if isinstance(expanded, Mapping):  # .expand(stably_conn_id=[...])
        expanded = expanded.get(_ARGUMENT)
    in_each = expanded if isinstance(expanded, Sequence) else []  # what comes out of an XCom is not known
    return [in_all, *(each.get(_ARGUMENT) if isinstance(each, Mapping) else each for each in in_each)]

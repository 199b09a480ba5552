"""Read what DAG authors write, also as templates render it: seconds, task ids, start arguments.

What is refused raises ValueError.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

log = logging.getLogger(__name__)

LONGEST_SECONDS = 366 * 24 * 60 * 60
"""A year: anything longer is a mistake, and would break date arithmetic when the run is started already."""

_MISSING_WORDS = frozenset({"", "none", "null"})
_BOOLEANS = {"true": True, "false": False}


def seconds(name: str, value: float | timedelta, *, at_least: float = math.ulp(0.0)) -> float:
    """Return an argument as seconds.

    :param name: The argument's name, for the message.
    :param value: A number or a timedelta.
    :param at_least: The least value; by default anything above 0.
    :raises ValueError: if it is neither, or out of range.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if is_number and at_least <= number <= LONGEST_SECONDS:
        return float(number)
    least = f"from {at_least:g}" if at_least == 0 else "above 0"
    raise ValueError(f"{name} is a number of seconds or a timedelta, {least} up to a year, not {value!r:.80}")


def check_min_tests(value: object) -> int:
    """Return the argument ``min_tests``: a whole number from 0 on."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"min_tests is a whole number from 0 on, not {value!r:.80}")


def check_flag(value: object, name: str) -> bool:
    """Return an argument that is True or False, not templated: the text ``'False'`` would count as True."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"{name} is True or False, and not templated; not {value!r:.80}")


def check_conn_id(conn_id: object) -> str:
    """Return the argument ``stably_conn_id``: text that is not empty."""
    if isinstance(conn_id, str) and conn_id.strip():
        return conn_id
    raise ValueError(f"stably_conn_id is the id of a connection, not {conn_id!r:.80}")


def is_missing(value: object) -> bool:
    """Whether a value is None, or what Jinja makes of None: the text ``None``, ``null`` or blanks."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _MISSING_WORDS)


def read_task_ids(task_ids: object, *, run_ids: object) -> list[str] | None:
    """Return the argument ``task_ids`` as a list of ids; None if it is not given.

    :param task_ids: A task or task group, or several: ids, operators, task groups or outputs of tasks.
    :param run_ids: The argument that names runs instead.
    :raises ValueError: if both are given, if it names nothing, or if something in it cannot be a task.
    """
    if task_ids is None:
        return None
    if run_ids is not None:
        raise ValueError("pass run_ids or task_ids, not both")
    if isinstance(task_ids, str) and not _is_template(task_ids):
        task_ids = re.split(r"[\s,]+", task_ids.strip())  # no task's id has a blank or a comma
    if not isinstance(task_ids, Sequence | Set) or isinstance(task_ids, str):
        return [_task_id(task_ids)]
    names = [_task_id(entry) for entry in task_ids]
    if not names:
        raise ValueError("task_ids is empty: name the tasks whose runs are to be cancelled")
    return names


def as_output(value: Any) -> Any:
    """Return the output of an operator that stands where its run is wanted; anything else as it is.

    A set becomes a list: Airflow finds no outputs in it.
    """
    if isinstance(value, list | tuple | Set):
        return [as_output(entry) for entry in value]
    return getattr(value, "output", value)


def check_run_ids(run_ids: Any, name: str) -> Any:
    """Return an argument that names runs, with outputs in place of operators.

    What a template or a task's output will come to is not known when the DAG is parsed; what never names a
    run is refused then.

    :raises ValueError: if it is, or has in it, what is neither text nor a mapping nor an output.
    """
    if isinstance(run_ids, Iterator):
        raise ValueError(f"{name} is a generator, which Airflow cannot copy: write a list")
    runs = as_output(run_ids)
    for entry in runs if isinstance(runs, list) else [runs]:
        if isinstance(entry, list):
            check_run_ids(entry, name)
        elif entry is not None and not _comes_later(entry) and not isinstance(entry, str | Mapping):
            raise _no_run(entry, name)
    return runs


def check_run_id(run_id: Any) -> Any:
    """Return the sensor's argument ``run_id``, as :func:`check_run_ids` does; it may not be missing."""
    run = check_run_ids(run_id, "run_id")
    if is_missing(run) or run in ([], {}):
        raise _no_run(run, "run_id")
    return run


def _no_run(value: object, name: str) -> ValueError:
    return ValueError(
        f"{name}: a run is its id, the address of its page, or the output of its task, not {value!r:.80}"
    )


def _task_id(entry: object) -> str:
    if not isinstance(entry, str):
        operator = getattr(entry, "operator", entry)  # of a task's output
        entry = getattr(operator, "task_id", None) or getattr(operator, "group_id", entry)
    if not isinstance(entry, str) or not entry.strip():
        raise ValueError(f"task_ids are tasks or task groups, or their ids, not {entry!r:.80}")
    if _is_template(entry):
        raise ValueError(f"task_ids is not templated: {entry!r:.80}; name the task, or render run_ids")
    return entry


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text


def text_or_none(value: object, name: str) -> str | None:
    """Return an argument as text; None for what is missing, a rendered ``'None'`` included.

    :param name: The argument's name, for the message.
    :raises ValueError: if it is neither text nor a number: a list's text would be sent as a name.
    """
    if is_missing(value):
        if value is not None and value != "":
            log.warning("Ignored %s=%r: that is None, rendered by a template", name, value)
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} is neither text nor a number but {type(value).__name__}")
    return str(value)


def check_text(value: Any, name: str) -> Any:
    """Return an argument; when the DAG is parsed, refuse what :func:`text_or_none` would refuse."""
    if not _comes_later(value) and not is_missing(value):
        text_or_none(value, name)
    return value


def check_junit_xml(target: Any) -> Any:
    """Return the argument ``junit_xml``, a path as text; what nothing could write is refused at parsing."""
    if is_missing(target):
        return None
    if hasattr(target, "joinpath"):  # pathlib's or Airflow's
        target = str(target)
    if not _comes_later(target):
        check_address(target)
    if find_spec("junitparser") is None:
        raise ValueError("junit_xml needs junitparser: install airflow-provider-stably[junit]")
    return target


def check_address(target: object) -> None:
    """Refuse as the argument ``junit_xml`` what leads nowhere, or to a folder that depends on the worker."""
    if not isinstance(target, str) or not (target.startswith("/") or target.find("://") > 0):
        given = repr(target[:80]) if isinstance(target, str) else type(target).__name__
        raise ValueError(f"junit_xml is an absolute path or an address, not {given}")


def true_or_false(value: object, name: str) -> bool | None:
    """Return an argument as a boolean; None for what is missing, a rendered ``'None'`` included.

    :param name: The argument's name, for the message.
    :raises ValueError: if it is neither a boolean nor a rendered one.
    """
    if isinstance(value, bool):
        return value
    text = text_or_none(value, name)
    if text is None:
        return None
    if text.strip().lower() in _BOOLEANS:
        return _BOOLEANS[text.strip().lower()]
    raise ValueError(f"{name} is True, False or None, not {text[:80]!r}")


def check_true_or_false(value: object, name: str) -> None:
    """Refuse, when the DAG is parsed, what :func:`true_or_false` would refuse; a template may come later."""
    if not _comes_later(value):
        true_or_false(value, name)


def check_env_overrides(overrides: object) -> None:
    """Refuse, when the DAG is parsed, environment overrides that cannot become a mapping of names to text.

    What a template or a task's output will come to is not known then. No error shows a value.
    """
    if isinstance(overrides, Mapping):
        overrides = {name: value for name, value in overrides.items() if not _comes_later(value)}
    if not _comes_later(overrides):
        env_overrides_as_text(overrides)


def _comes_later(value: object) -> bool:
    """Whether a value is known only when the task runs: a template, an output, a function of the context."""
    if isinstance(value, str):
        return _is_template(value)
    return hasattr(value, "iter_references") or callable(value)


def env_overrides_as_text(overrides: object) -> dict[str, str]:
    """Return environment overrides, text, numbers or booleans by name, as text. No error shows a value."""
    if is_missing(overrides):
        return {}
    if not isinstance(overrides, Mapping):
        raise ValueError(
            f"env_overrides is a mapping of names to values, not {type(overrides).__name__}; one template "
            "for all of it needs render_template_as_native_obj=True in the DAG"
        )
    return {str(name): _as_text(str(name), value) for name, value in overrides.items()}


def _as_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as JSON and YAML spell it
    if isinstance(value, str | int | float):
        return str(value)
    kind = "None" if value is None else type(value).__name__
    raise ValueError(f"env_overrides: the value of {name[:80]!r} is {kind}, not text, a number or a boolean")

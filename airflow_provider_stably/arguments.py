"""Read what DAG authors write, also as templates render it: seconds, task ids, start arguments."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence, Set
from datetime import timedelta

log = logging.getLogger(__name__)

LONGEST_SECONDS = 366 * 24 * 60 * 60
"""A year: anything longer is a mistake, and would break date arithmetic when the run is started already."""

_MISSING_WORDS = frozenset({"", "none", "null"})


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
    raise ValueError(f"{name} is a number of seconds {least} up to a year, not {value!r}")


def is_missing(value: object) -> bool:
    """Whether a value is None, or what Jinja makes of None: the text ``None``, ``null`` or blanks."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _MISSING_WORDS)


def read_task_ids(task_ids: object, *, run_ids: object) -> list[str] | None:
    """Return the argument ``task_ids`` as a list; None if it is not given.

    :param task_ids: One id of a task or task group, or several.
    :param run_ids: The argument that names runs instead.
    :raises ValueError: if both are given, or if something in it cannot be an id.
    """
    if task_ids is None:
        return None
    if run_ids is not None:
        raise ValueError("pass run_ids or task_ids, not both")
    names = [task_ids] if isinstance(task_ids, str) else task_ids
    if not isinstance(names, Sequence | Set) or not all(name and isinstance(name, str) for name in names):
        raise ValueError(f"task_ids are ids of tasks or task groups, as text, not {task_ids!r}")
    return list(names)


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


def env_overrides_as_text(overrides: object) -> dict[str, str]:
    """Return environment overrides as the API takes them: text. No error shows a value.

    :raises ValueError: if they are not a mapping of names to text, numbers or booleans.
    """
    if is_missing(overrides):
        return {}
    if not isinstance(overrides, Mapping):
        raise ValueError(
            "env_overrides is not a mapping; one template for all of it needs render_template_as_native_obj"
        )
    return {str(name): _as_text(str(name), value) for name, value in overrides.items()}


def _as_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as JSON and YAML spell it
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"env_overrides: {name!r} is neither text nor a number nor a boolean")

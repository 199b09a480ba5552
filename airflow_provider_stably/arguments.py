"""Read what DAG authors write, also as templates render it: seconds, run ids, task ids, start arguments."""

from __future__ import annotations

import ast
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta

from airflow_provider_stably.exceptions import StablyInvalidIdError

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


@dataclass(frozen=True, slots=True)
class RunIds:
    """The runs that an argument names.

    :param valid: Ids in the order given, each once.
    :param malformed: What cannot be an id, cut short for messages.
    :param missing: How many entries were empty: ``'None'``, ``'null'`` or blanks.
    """

    valid: tuple[str, ...] = ()
    malformed: tuple[str, ...] = ()
    missing: int = 0


def read_run_ids(value: object) -> RunIds:
    """Read run ids as users, templates and XComs give them.

    :param value: One id, a sequence of ids, None, or the text that a template makes of any of these, e.g.
        ``"['a', 'b']"``.
    """
    from airflow_provider_stably.api.calls import check_id  # not needed to parse a DAG

    if value is None or value == "":
        return RunIds()
    entries = _entries(value)
    present = [entry for entry in entries if not is_missing(entry)]
    valid: dict[str, None] = {}
    malformed: dict[str, None] = {}
    for entry in present:
        try:
            valid[check_id("run", entry.strip() if isinstance(entry, str) else entry)] = None
        except StablyInvalidIdError:
            malformed[_start_of(entry)] = None
    return RunIds(tuple(valid), tuple(malformed), len(entries) - len(present))


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


def _entries(value: object) -> list[object]:
    if isinstance(value, str):
        return _entries_of_text(value.strip())
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        return list(value)
    return [value]


def _entries_of_text(text: str) -> list[object]:
    """Read a list back from the text that a template made of it; any other text is one entry."""
    if text.startswith(("[", "(")):
        for parse in (json.loads, ast.literal_eval):
            try:
                parsed = parse(text)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue
            return list(parsed) if isinstance(parsed, list | tuple) else [text]
    return [text]


def _start_of(entry: object) -> str:
    """Return what cannot be an id as short text that Airflow can keep, however odd or deep it is."""
    from airflow_provider_stably.api.text import MAX_SHOWN, one_line, shown

    try:
        return one_line(str(entry), limit=MAX_SHOWN)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list in a list in ...
        return shown(entry)


def _as_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as JSON and YAML spell it
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"env_overrides: {name!r} is neither text nor a number nor a boolean")

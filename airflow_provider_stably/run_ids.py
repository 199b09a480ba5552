"""Which runs an argument names: the rule for everything that a template or an XCom can turn ids into."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_provider_stably.api.protocol import check_id
from airflow_provider_stably.exceptions import StablyInvalidIdError

_MISSING_WORDS = frozenset({"", "none", "null"})


@dataclass(frozen=True, slots=True)
class RunIds:
    """An argument, read.

    :param valid: Ids in the order given, each once.
    :param malformed: What cannot be an id, shortened to be shown.
    :param missing: How many entries were a rendered nothing: ``'None'``, ``'null'`` or blanks.
    """

    valid: tuple[str, ...] = ()
    malformed: tuple[str, ...] = ()
    missing: int = 0


def read_run_ids(value: object) -> RunIds:
    """Read run ids as users, templates and XComs give them.

    :param value: One id, a sequence of ids, None, or the text that a template makes of any of these, e.g.
        ``"['a', 'b']"``.
    """
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
            malformed[f"{entry!s:.80}"] = None
    return RunIds(tuple(valid), tuple(malformed), len(entries) - len(present))


def is_missing(value: object) -> bool:
    """Whether a value is nothing, or what Jinja makes of a nothing: the text ``None``, ``null`` or blanks."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _MISSING_WORDS)


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
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            return list(parsed) if isinstance(parsed, list | tuple) else [text]
    return [text]

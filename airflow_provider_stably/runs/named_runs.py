"""Read which runs an argument names: the one reader for what users write, templates render and XComs hold."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from airflow_provider_stably.api.calls import check_id
from airflow_provider_stably.api.endpoint import DASHBOARD_URL
from airflow_provider_stably.api.text import one_line
from airflow_provider_stably.arguments import is_missing
from airflow_provider_stably.exceptions import StablyInvalidIdError
from airflow_provider_stably.runs.reference import RunReference

MAX_DEPTH = 4
"""Lists within lists that are read: mapped tasks that return lists make two."""

MAX_CHARACTERS = 1_000_000
"""Longest text that is read as a list; a thousand summaries fit."""

SHOWN_CHARACTERS = 200

_SEPARATORS = re.compile(r"[\s,;]+")
_STRUCTURED = re.compile(r"[][(){}<>\"']")
_HISTORY = re.compile(r"/project/([^/]+)/playwright/history/([^/]+)(/.*)?")
_HOST = urlsplit(DASHBOARD_URL).netloc

_NOT_AN_ID = "not an id (letters, digits and '._~-')"
_NOT_AN_ADDRESS = f"not a run's address ({DASHBOARD_URL}/project/<project>/playwright/history/<run>)"
_NO_RUN_ID = "a mapping without 'run_id'"
_NOT_RENDERED = "a template cannot show a mapped task's XComs (use task_ids, or .output['run_id'])"
_NOT_A_LIST = "not a list (written a,b or ['a', 'b'])"
_A_TASK = "a task of this DAG, not a run (pass its .output, or task_ids)"


@dataclass(frozen=True, slots=True)
class NamedRun:
    """A run as an argument names it.

    :param project_id: Its project; None if what names the run does not say.
    """

    run_id: str
    project_id: str | None = None

    def in_project(self, default_project_id: str) -> RunReference:
        """Return the run in its own project, or in the given one if it names none."""
        return RunReference(self.run_id, self.project_id or default_project_id)


@dataclass(slots=True)
class NamedRuns:
    """The runs that an argument names.

    :param runs: In the order given, each once.
    :param malformed: What cannot be a run, as it is shown to people, to what is wrong with it.
    :param missing: How many entries are None, or what a template makes of None.
    """

    runs: dict[NamedRun, None] = field(default_factory=dict)
    malformed: dict[str, str] = field(default_factory=dict)
    missing: int = 0

    def problems(self, argument: str) -> list[str]:
        """Return what is malformed as messages, the cause first."""
        return [f"{argument}: {problem}: {entry}" for entry, problem in self.malformed.items()]


def read_runs(value: object, *, task_ids: Container[str] = ()) -> NamedRuns:
    """Read the runs that an argument names. Never raises: what cannot be read is in the result.

    An entry is a run's id, the address of its page, or a mapping with a ``run_id`` (a summary, or the XCom
    ``stably_run``), which may have a ``project_id``. Several are a list, also a lazy or a nested one, a text
    with commas, blanks or lines between them, or the text that a template makes of any of these.

    :param task_ids: The DAG's tasks: none of them is taken for a run, or it would be "not found".
    """
    named = NamedRuns()
    _read(value, named, MAX_DEPTH)
    for run in [run for run in named.runs if run.run_id in task_ids]:
        del named.runs[run]
        named.malformed[run.run_id] = _A_TASK
    return named


def read_run(value: object, *, argument: str, task_ids: Container[str] = ()) -> NamedRun:
    """Read the one run that an argument names, spelled in any way that :func:`read_runs` knows.

    :param argument: The argument's name, for the message.
    :raises StablyInvalidIdError: if it names none or several, or cannot be read.
    """
    named = read_runs(value, task_ids=task_ids)
    if len(named.runs) == 1 and not named.malformed:
        return next(iter(named.runs))
    if named.malformed:
        message = named.problems(argument)[0]
    elif named.runs:
        message = f"{argument} names {len(named.runs)} runs, but takes one; map the task over them"
    else:
        message = (
            f"{argument} is {value!r:.20}: the task that should give it was skipped, has failed or "
            "returned nothing"
        )
    raise StablyInvalidIdError(message, kind="run", value=value)


def shown(value: object) -> str:
    """Return what a message shows of a value: one line, storable, whole enough to be recognized."""
    try:
        text = str(value)
    except (ValueError, TypeError, RecursionError, MemoryError):  # a huge number, a deep list
        return f"<{type(value).__name__}>"
    cut = one_line(text, limit=SHOWN_CHARACTERS)
    return cut if len(text) <= SHOWN_CHARACTERS else f"{cut}..."


def _read(value: object, named: NamedRuns, depth: int) -> None:
    if value is None:
        named.missing += 1
    elif depth == 0:
        named.malformed[shown(value)] = _NOT_A_LIST
    elif isinstance(value, str):
        _read_text(value.strip(), named, depth)
    elif isinstance(value, Mapping):
        _read_mapping(value, named)
    elif isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        for entry in value:
            _read(entry, named, depth - 1)
    else:
        named.malformed[shown(value)] = _NOT_AN_ID


def _read_mapping(value: Mapping[object, object], named: NamedRuns) -> None:
    run_id, project_id = value.get("run_id"), value.get("project_id")
    if run_id is None:
        named.malformed[shown(value)] = _NO_RUN_ID
        return
    _add(run_id, project_id, named, entry=value, problem=_NOT_AN_ID)


def _read_text(text: str, named: NamedRuns, depth: int) -> None:
    parsed = _parsed(text)
    if parsed is not None:
        _read(parsed, named, depth - 1)
    elif len(lines := text.splitlines()) > 1:
        for line in lines:
            _read(line, named, depth - 1)
    elif _STRUCTURED.search(text):
        named.malformed[shown(text)] = _NOT_RENDERED if text.startswith("Lazy") else _NOT_A_LIST
    else:
        for word in filter(None, _SEPARATORS.split(text)):
            _read_word(word, named)


def _parsed(text: str) -> object:
    """Read back what a template made text of: a list, a mapping, a quoted text; None for any other text."""
    if not text.startswith(tuple("[({\"'")) or len(text) > MAX_CHARACTERS:
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        return parsed if isinstance(parsed, list | tuple | set | dict | str) else None
    return None


def _read_word(word: str, named: NamedRuns) -> None:
    if is_missing(word):
        named.missing += 1
    elif "/" not in word:
        _add(word, None, named, entry=word, problem=_NOT_AN_ID)
    else:
        project_id, run_id = _ids_of_address(word)
        problem = _NOT_AN_ADDRESS if "://" in word else _NOT_AN_ID
        _add(run_id, project_id, named, entry=word, problem=problem)


def _ids_of_address(address: str) -> tuple[str | None, str | None]:
    """Return project and run of a run's page in the dashboard; None twice for any other address."""
    try:
        url = urlsplit(address if "://" in address else f"https://{address}")
    except ValueError:
        return None, None
    match = _HISTORY.fullmatch(url.path) if url.netloc == _HOST else None
    return (unquote(match[1]), unquote(match[2])) if match else (None, None)


def _add(run_id: object, project_id: object, named: NamedRuns, *, entry: object, problem: str) -> None:
    try:
        project = None if is_missing(project_id) else check_id("project", project_id)
        named.runs[NamedRun(check_id("run", run_id), project)] = None
    except StablyInvalidIdError:
        named.malformed[shown(entry)] = problem

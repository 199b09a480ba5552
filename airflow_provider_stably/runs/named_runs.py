"""Read which runs an argument names: the one reader for what users write, templates render and XComs hold."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from airflow_provider_stably.api.address import Address
from airflow_provider_stably.api.calls import check_id
from airflow_provider_stably.api.endpoint import DASHBOARD_URL
from airflow_provider_stably.api.text import one_line
from airflow_provider_stably.arguments import is_missing
from airflow_provider_stably.exceptions import StablyInvalidIdError
from airflow_provider_stably.runs.reference import RunReference

MAX_DEPTH = 4
"""Lists within lists that are read: mapped tasks that return lists make two."""

MAX_CHARACTERS = 400_000
"""Most text that is read, in all: a thousand summaries fit. The worst such text takes some two seconds."""

MAX_ENTRIES = 2000
"""Most entries that are read, lists within lists included."""

MAX_MALFORMED = 20
"""Most malformed entries that are kept one by one."""

SHOWN_CHARACTERS = 200

_SEPARATORS = re.compile(r"[\s,;]+")
_STRUCTURED = re.compile(r"[][(){}<>\"']")
_HISTORY = re.compile(r"/project/([^/]+)/playwright/history/([^/]+)(/.*)?")
_HOST = Address.parse(DASHBOARD_URL).host

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
    :param malformed: What cannot be a run, as it is shown to people, to what is wrong with it: the first
        ones, and how many more there are.
    :param missing: How many entries are None, or what a template makes of None.
    """

    runs: dict[NamedRun, None] = field(default_factory=dict)
    malformed: dict[str, str] = field(default_factory=dict)
    missing: int = 0

    def problems(self, argument: str) -> list[str]:
        """Return what is malformed as messages, the cause first."""
        return [f"{argument}: {problem}: {entry}" for entry, problem in self.malformed.items()]


@dataclass(slots=True)
class _Reading:
    """What :func:`read_runs` has read so far, and how much it may read on."""

    named: NamedRuns = field(default_factory=NamedRuns)
    entries_left: int = MAX_ENTRIES
    characters_left: int = MAX_CHARACTERS
    unlisted: int = 0

    def take(self, *, entries: int = 0, characters: int = 0) -> None:
        """Count what is going to be read.

        :raises _TooMuchError: if it is too much.
        """
        self.entries_left -= entries
        self.characters_left -= characters
        if self.entries_left < 0 or self.characters_left < 0:
            raise _TooMuchError

    def malformed(self, entry: object, problem: str) -> None:
        """Keep a malformed entry, or count it."""
        if len(self.named.malformed) < MAX_MALFORMED:
            self.named.malformed[shown(entry)] = problem
        else:
            self.unlisted += 1


class _TooMuchError(Exception):
    """An argument names too many runs, or is too long."""


def read_runs(value: object, *, task_ids: Container[str] = ()) -> NamedRuns:
    """Read the runs that an argument names. What cannot be read is in the result.

    An entry is a run's id, the address of its page, or a mapping with a ``run_id`` (a summary, or the XCom
    ``stably_run``), which may have a ``project_id``. Several are a list, also a lazy or a nested one, a text
    with commas, blanks or lines between them, or the text that a template makes of any of these.

    :param task_ids: The DAG's tasks: none of them is taken for a run, or it would be "not found".
    """
    reading = _Reading()
    named = reading.named
    try:
        _read(value, reading, MAX_DEPTH)
    except _TooMuchError:
        named.malformed["the rest"] = (
            f"more than {MAX_ENTRIES} entries or {MAX_CHARACTERS} characters are not read"
        )
    for run in [run for run in named.runs if run.run_id in task_ids]:
        del named.runs[run]
        reading.malformed(run.run_id, _A_TASK)
    if reading.unlisted:
        named.malformed[f"{reading.unlisted} more"] = "malformed, too"
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
            f"{argument} is {value!r:.20}: the task that should give it was skipped, has failed, "
            "returned nothing or is misspelt"
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


def _read(value: object, reading: _Reading, depth: int) -> None:
    if isinstance(value, str):
        reading.take(characters=len(value) + 20)  # a short one takes its time, too
    else:
        reading.take(entries=1)
    if value is None:
        reading.named.missing += 1
    elif depth == 0:
        reading.malformed(value, _NOT_A_LIST)
    elif isinstance(value, str):
        _read_text(value.strip(), reading, depth)
    elif isinstance(value, Mapping):
        _read_mapping(value, reading)
    elif isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        for entry in _entries(value):
            _read(entry, reading, depth - 1)
    else:
        reading.malformed(value, _NOT_AN_ID)


def _entries(value: Iterable[object]) -> Iterable[object]:
    """Return what is in a value, without asking Airflow 3 for one XCom too many: that would log an error."""
    if not isinstance(value, Sequence):
        return value
    if type(value).__name__.startswith("Lazy"):
        return value[:]  # in one request
    return map(value.__getitem__, range(len(value)))  # the result of .map(), which cannot be sliced


def _read_mapping(value: Mapping[object, object], reading: _Reading) -> None:
    # The API's answer to a start, which another operator may have sent, spells it runId.
    run_id, project_id = value.get("run_id", value.get("runId")), value.get("project_id")
    if run_id is None:
        reading.malformed(value, _NO_RUN_ID)
        return
    _add(run_id, project_id, reading, entry=value, problem=_NOT_AN_ID)


def _read_text(text: str, reading: _Reading, depth: int) -> None:
    parsed = _parsed(text)
    if parsed is not None:
        _read(parsed, reading, depth - 1)
    elif len(lines := text.splitlines()) > 1:
        for line in lines:
            _read(line, reading, depth - 1)
    elif _STRUCTURED.search(text):
        reading.malformed(text, _NOT_RENDERED if text.startswith("Lazy") else _NOT_A_LIST)
    else:
        for word in filter(None, _SEPARATORS.split(text)):
            _read_word(word, reading)


def _parsed(text: str) -> object:
    """Read back what a template made text of: a list, a mapping, a quoted text; None for any other text."""
    if not text.startswith(tuple("[({\"'")):
        return None
    if text.count("{") > MAX_ENTRIES:  # those of an f-string take half a minute
        raise _TooMuchError
    for parse in (json.loads, _literal):
        try:
            parsed = parse(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        return parsed if isinstance(parsed, list | tuple | set | dict | str) else None
    return None


def _literal(text: str) -> object:
    """Read a Python literal; escaped, as Python takes minutes to normalize a long name that is not ASCII."""
    return ast.literal_eval(text.encode("ascii", "backslashreplace").decode())


def _read_word(word: str, reading: _Reading) -> None:
    reading.take(entries=1)
    if is_missing(word):
        reading.named.missing += 1
    elif "/" not in word:
        _add(word, None, reading, entry=word, problem=_NOT_AN_ID)
    else:
        project_id, run_id = _ids_of_address(word)
        problem = _NOT_AN_ADDRESS if "://" in word else _NOT_AN_ID
        _add(run_id, project_id, reading, entry=word, problem=problem)


def _ids_of_address(address: str) -> tuple[str | None, str | None]:
    """Return project and run of a run's page in the dashboard; None twice for any other address."""
    try:
        url = Address.parse(address if "://" in address else f"https://{address}")
    except ValueError:
        return None, None
    match = _HISTORY.fullmatch(url.path) if url.host == _HOST else None
    return (unquote(match[1]), unquote(match[2])) if match else (None, None)


def _add(run_id: object, project_id: object, reading: _Reading, *, entry: object, problem: str) -> None:
    try:
        project = None if is_missing(project_id) else check_id("project", project_id)
        reading.named.runs[NamedRun(check_id("run", run_id), project)] = None
    except StablyInvalidIdError:
        reading.malformed(entry, problem)

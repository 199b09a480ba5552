"""Write what the cancellation matrix came to into the docs' table.

``STABLY_MATRIX=matrix.md`` before the system tests writes the file that this reads:
``python scripts/matrix_columns.py docs/guarantees_measured.md matrix.md``. What was not played again stays.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.system.mechanisms import MODES
from tests.system.scenarios import SCENARIOS

KNOWN_GAP = "known gap: "
HEADINGS = {mode: "deferred" if mode == "deferrable" else mode for mode in MODES}
"""The docs' word for each mode."""
NOT_MEASURED = "not measured"

_TABLE = re.compile(r"^\| scenario \|.*\n(?:\|.*\n)*\n(?:\d+\. .*\n)*", re.MULTILINE)
_MEASURED_ON = re.compile(r"^Measured on Airflow (\S+)", re.MULTILINE)

Cells = dict[tuple[str, str], str]
"""The text of each cell, by scenario and heading; a known gap with its reason."""


def table_of(page: str) -> str:
    """Return the table of a page, with its notes."""
    (found,) = _TABLE.findall(page)
    return str(found)


def cells_of(table: str) -> Cells:
    """Read a Markdown table; the numbers of the docs' notes become their reasons."""
    notes = dict(re.findall(r"^(\d+)\. (.*)$", table, re.MULTILINE))
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    (_, *headings), _, *rows = ([cell.strip() for cell in line] for line in lines)
    return {
        (scenario, heading): re.sub(r"^\((\d+)\)$", lambda found: KNOWN_GAP + notes[found[1]], text)
        for scenario, *texts in rows
        for heading, text in zip(headings, texts, strict=True)
    }


def measured(report: str) -> Cells:
    """Read the file that the system tests have written, under the docs' headings."""
    (airflow,) = _MEASURED_ON.findall(report)
    return {
        (scenario, f"{airflow} {HEADINGS[mode]}"): text
        for (scenario, mode), text in cells_of(report).items()
        if not text.startswith("- ") and text != "not played"
    }


def table(cells: Mapping[tuple[str, str], str]) -> str:
    """Return the docs' table: the scenarios in their order, the Airflows from old to new."""
    airflows = sorted({heading.split()[0] for _, heading in cells}, key=_version)
    columns = {f"{airflow} {HEADINGS[mode]}": mode for airflow in airflows for mode in MODES}
    notes: list[str] = []
    lines = [_line(["scenario", *columns]), _line(["---"] * (1 + len(columns)))]
    for scenario in SCENARIOS:
        texts = [
            (cells.get((scenario.name, heading)) or NOT_MEASURED) if mode in scenario.modes else ""
            for heading, mode in columns.items()
        ]
        lines.append(_line([scenario.name, *(_with_note(text, notes) for text in texts)]))
    return "\n".join([*lines, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1)), ""])


def updated(page: str, reports: Iterable[str]) -> str:
    """Return the docs' page with what some reports say.

    :param reports: Files that the system tests have written; the last one counts.
    """
    old = table_of(page)
    cells = cells_of(old)
    for report in reports:
        cells |= measured(report)
    return page.replace(old, table(cells))


def _with_note(text: str, notes: list[str]) -> str:
    if not text.startswith(KNOWN_GAP):
        return text
    reason = text.removeprefix(KNOWN_GAP)
    if reason not in notes:
        notes.append(reason)
    return f"({notes.index(reason) + 1})"


def _version(airflow: str) -> list[int]:
    return [int(part) for part in airflow.split(".")]


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


if __name__ == "__main__":
    docs, *files = map(Path, sys.argv[1:])
    docs.write_text(updated(docs.read_text(), [file.read_text() for file in files]))

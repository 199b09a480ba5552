"""The matrix as a table: for the terminal, and as Markdown for the docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.system.mechanisms import MODES
from tests.system.scenarios import Scenario

HEADINGS = ("scenario", *MODES)


def rows(scenarios: Sequence[Scenario], results: Mapping[tuple[str, str], str]) -> list[tuple[str, ...]]:
    """Return a row for each scenario that was played in at least one mode.

    :param results: The cell's text, by scenario name and mode.
    """
    played = {name for name, _ in results}
    return [
        (scenario.name, *(_cell(scenario, mode, results) for mode in MODES))
        for scenario in scenarios
        if scenario.name in played
    ]


def as_text(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the table's lines for the terminal, in aligned columns."""
    widths = [max(len(row[column]) for row in (HEADINGS, *table)) for column in range(len(HEADINGS) - 1)]
    return [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]])
        for row in (HEADINGS, *table)
    ]


def as_markdown(table: Sequence[tuple[str, ...]], *, measured_on: str) -> str:
    """Return the table as Markdown.

    :param measured_on: The versions it was measured on, for the line below the table.
    """
    lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS)), *map(_line, table)]
    return "\n".join([*lines, "", f"Measured on {measured_on}.", ""])


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _cell(scenario: Scenario, mode: str, results: Mapping[tuple[str, str], str]) -> str:
    if mode not in scenario.modes:
        return f"- {scenario.only_because}"
    return results.get((scenario.name, mode), "not played")

"""The emulator's page for people: its runs as plain HTML. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape
from urllib.parse import quote

from airflow_provider_stably.api.models import MAX_CHARACTERS, Run
from airflow_provider_stably.api.text import one_line
from airflow_provider_stably.testing.emulated_run import EmulatedRun

REFRESH_SECONDS = 2

_COLUMNS = ("Run", "Project", "Playwright project", "Environment", "Status", "Started (UTC)", "Lasted")
_HEAD = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<title>Stably emulator</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem }}
table {{ border-collapse: collapse }}
th, td {{ border-bottom: 1px solid #8886; padding: .3rem 1.5rem .3rem 0; text-align: left }}
.live :nth-child(5) {{ color: #2b7bd6 }}
.PASSED :nth-child(5) {{ color: #2a8f4b }}
:is(.FAILED, .TIMEDOUT, .INTERRUPTED) :nth-child(5) {{ color: #d0402b }}
.CANCELLED :nth-child(5) {{ color: #b26a00 }}
.opened td {{ padding-left: 2rem }}
</style>
</head>
<body>
<h1>Stably emulator</h1>
"""


def render(runs: Iterable[EmulatedRun], now: datetime, *, opened: str | None = None) -> str:
    """Return the page: a row per run, the newest first; one may be opened, and then shows its whole story.

    It shows no environment override, as values may be secret, and knows no key.

    :param runs: Oldest first.
    :param now: Aware UTC, as the runs' times are.
    :param opened: Id of the run whose row is open; it stays so when the page refreshes.
    """
    rows = [_row(run, now, is_open=run.run_id == opened) for run in runs]
    if not rows:
        return f"{_HEAD}<p>No run yet. Runs appear here as soon as they are started.</p>\n"
    live = sum(run.is_live(now) for run in runs)
    head = "".join(f"<th>{title}</th>" for title in _COLUMNS)
    table = "\n".join([f"<table>\n<tr>{head}</tr>", *reversed(rows), "</table>"])
    count = "1 run" if len(rows) == 1 else f"{len(rows)} runs"
    return f"{_HEAD}<p>{count}, {live} live</p>\n{table}\n"


def _row(run: EmulatedRun, now: datetime, *, is_open: bool) -> str:
    description = run.describe(now)
    is_live = run.is_live(now)
    seconds = ((description.finished_at or now) - run.created_at).total_seconds()
    cells = (
        run.project_id,
        run.started_with.get("playwrightProjectName", ""),
        run.started_with.get("environment", ""),
        description.status,
        f"{run.created_at:%H:%M:%S}",
        f"{seconds:.0f} s{' so far' if is_live else ''}",
    )
    address = "/" if is_open else f"/?run={quote(run.run_id, errors='replace')}"
    link = f'<td><a href="{address}">{_text(run.run_id)}</a></td>'
    shown = link + "".join(f"<td>{_text(cell)}</td>" for cell in cells)
    row = f'<tr class="{"live" if is_live else _text(description.status)}">{shown}</tr>'
    return f"{row}\n{_opened(run, description, now)}" if is_open else row


def _opened(run: EmulatedRun, description: Run, now: datetime) -> str:
    """Return the row below an opened one: what happened when, and the test cases."""
    lines = [f"{run.created_at:%H:%M:%S}  start asked for{_asked_for(run)}"]
    if description.started_at is not None:
        lines.append(f"{description.started_at:%H:%M:%S}  left the queue")
    elif run.is_live(now):
        lines.append("in the queue")
    if run.cancelled_at is not None:
        lines.append(f"{run.cancelled_at:%H:%M:%S}  cancelled by a call")
    if description.finished_at is not None:
        lines.append(f"{description.finished_at:%H:%M:%S}  ended {description.status}")
    if description.test_results is None:
        lines.append("test cases follow when the run is over")
    for result in description.test_results or ():
        took = "" if result.duration_ms is None else f"  {result.duration_ms / 1000:.1f} s"
        lines.append(f"{result.status}  {result.title}{took}")
    if description.test_results == ():
        lines.append("no test case")
    shown = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f'<tr class="opened"><td colspan="{len(_COLUMNS)}"><ul>{shown}</ul></td></tr>'


def _asked_for(run: EmulatedRun) -> str:
    names = [name for name in ("branch", "autofix") if name in run.started_with]
    return "".join(f", {name} {run.started_with[name]}" for name in names)


def _text(cell: str) -> str:
    # Half a surrogate pair, which JSON may hold, has no form in bytes.
    return escape(one_line(cell, limit=MAX_CHARACTERS))

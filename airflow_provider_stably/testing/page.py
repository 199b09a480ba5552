"""The emulator's page for people: its runs as plain HTML. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape

from airflow_provider_stably.api.models import MAX_CHARACTERS
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
</style>
</head>
<body>
<h1>Stably emulator</h1>
"""


def render(runs: Iterable[EmulatedRun], now: datetime) -> str:
    """Return the page: a row per run, the newest first.

    It shows no environment override, as values may be secret, and knows no key.

    :param runs: Oldest first.
    :param now: Aware UTC, as the runs' times are.
    """
    rows = [_row(run, now) for run in runs]
    if not rows:
        return f"{_HEAD}<p>No run yet. Runs appear here as soon as they are started.</p>\n"
    live = sum(run.is_live(now) for run in runs)
    head = "".join(f"<th>{title}</th>" for title in _COLUMNS)
    table = "\n".join([f"<table>\n<tr>{head}</tr>", *reversed(rows), "</table>"])
    count = "1 run" if len(rows) == 1 else f"{len(rows)} runs"
    return f"{_HEAD}<p>{count}, {live} live</p>\n{table}\n"


def _row(run: EmulatedRun, now: datetime) -> str:
    description = run.describe(now)
    is_live = run.is_live(now)
    seconds = ((description.finished_at or now) - run.created_at).total_seconds()
    cells = (
        run.run_id,
        run.project_id,
        run.started_with.get("playwrightProjectName", ""),
        run.started_with.get("environment", ""),
        description.status,
        f"{run.created_at:%H:%M:%S}",
        f"{seconds:.0f} s{' so far' if is_live else ''}",
    )
    shown = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
    return f'<tr class="{"live" if is_live else _text(description.status)}">{shown}</tr>'


def _text(cell: str) -> str:
    # Half a surrogate pair, which JSON may hold, has no form in bytes.
    return escape(one_line(cell, limit=MAX_CHARACTERS))

"""The emulator's page for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
import requests

from airflow_provider_stably.testing import Fault
from airflow_provider_stably.testing.emulated_run import EmulatedRun
from airflow_provider_stably.testing.page import REFRESH_SECONDS, render
from tests.constants import KEY, PROJECT

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
MARKUP = "<script>alert('&amp;')</script>"


def make_run(run_id="run-1", *, script="passes", **started_with):
    """Return a run of 20 s that was started at noon."""
    return EmulatedRun(run_id, PROJECT, script, 20, NOON, started_with)


def rows(html):
    """Return the texts of a page's table, row by row, without the head."""
    found = re.findall(r"<tr class=.*?</tr>", html)
    cells = [re.findall("<td>(?:<a [^>]*>)?(.*?)(?:</a>)?</td>", row) for row in found if "opened" not in row]
    return [[unescape(cell) for cell in row] for row in cells]


def story(html):
    """Return the lines below the row that is open."""
    return [unescape(line) for line in re.findall("<li>(.*?)</li>", html)]


@pytest.mark.parametrize(
    ("script", "seconds", "shown"),
    [
        pytest.param("passes", 0, ["QUEUED", "12:00:00", "0 s so far"], id="queued"),
        pytest.param("passes", 5, ["RUNNING", "12:00:00", "5 s so far"], id="running"),
        pytest.param("fails", 90, ["FAILED", "12:00:00", "20 s"], id="over"),
        pytest.param("pauses", 5, ["PAUSED", "12:00:00", "5 s so far"], id="unknown-word"),
    ],
)
def test_a_run_is_shown_as_it_is(script, seconds, shown):
    """A row has the run, what it was started with, its status and its times."""
    run = make_run(script=script, playwrightProjectName="smoke", environment="staging")

    html = render([run], NOON + timedelta(seconds=seconds))

    assert rows(html) == [["run-1", PROJECT, "smoke", "staging", *shown]]


def test_a_cancelled_run_is_shown_as_such():
    """A run that was cancelled says so, and how long it lasted."""
    run = make_run(script="hangs")
    run.cancelled_at = NOON + timedelta(seconds=7)

    html = render([run], NOON + timedelta(seconds=60))

    assert rows(html) == [["run-1", PROJECT, "", "", "CANCELLED", "12:00:00", "7 s"]]


def test_no_start_makes_the_page_unreadable():
    """Half a surrogate pair, control characters and long names are shown escaped and cut."""
    odd = "half \ud83d a pair\n\x1b[31m"
    run = make_run(odd, playwrightProjectName=odd, environment="e" * 10_000)

    [[_, _, name, environment, *_]] = rows(render([run], NOON))

    assert name == r"half \ud83d a pair\n\x1b[31m"
    assert environment == "e" * 200


def test_the_newest_run_is_on_top():
    """The newest run comes first, and the live ones are counted."""
    ended = make_run("run-1")
    ended.cancelled_at = NOON

    html = render([ended, make_run("run-2"), make_run("run-3")], NOON)

    assert [row[0] for row in rows(html)] == ["run-3", "run-2", "run-1"]
    assert "3 runs, 2 live" in html


def test_without_runs_it_says_what_to_expect():
    """An empty page says that runs will be seen here, and refreshes too."""
    html = render([], NOON)

    assert "No run yet" in html
    assert f'http-equiv="refresh" content="{REFRESH_SECONDS}"' in html


def test_nothing_becomes_markup():
    """Whatever a run was started with is shown as the text that it is, also where its row is open."""
    run = make_run(MARKUP, playwrightProjectName=MARKUP, environment=MARKUP, branch=MARKUP)
    run.project_id, run.statuses = MARKUP, [MARKUP]

    html = render([run], NOON, opened=MARKUP)

    assert rows(html)[0][:5] == [MARKUP] * 5
    assert f"branch {MARKUP}" in story(html)[0]
    assert "<script" not in html
    assert re.search(r'class="[^"]*[<>]', html) is None


def test_a_browser_gets_it_without_a_key(emulator):
    """The page is at the root, for anybody, with neither the key nor what may be secret."""
    url, headers = f"{emulator.url}/v1/projects/{PROJECT}/runs", {"Authorization": f"Bearer {KEY}"}
    body = {"playwrightProjectName": "hangs", "envOverrides": {"TOKEN": "hush-hush"}}
    started = requests.post(url, json=body, headers=headers, timeout=5)

    response = requests.get(f"{emulator.url}/?run={started.json()['runId']}", timeout=5)

    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert rows(response.text)[0][:3] == [started.json()["runId"], PROJECT, "hangs"]
    assert KEY not in response.text
    assert "hush-hush" not in response.text


def test_the_page_changes_nothing(emulator):
    """A page view is no request: the journal, the faults and the runs' scripts are as before."""
    run_id = emulator.add_run(statuses=["RUNNING", "PASSED"])
    emulator.inject(Fault(status=503))

    views = [requests.get(emulator.url, timeout=5).status_code for _ in range(2)]
    seen = (list(emulator.journal), emulator.connections, emulator.status(run_id))
    request = requests.post(emulator.url, timeout=5)

    assert views == [200, 200]
    assert seen == ([], 0, "RUNNING")
    assert request.status_code == 503


@pytest.mark.parametrize(
    ("script", "seconds", "shown"),
    [
        pytest.param("passes", 0, ["in the queue", "test cases follow when the run is over"], id="queued"),
        pytest.param(
            "hangs", 5, ["12:00:01  left the queue", "test cases follow when the run is over"], id="running"
        ),
        pytest.param(
            "fails",
            90,
            [
                "12:00:01  left the queue",
                "12:00:20  ended FAILED",
                "PASSED  sign in  6.7 s",
                "SKIPPED  search the catalogue",
                "FAILED  check out a basket  6.7 s",
            ],
            id="over",
        ),
        pytest.param(
            "finds-no-tests",
            90,
            ["12:00:01  left the queue", "12:00:20  ended PASSED", "no test case"],
            id="without a test",
        ),
    ],
)
def test_an_opened_row_tells_the_runs_story(script, seconds, shown):
    """Start, queue, verdict and test cases, with their times; the other rows stay closed."""
    run, other = make_run(script=script, branch="main", autofix=False), make_run("run-2")

    html = render([run, other], NOON + timedelta(seconds=seconds), opened="run-1")

    assert story(html) == ["12:00:00  start asked for, branch main, autofix False", *shown]
    assert story(render([run, other], NOON)) == []


def test_an_opened_row_tells_of_a_cancel():
    """A call cancelled it, and when."""
    run = make_run(script="stays-queued")
    run.cancelled_at = NOON + timedelta(seconds=7)

    html = render([run], NOON + timedelta(seconds=60), opened="run-1")

    assert story(html)[1:3] == ["12:00:07  cancelled by a call", "12:00:07  ended CANCELLED"]


def test_a_row_is_opened_and_closed_by_its_link(emulator):
    """Without scripts, so that it stays as it is when the page refreshes; odd ids are no markup."""
    run_id = emulator.add_run()
    emulator.add_run(run_id=MARKUP)

    closed = requests.get(emulator.url, timeout=5).text
    opened = requests.get(f"{emulator.url}/?run={run_id}", timeout=5).text
    odd = requests.get(emulator.url + unescape(re.findall('href="(.*?)"', closed)[0]), timeout=5).text

    assert f'<a href="/?run={run_id}">' in closed
    assert story(closed) == []
    assert f'<a href="/">{run_id}' in opened
    assert len(story(opened)) == 3
    assert len(story(odd)) == 3
    assert "<script" not in opened + odd

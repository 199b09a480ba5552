"""How an emulated run goes: by its script and the clock, in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_stably.testing import SCRIPTS, Emulator
from tests.constants import KEY
from tests.in_memory import NOON, RUN_SECONDS, cancel, read, start

QUEUE = timedelta(seconds=1)

# Script to the status at the start, half-way, at the planned end and much later.
TIMELINES = {
    "passes": ["QUEUED", "RUNNING", "PASSED", "PASSED"],
    "finds-no-tests": ["QUEUED", "RUNNING", "PASSED", "PASSED"],
    "fails": ["QUEUED", "RUNNING", "FAILED", "FAILED"],
    "times-out": ["QUEUED", "RUNNING", "TIMEDOUT", "TIMEDOUT"],
    "is-interrupted": ["QUEUED", "RUNNING", "INTERRUPTED", "INTERRUPTED"],
    "is-cancelled": ["QUEUED", "RUNNING", "CANCELLED", "CANCELLED"],
    "hangs": ["QUEUED", "RUNNING", "RUNNING", "RUNNING"],
    "stays-queued": ["QUEUED", "QUEUED", "QUEUED", "QUEUED"],
    "pauses": ["QUEUED", "PAUSED", "PASSED", "PASSED"],
    "ends-unknown": ["QUEUED", "RUNNING", "ABANDONED", "ABANDONED"],
    "a name without a script": ["QUEUED", "RUNNING", "PASSED", "PASSED"],
}


def _iso(time):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if not time.microsecond else time.isoformat()[:-6] + "Z"


def test_every_script_has_a_timeline():
    """No script goes untested."""
    assert set(SCRIPTS) < set(TIMELINES)


@pytest.mark.parametrize(("script", "statuses"), TIMELINES.items(), ids=TIMELINES)
def test_the_script_decides_how_a_run_ends(script, statuses, in_memory, clock):
    """A run goes as the Playwright project name that it is started with says."""
    run_id = start(in_memory, playwrightProjectName=script)

    seen = []
    for seconds in (0, RUN_SECONDS / 2, RUN_SECONDS / 2, 10_000):
        clock.advance(seconds)
        seen.append(read(in_memory, run_id)["status"])

    assert seen == statuses


def test_older_field_name_works(in_memory, clock):
    """A client that still says runGroupName gets the run it asks for."""
    run_id = start(in_memory, runGroupName="fails")
    clock.advance(RUN_SECONDS)

    assert read(in_memory, run_id)["status"] == "FAILED"


def test_newer_field_name_wins(in_memory, clock):
    """A client that says both gets what it says in today's words."""
    run_id = start(in_memory, runGroupName="fails", playwrightProjectName="times-out")
    clock.advance(RUN_SECONDS)

    assert read(in_memory, run_id)["status"] == "TIMEDOUT"


@pytest.mark.parametrize(
    ("run_seconds", "age", "status"),
    [
        pytest.param(20, 0.99, "QUEUED", id="queued-for-a-second"),
        pytest.param(20, 1, "RUNNING", id="under-way-after-a-second"),
        pytest.param(20, 19.99, "RUNNING", id="under-way-to-the-last"),
        pytest.param(20, 20, "PASSED", id="over-in-time"),
        pytest.param(2, 0.19, "QUEUED", id="short-run-is-queued-for-a-tenth"),
        pytest.param(2, 0.2, "RUNNING", id="short-run-is-under-way-after-a-tenth"),
        pytest.param(0, 0, "PASSED", id="no-time-at-all"),
    ],
)
def test_run_seconds_decide_when(run_seconds, age, status, clock):
    """A run is queued for a tenth of its time but a second at most, and over when its time is."""
    in_memory = Emulator(api_key=KEY, run_seconds=run_seconds, clock=clock)
    run_id = start(in_memory)
    clock.advance(age)

    assert read(in_memory, run_id)["status"] == status


def test_queued_run_has_only_its_status(in_memory):
    """A queued run has neither times nor results."""
    run_id = start(in_memory)

    assert read(in_memory, run_id) == {"status": "QUEUED"}


def test_live_run_has_no_end(in_memory, clock):
    """A run that is under way shows when it started and no more."""
    run_id = start(in_memory)
    clock.advance(RUN_SECONDS / 2)

    assert read(in_memory, run_id) == {"status": "RUNNING", "startedAt": _iso(NOON + QUEUE)}


def test_finished_run_has_everything(in_memory, clock):
    """A finished run has both times and results, and they stay the same."""
    run_id = start(in_memory, branch="main")
    clock.advance(RUN_SECONDS + 1)

    first = read(in_memory, run_id)
    clock.advance(1000)
    later = read(in_memory, run_id)

    assert first == later
    assert first["startedAt"] == _iso(NOON + QUEUE)
    assert first["finishedAt"] == _iso(NOON + timedelta(seconds=RUN_SECONDS))
    assert first["branchName"] == "main"
    assert first["results"]["testCases"][0] == {"title": "sign in", "status": "PASSED", "durationMs": 6667}


@pytest.mark.parametrize(
    ("script", "last"),
    [
        ("passes", "PASSED"),
        ("fails", "FAILED"),
        ("times-out", "TIMEDOUT"),
        ("is-interrupted", "INTERRUPTED"),
        ("is-cancelled", "SKIPPED"),
        ("ends-unknown", "SKIPPED"),
    ],
)
def test_results_fit_the_verdict(script, last, in_memory, clock):
    """The last test case of a run shows why the run ended as it did."""
    run_id = start(in_memory, playwrightProjectName=script)
    clock.advance(RUN_SECONDS)

    cases = read(in_memory, run_id)["results"]["testCases"]

    assert [case["status"] for case in cases] == ["PASSED", "SKIPPED", last]


def test_statuses_follow_reads(in_memory):
    """With statuses of its own, a run moves on with each read, and the last one stays."""
    run_id = in_memory.add_run(statuses=["QUEUED", "RUNNING", "PASSED"])

    seen = [read(in_memory, run_id)["status"] for _ in range(4)]

    assert seen == ["QUEUED", "RUNNING", "PASSED", "PASSED"]


def test_asking_the_emulator_moves_no_run_on(in_memory):
    """A test that reads a run's status does not move it on."""
    run_id = in_memory.add_run(statuses=["QUEUED", "RUNNING"])

    seen = [in_memory.status(run_id) for _ in range(3)]

    assert seen == ["QUEUED", "QUEUED", "QUEUED"]


@pytest.mark.parametrize(
    ("statuses", "are_over"),
    [
        pytest.param(["PAUSED_BY_MARS", "PASSED"], [False, True], id="another-follows"),
        pytest.param(["RUNNING", "ABANDONED"], [False, True], id="the-last-word"),
        pytest.param(["PAUSED", "PAUSED"], [False, False], id="paused"),
        pytest.param(["FAILED", "RUNNING"], [True, False], id="known-words-speak-for-themselves"),
    ],
)
def test_unknown_status_is_over_when_nothing_follows(statuses, are_over, in_memory):
    """A status that no client knows is live while another follows, and final as the last one."""
    run_id = in_memory.add_run(statuses=statuses)

    answers = [read(in_memory, run_id) for _ in statuses]

    assert [answer["status"] for answer in answers] == statuses
    assert ["finishedAt" in answer for answer in answers] == are_over
    assert ["results" in answer for answer in answers] == are_over


@pytest.mark.parametrize("moment", [0, RUN_SECONDS / 2], ids=["at-the-start", "half-way"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_live_run_can_be_cancelled(script, moment, in_memory, clock):
    """Any live run can be cancelled, and is over at once."""
    run_id = start(in_memory, playwrightProjectName=script)
    clock.advance(moment)

    response = cancel(in_memory, run_id)
    clock.advance(1000)

    assert (response.status, response.json) == (200, {"cancelled": [{"runId": run_id}]})
    answer = read(in_memory, run_id)
    assert answer["status"] == "CANCELLED"
    assert answer["finishedAt"] == _iso(NOON + timedelta(seconds=moment))
    assert in_memory.live_runs() == []


@pytest.mark.parametrize("script", [name for name, (_, final) in SCRIPTS.items() if final is not None])
def test_finished_run_cannot_be_cancelled(script, in_memory, clock):
    """A finished run keeps its status."""
    run_id = start(in_memory, playwrightProjectName=script)
    clock.advance(RUN_SECONDS)

    response = cancel(in_memory, run_id)

    assert response.status == 400
    assert list(response.json) == ["error"]
    assert in_memory.status(run_id) == SCRIPTS[script][1]


def test_run_is_cancelled_once(in_memory):
    """The second request to cancel a run finds it finished."""
    run_id = start(in_memory)

    answers = [cancel(in_memory, run_id).status for _ in range(2)]

    assert answers == [200, 400]


def test_cancelling_wins_over_statuses(in_memory):
    """A run with statuses of its own can be cancelled too, for good."""
    run_id = in_memory.add_run(statuses=["RUNNING", "PASSED"])

    cancel(in_memory, run_id)

    assert [read(in_memory, run_id)["status"] for _ in range(3)] == ["CANCELLED"] * 3


def test_live_runs_are_those_not_over(in_memory, clock):
    """The live runs are the queued, the running and the paused ones."""
    live = [in_memory.add_run(script=script) for script in ("hangs", "stays-queued")]
    for script in ("passes", "pauses", "ends-unknown"):
        in_memory.add_run(script=script)
    clock.advance(RUN_SECONDS)
    live.append(in_memory.add_run(script="pauses"))
    clock.advance(RUN_SECONDS / 2)

    assert in_memory.live_runs() == live

"""The emulator's rules, in memory and on a clock that is set by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_stably.api.calls import check_id
from airflow_provider_stably.testing import SCRIPTS, Emulator
from tests.constants import KEY, PROJECT

RUN_SECONDS = 20
RUNS_PATH = f"/v1/projects/{PROJECT}/runs"
CANCEL_PATH = f"{RUNS_PATH}/cancel"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
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


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


def _iso(time):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if not time.microsecond else time.isoformat()[:-6] + "Z"


@pytest.fixture
def clock():
    """The emulator's clock; it shows noon."""
    return Clock()


@pytest.fixture
def emulator(clock):
    """An emulator without sockets."""
    return Emulator(api_key=KEY, run_seconds=RUN_SECONDS, clock=clock)


def ask(emulator, method, path, body=None, *, authorization=f"Bearer {KEY}"):
    """Return what an emulator answers; bytes are sent as they are, anything else as JSON."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    headers = {"Authorization": authorization} if authorization is not None else {}
    return emulator.respond(emulator.receive(method, path, headers, sent))


def start(emulator, **fields):
    """Start a run and return its id."""
    return ask(emulator, "POST", RUNS_PATH, fields).json["runId"]


def read(emulator, run_id):
    """Return a run's status answer."""
    response = ask(emulator, "GET", f"{RUNS_PATH}/{run_id}")
    assert response.status == 200
    return response.json


def cancel(emulator, run_id, *, path=CANCEL_PATH):
    """Return the answer to a cancel request."""
    return ask(emulator, "POST", path, {"where": {"runId": run_id}})


def test_every_script_has_a_timeline():
    """No script goes untested."""
    assert set(SCRIPTS) < set(TIMELINES)


@pytest.mark.parametrize(("script", "statuses"), TIMELINES.items(), ids=TIMELINES)
def test_the_script_decides_how_a_run_ends(script, statuses, emulator, clock):
    """A run goes as the Playwright project name that it is started with says."""
    run_id = start(emulator, playwrightProjectName=script)

    seen = []
    for seconds in (0, RUN_SECONDS / 2, RUN_SECONDS / 2, 10_000):
        clock.advance(seconds)
        seen.append(read(emulator, run_id)["status"])

    assert seen == statuses


def test_older_field_name_works(emulator, clock):
    """A client that still says runGroupName gets the run it asks for."""
    run_id = start(emulator, runGroupName="fails")
    clock.advance(RUN_SECONDS)

    assert read(emulator, run_id)["status"] == "FAILED"


def test_newer_field_name_wins(emulator, clock):
    """A client that says both gets what it says in today's words."""
    run_id = start(emulator, runGroupName="fails", playwrightProjectName="times-out")
    clock.advance(RUN_SECONDS)

    assert read(emulator, run_id)["status"] == "TIMEDOUT"


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
    emulator = Emulator(api_key=KEY, run_seconds=run_seconds, clock=clock)
    run_id = start(emulator)
    clock.advance(age)

    assert read(emulator, run_id)["status"] == status


def test_queued_run_has_only_its_status(emulator):
    """A queued run has neither times nor results."""
    run_id = start(emulator)

    assert read(emulator, run_id) == {"status": "QUEUED"}


def test_live_run_has_no_end(emulator, clock):
    """A run that is under way shows when it started and no more."""
    run_id = start(emulator)
    clock.advance(RUN_SECONDS / 2)

    assert read(emulator, run_id) == {"status": "RUNNING", "startedAt": _iso(NOON + QUEUE)}


def test_finished_run_has_everything(emulator, clock):
    """A finished run has both times and results, and they stay the same."""
    run_id = start(emulator, branch="main")
    clock.advance(RUN_SECONDS + 1)

    first = read(emulator, run_id)
    clock.advance(1000)
    later = read(emulator, run_id)

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
def test_results_fit_the_verdict(script, last, emulator, clock):
    """The last test case of a run shows why the run ended as it did."""
    run_id = start(emulator, playwrightProjectName=script)
    clock.advance(RUN_SECONDS)

    cases = read(emulator, run_id)["results"]["testCases"]

    assert [case["status"] for case in cases] == ["PASSED", "SKIPPED", last]


def test_statuses_follow_reads(emulator):
    """With statuses of its own, a run moves on with each read, and the last one stays."""
    run_id = emulator.add_run(statuses=["QUEUED", "RUNNING", "PASSED"])

    seen = [read(emulator, run_id)["status"] for _ in range(4)]

    assert seen == ["QUEUED", "RUNNING", "PASSED", "PASSED"]


def test_asking_the_emulator_moves_no_run_on(emulator):
    """A test that reads a run's status does not move it on."""
    run_id = emulator.add_run(statuses=["QUEUED", "RUNNING"])

    seen = [emulator.status(run_id) for _ in range(3)]

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
def test_unknown_status_is_over_when_nothing_follows(statuses, are_over, emulator):
    """A status that no client knows is live while another follows, and final as the last one."""
    run_id = emulator.add_run(statuses=statuses)

    answers = [read(emulator, run_id) for _ in statuses]

    assert [answer["status"] for answer in answers] == statuses
    assert ["finishedAt" in answer for answer in answers] == are_over
    assert ["results" in answer for answer in answers] == are_over


@pytest.mark.parametrize("moment", [0, RUN_SECONDS / 2], ids=["at-the-start", "half-way"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_live_run_can_be_cancelled(script, moment, emulator, clock):
    """Any live run can be cancelled, and is over at once."""
    run_id = start(emulator, playwrightProjectName=script)
    clock.advance(moment)

    response = cancel(emulator, run_id)
    clock.advance(1000)

    assert (response.status, response.json) == (200, {"cancelled": [{"runId": run_id}]})
    answer = read(emulator, run_id)
    assert answer["status"] == "CANCELLED"
    assert answer["finishedAt"] == _iso(NOON + timedelta(seconds=moment))
    assert emulator.live_runs() == []


@pytest.mark.parametrize("script", [name for name, (_, final) in SCRIPTS.items() if final is not None])
def test_finished_run_cannot_be_cancelled(script, emulator, clock):
    """A finished run keeps its status."""
    run_id = start(emulator, playwrightProjectName=script)
    clock.advance(RUN_SECONDS)

    response = cancel(emulator, run_id)

    assert response.status == 400
    assert list(response.json) == ["error"]
    assert emulator.status(run_id) == SCRIPTS[script][1]


def test_run_is_cancelled_once(emulator):
    """The second request to cancel a run finds it finished."""
    run_id = start(emulator)

    answers = [cancel(emulator, run_id).status for _ in range(2)]

    assert answers == [200, 400]


def test_cancelling_wins_over_statuses(emulator):
    """A run with statuses of its own can be cancelled too, for good."""
    run_id = emulator.add_run(statuses=["RUNNING", "PASSED"])

    cancel(emulator, run_id)

    assert [read(emulator, run_id)["status"] for _ in range(3)] == ["CANCELLED"] * 3


def test_unknown_run_cannot_be_cancelled(emulator):
    """A run that does not exist cannot be cancelled."""
    assert cancel(emulator, "run-9").status == 400


def test_run_belongs_to_a_project(emulator):
    """Another project can neither read nor cancel a run."""
    run_id = start(emulator)

    reading = ask(emulator, "GET", f"/v1/projects/project-2/runs/{run_id}")
    cancelling = cancel(emulator, run_id, path="/v1/projects/project-2/runs/cancel")

    assert (reading.status, cancelling.status) == (404, 400)
    assert emulator.live_runs() == [run_id]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="broken"),
        pytest.param(b"\xff", id="not-text"),
        pytest.param(b"[" * 100_000, id="bottomless"),
        pytest.param([], id="list"),
        pytest.param({}, id="no-where"),
        pytest.param({"runId": "run-1"}, id="not-in-where"),
        pytest.param({"where": None}, id="null-where"),
        pytest.param({"where": "run-1"}, id="where-is-text"),
        pytest.param({"where": ["run-1"]}, id="where-is-a-list"),
        pytest.param({"where": {}}, id="no-run"),
        pytest.param({"where": {"runId": None}}, id="null-run"),
        pytest.param({"where": {"runId": ["run-1"]}}, id="list-of-runs"),
    ],
)
def test_malformed_cancel_is_refused(body, emulator):
    """A cancel request that is not of the published form is refused and cancels nothing."""
    emulator.add_run(run_id="run-1")

    response = ask(emulator, "POST", CANCEL_PATH, body)

    assert response.status == 400
    assert emulator.live_runs() == ["run-1"]


def test_cancel_request_is_open(emulator):
    """The published cancel request is not a closed object, so other fields do no harm."""
    emulator.add_run(run_id="run-1")

    response = ask(emulator, "POST", CANCEL_PATH, {"where": {"runId": "run-1", "note": 1}, "dryRun": True})

    assert response.status == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"playwrightProjectName": "smoke"}, id="playwright-project"),
        pytest.param({"runGroupName": "smoke"}, id="older-name"),
        pytest.param({"branch": "feature/basket"}, id="branch"),
        pytest.param({"environment": ""}, id="empty-text"),
        pytest.param({"envOverrides": {}}, id="no-overrides"),
        pytest.param({"autofix": False}, id="autofix"),
        pytest.param({"envOverrides": {"A": "1", "B": ""}}, id="overrides"),
    ],
)
def test_start_accepts_documented_fields(body, emulator):
    """A start with any of the documented fields makes a run, which remembers them."""
    response = ask(emulator, "POST", RUNS_PATH, body)

    assert response.status == 200
    assert list(response.json) == ["runId"]
    assert emulator.runs[response.json["runId"]].started_with == body


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="broken"),
        pytest.param(b"\xff", id="not-text"),
        pytest.param(b"[" * 100_000, id="bottomless"),
        pytest.param(b"null", id="null"),
        pytest.param([], id="list"),
        pytest.param("smoke", id="text"),
        pytest.param(1, id="number"),
        pytest.param({"playwright_project_name": "smoke"}, id="our-spelling"),
        pytest.param({"branch": "main", "commit": "abc"}, id="unknown-field"),
        pytest.param({"playwrightProjectName": None}, id="null-playwright-project"),
        pytest.param({"playwrightProjectName": ["smoke"]}, id="list-of-playwright-projects"),
        pytest.param({"runGroupName": 1}, id="number-as-older-name"),
        pytest.param({"branch": None}, id="null-branch"),
        pytest.param({"branch": 1}, id="number-as-branch"),
        pytest.param({"environment": {}}, id="object-as-environment"),
        pytest.param({"envOverrides": None}, id="null-overrides"),
        pytest.param({"autofix": "true"}, id="text-as-autofix"),
        pytest.param({"autofix": None}, id="null-autofix"),
        pytest.param({"envOverrides": [["A", "1"]]}, id="list-of-overrides"),
        pytest.param({"envOverrides": "A=1"}, id="text-as-overrides"),
        pytest.param({"envOverrides": {"A": 1}}, id="number-as-override"),
        pytest.param({"envOverrides": {"A": True}}, id="boolean-as-override"),
        pytest.param({"envOverrides": {"A": None}}, id="null-as-override"),
        pytest.param({"envOverrides": {"A": "1", "B": {}}}, id="object-as-override"),
    ],
)
def test_malformed_start_is_refused(body, emulator):
    """A start with anything but the documented fields, as text, is refused and makes no run."""
    response = ask(emulator, "POST", RUNS_PATH, body)

    assert response.status == 400
    assert list(response.json) == ["error"]
    assert emulator.runs == {}


def test_each_start_is_a_new_run(emulator):
    """The same request twice makes two runs, with ids that can stand in a URL."""
    first, second = start(emulator), start(emulator)

    assert first != second
    assert [check_id("run", run_id) for run_id in emulator.runs] == [first, second]


def test_added_run_can_have_a_name(emulator):
    """A test can choose a run's id, project and script."""
    emulator.add_run(run_id="run-1", project_id="project-2", script="stays-queued")

    response = ask(emulator, "GET", "/v1/projects/project-2/runs/run-1")

    assert (response.status, response.json) == (200, {"status": "QUEUED"})


def test_live_runs_are_those_not_over(emulator, clock):
    """The live runs are the queued, the running and the paused ones."""
    live = [emulator.add_run(script=script) for script in ("hangs", "stays-queued")]
    for script in ("passes", "pauses", "ends-unknown"):
        emulator.add_run(script=script)
    clock.advance(RUN_SECONDS)
    live.append(emulator.add_run(script="pauses"))
    clock.advance(RUN_SECONDS / 2)

    assert emulator.live_runs() == live


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param(KEY, id="no-scheme"),
        pytest.param("Bearer", id="no-key"),
        pytest.param("Bearer sk-another", id="another-key"),
        pytest.param(f"Bearer {KEY}x", id="longer-key"),
        pytest.param(f"Basic {KEY}", id="another-scheme"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", RUNS_PATH),
        ("GET", f"{RUNS_PATH}/run-1"),
        ("POST", CANCEL_PATH),
        ("GET", "/"),
        ("PUT", RUNS_PATH),
    ],
    ids=["start", "get", "cancel", "wrong-path", "wrong-method"],
)
def test_wrong_key_is_refused(method, path, authorization, emulator):
    """Without the key nothing is shown and nothing happens."""
    emulator.add_run(run_id="run-1")

    response = ask(emulator, method, path, {"where": {"runId": "run-1"}}, authorization=authorization)

    assert (response.status, response.json) == (401, {"error": "Invalid API key"})
    assert emulator.live_runs() == ["run-1"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/", id="root"),
        pytest.param("POST", "/v2/projects/project-1/runs", id="another-version"),
        pytest.param("POST", f"{RUNS_PATH}/", id="slash-at-the-end"),
        pytest.param("POST", "/v1/projects//runs", id="no-project"),
        pytest.param("POST", f"{RUNS_PATH}/run-1/cancel", id="cancel-under-the-run"),
        pytest.param("GET", f"{RUNS_PATH}/run-1/results", id="deeper"),
        pytest.param("GET", f"{RUNS_PATH}/run-9", id="unknown-run"),
        pytest.param("GET", f"{RUNS_PATH}/run%2F1", id="escaped-slash"),
        pytest.param("POST", "/v1/projects/a%2Fb/runs", id="impossible-project"),
        pytest.param("POST", "/v1/projects/%2E%2E/runs", id="escaped-dots"),
    ],
)
def test_unknown_address_is_not_found(method, path, emulator):
    """What does not exist is not found."""
    emulator.add_run(run_id="run-1")

    response = ask(emulator, method, path, {})

    assert response.status == 404
    assert list(response.json) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        pytest.param("GET", RUNS_PATH, "POST", id="list-runs"),
        pytest.param("DELETE", RUNS_PATH, "POST", id="delete-runs"),
        pytest.param("POST", f"{RUNS_PATH}/run-1", "GET", id="post-to-a-run"),
        pytest.param("DELETE", f"{RUNS_PATH}/run-1", "GET", id="delete-a-run"),
        pytest.param("GET", CANCEL_PATH, "POST", id="get-cancel"),
        pytest.param("PUT", CANCEL_PATH, "POST", id="put-cancel"),
    ],
)
def test_wrong_method_is_refused(method, path, allowed, emulator):
    """A method that an address does not have is refused, with the one it has."""
    emulator.add_run(run_id="run-1")

    response = ask(emulator, method, path, {"where": {"runId": "run-1"}})

    assert response.status == 405
    assert list(response.json) == ["error"]
    assert response.headers == {"Allow": allowed}
    assert emulator.live_runs() == ["run-1"]


@pytest.mark.parametrize(
    ("method", "path", "body", "noted"),
    [
        pytest.param("POST", RUNS_PATH, {}, ("start", PROJECT, None), id="start"),
        pytest.param("GET", f"{RUNS_PATH}/run-1", None, ("get", PROJECT, "run-1"), id="get"),
        pytest.param(
            "POST", CANCEL_PATH, {"where": {"runId": "run-1"}}, ("cancel", PROJECT, "run-1"), id="cancel"
        ),
        pytest.param("POST", CANCEL_PATH, {}, ("cancel", PROJECT, None), id="cancel-of-nothing"),
        pytest.param("GET", f"{RUNS_PATH}/run%2D1", None, ("get", PROJECT, "run-1"), id="escaped"),
        pytest.param("GET", "/", None, (None, None, None), id="wrong-path"),
        pytest.param("PUT", RUNS_PATH, {}, (None, None, None), id="wrong-method"),
    ],
)
def test_journal_says_what_a_request_is_about(method, path, body, noted, emulator):
    """The journal has each request's call, project and run."""
    ask(emulator, method, path, body)

    [request] = emulator.journal
    assert (request.call, request.project_id, request.run_id) == noted
    assert (request.method, request.path) == (method, path)


def test_journal_has_requests_as_sent(emulator):
    """The journal has headers under lower-case names, and the body byte by byte."""
    body = b' {"branch": "main"}'

    emulator.receive("POST", RUNS_PATH, {"X-Trace": "Abc"}, body)

    [request] = emulator.journal
    assert request.headers == {"x-trace": "Abc"}
    assert request.body == body
    assert request.json() == {"branch": "main"}
    assert request.at >= 0


def test_journal_has_refused_requests(emulator):
    """A request that is refused is recorded all the same."""
    ask(emulator, "POST", RUNS_PATH, {}, authorization=None)
    ask(emulator, "POST", RUNS_PATH, b"{")

    assert [request.call for request in emulator.journal] == ["start", "start"]


def test_requests_can_be_picked(emulator):
    """The journal's requests can be picked by call and by run."""
    first, second = start(emulator), start(emulator)
    read(emulator, first)
    read(emulator, second)
    cancel(emulator, second)

    assert len(emulator.requests()) == 5
    assert [request.run_id for request in emulator.requests("get")] == [first, second]
    assert [request.call for request in emulator.requests(run_id=second)] == ["get", "cancel"]
    assert [request.call for request in emulator.requests("cancel", run_id=first)] == []

"""The emulator's rules for requests, in memory: what is accepted, refused and noted."""

from __future__ import annotations

import pytest

from airflow_provider_stably.api.calls import check_id
from tests.constants import KEY, PROJECT
from tests.in_memory import CANCEL_PATH, RUNS_PATH, ask, cancel, read, start


def test_unknown_run_cannot_be_cancelled(in_memory):
    """A run that does not exist cannot be cancelled."""
    assert cancel(in_memory, "run-9").status == 400


def test_run_belongs_to_a_project(in_memory):
    """Another project can neither read nor cancel a run."""
    run_id = start(in_memory)

    reading = ask(in_memory, "GET", f"/v1/projects/project-2/runs/{run_id}")
    cancelling = cancel(in_memory, run_id, path="/v1/projects/project-2/runs/cancel")

    assert (reading.status, cancelling.status) == (404, 400)
    assert in_memory.live_runs() == [run_id]


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
def test_malformed_cancel_is_refused(body, in_memory):
    """A cancel request that is not of the published form is refused and cancels nothing."""
    in_memory.add_run(run_id="run-1")

    response = ask(in_memory, "POST", CANCEL_PATH, body)

    assert response.status == 400
    assert in_memory.live_runs() == ["run-1"]


def test_cancel_request_is_open(in_memory):
    """The published cancel request is not a closed object, so other fields do no harm."""
    in_memory.add_run(run_id="run-1")

    response = ask(in_memory, "POST", CANCEL_PATH, {"where": {"runId": "run-1", "note": 1}, "dryRun": True})

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
def test_start_accepts_documented_fields(body, in_memory):
    """A start with any of the documented fields makes a run, which remembers them."""
    response = ask(in_memory, "POST", RUNS_PATH, body)

    assert response.status == 200
    assert list(response.json) == ["runId"]
    assert in_memory.runs[response.json["runId"]].started_with == body


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
def test_malformed_start_is_refused(body, in_memory):
    """A start with anything but the documented fields, as text, is refused and makes no run."""
    response = ask(in_memory, "POST", RUNS_PATH, body)

    assert response.status == 400
    assert list(response.json) == ["error"]
    assert in_memory.runs == {}


def test_each_start_is_a_new_run(in_memory):
    """The same request twice makes two runs, with ids that can stand in a URL."""
    first, second = start(in_memory), start(in_memory)

    assert first != second
    assert [check_id("run", run_id) for run_id in in_memory.runs] == [first, second]


def test_added_run_can_have_a_name(in_memory):
    """A test can choose a run's id, project and script."""
    in_memory.add_run(run_id="run-1", project_id="project-2", script="stays-queued")

    response = ask(in_memory, "GET", "/v1/projects/project-2/runs/run-1")

    assert (response.status, response.json) == (200, {"status": "QUEUED"})


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
def test_wrong_key_is_refused(method, path, authorization, in_memory):
    """Without the key nothing is shown and nothing happens."""
    in_memory.add_run(run_id="run-1")

    response = ask(in_memory, method, path, {"where": {"runId": "run-1"}}, authorization=authorization)

    assert (response.status, response.json) == (401, {"error": "Invalid API key"})
    assert in_memory.live_runs() == ["run-1"]


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
def test_unknown_address_is_not_found(method, path, in_memory):
    """What does not exist is not found."""
    in_memory.add_run(run_id="run-1")

    response = ask(in_memory, method, path, {})

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
def test_wrong_method_is_refused(method, path, allowed, in_memory):
    """A method that an address does not have is refused, with the one it has."""
    in_memory.add_run(run_id="run-1")

    response = ask(in_memory, method, path, {"where": {"runId": "run-1"}})

    assert response.status == 405
    assert list(response.json) == ["error"]
    assert response.headers == {"Allow": allowed}
    assert in_memory.live_runs() == ["run-1"]


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
def test_journal_says_what_a_request_is_about(method, path, body, noted, in_memory):
    """The journal has each request's call, project and run."""
    ask(in_memory, method, path, body)

    [request] = in_memory.journal
    assert (request.call, request.project_id, request.run_id) == noted
    assert (request.method, request.path) == (method, path)


def test_journal_has_requests_as_sent(in_memory):
    """The journal has headers under lower-case names, and the body byte by byte."""
    body = b' {"branch": "main"}'

    in_memory.receive("POST", RUNS_PATH, {"X-Trace": "Abc"}, body)

    [request] = in_memory.journal
    assert request.headers == {"x-trace": "Abc"}
    assert request.body == body
    assert request.json() == {"branch": "main"}
    assert request.at >= 0


def test_journal_has_refused_requests(in_memory):
    """A request that is refused is recorded all the same."""
    ask(in_memory, "POST", RUNS_PATH, {}, authorization=None)
    ask(in_memory, "POST", RUNS_PATH, b"{")

    assert [request.call for request in in_memory.journal] == ["start", "start"]


def test_requests_can_be_picked(in_memory):
    """The journal's requests can be picked by call and by run."""
    first, second = start(in_memory), start(in_memory)
    read(in_memory, first)
    read(in_memory, second)
    cancel(in_memory, second)

    assert len(in_memory.requests()) == 5
    assert [request.run_id for request in in_memory.requests("get")] == [first, second]
    assert [request.call for request in in_memory.requests(run_id=second)] == ["get", "cancel"]
    assert [request.call for request in in_memory.requests("cancel", run_id=first)] == []

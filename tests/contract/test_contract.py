"""One description of the API, and all that has to keep to it: clients, emulator, published contract."""

from __future__ import annotations

import asyncio
import json

import pytest
import schemathesis
from openapi_schema_validator import OAS31Validator

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.async_client import AsyncStablyClient
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.api.endpoint import Endpoint
from airflow_provider_stably.testing import SCRIPTS
from tests.constants import KEY, PROJECT
from tests.contract.description import (
    DESCRIPTION,
    PATH,
    SCHEMAS,
    bare,
    faults,
    faults_of_answer,
    faults_of_request,
)
from tests.in_memory import CANCEL_PATH, RUN_SECONDS, RUNS_PATH, ask

RUN = "run-1"
RUN_PATH = f"{RUNS_PATH}/{RUN}"
SCRIPTS_WITH_NEW_WORDS = {"pauses", "ends-unknown"}

CALLS = {
    "start-with-nothing": calls.start_run(PROJECT),
    "start-with-autofix": calls.start_run(PROJECT, autofix=True),
    "start-without-autofix": calls.start_run(PROJECT, autofix=False),
    "start-with-a-playwright-project": calls.start_run(PROJECT, playwright_project_name="smoke"),
    "start-with-no-overrides": calls.start_run(PROJECT, env_overrides={}),
    "start-with-everything": calls.start_run(
        PROJECT,
        playwright_project_name="smoke",
        branch="feature/basket",
        environment="staging",
        env_overrides={"BASE_URL": "https://preview.example.com", "EMPTY": ""},
    ),
    "get": calls.get_run(PROJECT, RUN),
    "cancel": calls.cancel_run(PROJECT, RUN),
    "ids-of-every-allowed-character": calls.get_run("aZ09._~-", "~-._90Za"),
}


def test_description_is_openapi():
    """The description is an OpenAPI 3.1 document."""
    schema = schemathesis.openapi.from_path(PATH)

    schema.validate()

    assert schema.raw_schema["openapi"].startswith("3.1.")


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_valid(name):
    """Each schema of the description is a JSON schema."""
    OAS31Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize("example", ["everything", "narrowed", "older"])
def test_examples_are_valid(example):
    """Each example in the description keeps to the description, the older field name included."""
    start = DESCRIPTION["paths"]["/v1/projects/{projectId}/runs"]["post"]
    media = start["requestBody"]["content"]["application/json"]

    assert faults(media["examples"][example]["value"], media["schema"]) == []


def test_cancel_is_as_published():
    """The description of the cancel call asks and answers what Stably's published contract does."""
    cancel = DESCRIPTION["paths"]["/v1/projects/{projectId}/runs/cancel"]["post"]
    error = {
        "type": "object",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
        "additionalProperties": False,
    }

    described = {
        "required": cancel["requestBody"]["required"],
        "request": bare(cancel["requestBody"]["content"]),
        "responses": {code: bare(answer["content"]) for code, answer in cancel["responses"].items()},
        "security": DESCRIPTION["security"],
        "apiKey": bare(DESCRIPTION["components"]["securitySchemes"]["apiKey"]),
    }

    assert described == {
        "required": True,
        "request": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "where": {
                            "type": "object",
                            "properties": {"runId": {"type": "string"}},
                            "required": ["runId"],
                        }
                    },
                    "required": ["where"],
                }
            }
        },
        "responses": {
            "200": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "cancelled": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "properties": {"runId": {"type": "string"}},
                                    "required": ["runId"],
                                    "additionalProperties": False,
                                },
                            }
                        },
                        "required": ["cancelled"],
                        "additionalProperties": False,
                    }
                }
            },
            "400": {"application/json": {"schema": error}},
            "401": {"application/json": {"schema": error}},
        },
        "security": [{"apiKey": []}],
        "apiKey": {"type": "http", "scheme": "bearer"},
    }


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_calls_are_described(call):
    """Each call that the protocol builds is in the description, with its path, ids and body."""
    assert faults_of_request(call.route.method, call.path, call.body) == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("GET", RUNS_PATH, None, id="list"),
        pytest.param("POST", "/v1/projects/a%2Fb/runs", {}, id="escaped-id"),
        pytest.param("POST", RUNS_PATH, {"branch": None}, id="null-field"),
        pytest.param("POST", RUNS_PATH, {"envOverrides": {"RETRIES": 3}}, id="override-that-is-a-number"),
        pytest.param("POST", RUNS_PATH, {"project": "smoke"}, id="unknown-field"),
        pytest.param("POST", RUNS_PATH, None, id="start-without-body"),
        pytest.param("GET", RUN_PATH, {}, id="get-with-body"),
        pytest.param("POST", CANCEL_PATH, {"runId": RUN}, id="cancel-without-where"),
    ],
)
def test_description_refuses(method, path, body):
    """The description has no room for requests that are not the API's: the tests above can fail."""
    assert faults_of_request(method, path, body) != []


def send_synchronously(endpoint, calls):
    """Send calls over requests."""
    with StablyClient(endpoint) as client:
        for call in calls:
            client.send(call)


def send_asynchronously(endpoint, calls):
    """Send calls over aiohttp."""

    async def send():
        async with AsyncStablyClient(endpoint) as client:
            for call in calls:
                await client.send(call)

    asyncio.run(send())


@pytest.mark.parametrize("send", [send_synchronously, send_asynchronously])
def test_requests_on_the_wire_are_described(send, emulator):
    """What either client puts on the wire is in the description, and means what the call says."""
    emulator.add_run(project_id=PROJECT, run_id=RUN)
    emulator.add_run(project_id="aZ09._~-", run_id="~-._90Za")

    send(Endpoint(emulator.url, KEY), CALLS.values())

    bodies = [json.loads(request.body) if request.body else None for request in emulator.journal]
    sent = [(request.method, request.path) for request in emulator.journal]
    assert sent == [(call.route.method, call.path) for call in CALLS.values()]
    assert bodies == [call.body for call in CALLS.values()]
    assert [faults_of_request(*what, body) for what, body in zip(sent, bodies, strict=True)] == [[]] * len(
        CALLS
    )
    for request, body in zip(emulator.journal, bodies, strict=True):
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert body is None or request.headers["content-type"] == "application/json"


@pytest.mark.parametrize("moment", [0, RUN_SECONDS / 2, RUN_SECONDS], ids=["queued", "under-way", "over"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_status_answers_are_described(script, moment, in_memory, clock):
    """However a run goes, the emulator describes it as the description says, at every moment."""
    in_memory.add_run(project_id=PROJECT, script=script, run_id=RUN)
    clock.advance(moment)

    response = ask(in_memory, "GET", RUN_PATH)

    assert response.status == 200
    assert faults_of_answer("GET", RUN_PATH, response) == []
    if script not in SCRIPTS_WITH_NEW_WORDS:
        assert faults(response.json["status"], SCHEMAS["KnownRunStatus"]) == []


@pytest.mark.parametrize("script", ["passes", "stays-queued", "pauses"])
def test_status_answers_after_cancelling_are_described(script, in_memory, clock):
    """A run that was cancelled is described as the description says."""
    in_memory.add_run(project_id=PROJECT, script=script, run_id=RUN)
    clock.advance(RUN_SECONDS / 2)
    ask(in_memory, "POST", CANCEL_PATH, {"where": {"runId": RUN}})

    response = ask(in_memory, "GET", RUN_PATH)

    assert response.json["status"] == "CANCELLED"
    assert faults_of_answer("GET", RUN_PATH, response) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("POST", RUNS_PATH, {}, 200, id="start"),
        pytest.param("POST", RUNS_PATH, CALLS["start-with-everything"].body, 200, id="start-with-everything"),
        pytest.param("POST", RUNS_PATH, {"runGroupName": "smoke"}, 200, id="start-as-older-clients-do"),
        pytest.param("POST", RUNS_PATH, None, 400, id="start-without-body"),
        pytest.param("POST", RUNS_PATH, b"{", 400, id="start-with-broken-json"),
        pytest.param("POST", RUNS_PATH, [], 400, id="start-with-a-list"),
        pytest.param("POST", RUNS_PATH, {"project": "smoke"}, 400, id="start-with-an-unknown-field"),
        pytest.param("POST", RUNS_PATH, {"envOverrides": {"A": 1}}, 400, id="start-with-a-number"),
        pytest.param("POST", RUNS_PATH, {"autofix": "true"}, 400, id="start-with-text-as-autofix"),
        pytest.param("POST", "/v1/projects/a%20b/runs", {}, 404, id="start-in-an-impossible-project"),
        pytest.param("POST", CANCEL_PATH, {"where": {"runId": RUN}}, 200, id="cancel"),
        pytest.param("POST", CANCEL_PATH, {"where": {"runId": "run-0"}}, 400, id="cancel-a-finished-run"),
        pytest.param("POST", CANCEL_PATH, {"where": {"runId": "run-9"}}, 400, id="cancel-an-unknown-run"),
        pytest.param("POST", CANCEL_PATH, {"where": {}}, 400, id="cancel-without-a-run"),
        pytest.param("POST", CANCEL_PATH, b"{", 400, id="cancel-with-broken-json"),
        pytest.param("GET", f"{RUNS_PATH}/run-9", None, 404, id="get-an-unknown-run"),
        pytest.param("GET", "/v1/projects/project-2/runs/run-1", None, 404, id="get-from-another-project"),
        pytest.param("GET", "/", None, 404, id="wrong-path"),
        pytest.param("POST", "/v2" + RUNS_PATH.removeprefix("/v1"), {}, 404, id="wrong-version"),
        pytest.param("GET", RUNS_PATH, None, 405, id="wrong-method-for-start"),
        pytest.param("DELETE", RUN_PATH, None, 405, id="wrong-method-for-get"),
        pytest.param("GET", CANCEL_PATH, None, 405, id="wrong-method-for-cancel"),
    ],
)
def test_answers_are_described(method, path, body, status, in_memory):
    """The emulator answers what the description says, yes or no."""
    in_memory.add_run(project_id=PROJECT, run_id="run-0", statuses=["PASSED"])
    in_memory.add_run(project_id=PROJECT, run_id=RUN)

    response = ask(in_memory, method, path, body)

    assert response.status == status
    assert faults_of_answer(method, path, response) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", RUNS_PATH), ("GET", RUN_PATH), ("POST", CANCEL_PATH), ("GET", "/"), ("PUT", RUN_PATH)],
    ids=["start", "get", "cancel", "wrong-path", "wrong-method"],
)
def test_refusals_of_a_key_are_described(method, path, in_memory):
    """A key that is not valid gets the described refusal everywhere."""
    response = ask(in_memory, method, path, {}, authorization="Bearer sk-another")

    assert response.status == 401
    assert faults_of_answer(method, path, response) == []

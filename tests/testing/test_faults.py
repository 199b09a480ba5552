"""The emulator on its port: what can go wrong on request."""

from __future__ import annotations

import math
import time
from contextlib import suppress

import pytest
import requests

from airflow_provider_stably.testing import Fault, StablyEmulator, server
from tests.constants import KEY, PROJECT
from tests.testing.over_http import RUNS_PATH, cancel, connect, read, send, start
from tests.waiting import wait_until

IMPATIENT = 0.2


@pytest.mark.parametrize("processed", [False, True], ids=["lost", "processed"])
def test_fault_status_replaces_the_answer(processed, emulator):
    """A fault's status is what the client sees, whether or not the request takes effect."""
    emulator.inject(Fault(status=503, processed=processed))

    response = start(emulator)

    assert response.status_code == 503
    assert response.headers["Content-Type"] == "application/json"
    assert len(emulator.runs) == processed


@pytest.mark.parametrize(
    ("body", "content"),
    [
        pytest.param({"error": "No"}, b'{"error": "No"}', id="mapping-as-json"),
        pytest.param("<html>\u00e9</html>", b"<html>\xc3\xa9</html>", id="text-as-utf-8"),
        pytest.param(b"\xff\x00", b"\xff\x00", id="bytes-as-they-are"),
        pytest.param(b"", b"", id="nothing"),
    ],
)
def test_fault_body_replaces_the_answer(body, content, emulator):
    """A fault's body is what the client gets, as a success if no status says otherwise."""
    emulator.inject(Fault(body=body))

    response = start(emulator)

    assert (response.status_code, response.content) == (200, content)
    assert emulator.runs == {}


def test_fault_body_can_hide_a_success(emulator):
    """With processed, a run starts although the client gets another answer."""
    emulator.inject(Fault(status=502, body="Bad gateway", processed=True))

    response = start(emulator)

    assert (response.status_code, response.text) == (502, "Bad gateway")
    assert len(emulator.live_runs()) == 1


def test_fault_is_for_one_project(emulator):
    """A fault that names a project leaves the requests about other projects alone."""
    emulator.inject(Fault(status=502), project_id="project-2")

    in_this_project = start(emulator)
    in_the_other = send(emulator, "POST", RUNS_PATH.replace(PROJECT, "project-2"), {})

    assert (in_this_project.status_code, in_the_other.status_code) == (200, 502)


@pytest.mark.parametrize("name", ["Content-Type", "content-type"])
def test_fault_headers_come_with_the_real_answer(name, emulator):
    """Headers alone leave the answer as it is; one that it has is replaced, however it is spelled."""
    emulator.add_run(run_id="run-1", statuses=["PASSED"])
    emulator.inject(Fault(headers={"X-Trace": "abc", name: "text/plain"}))

    response = read(emulator)

    assert response.status_code == 200
    assert response.json()["status"] == "PASSED"
    assert response.headers["X-Trace"] == "abc"
    assert response.headers["Content-Type"] == "text/plain"


def test_fault_headers_come_with_a_status(emulator):
    """Headers go with a fault's status, as Retry-After does."""
    emulator.inject(Fault(status=429, headers={"Retry-After": "7"}))

    response = start(emulator)

    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")


@pytest.mark.parametrize("processed", [False, True], ids=["lost", "processed"])
def test_drop_closes_the_connection(processed, emulator):
    """A dropped request gets no answer, whether or not it takes effect."""
    emulator.inject(Fault(drop=True, processed=processed))

    with pytest.raises(requests.ConnectionError):
        start(emulator)

    assert len(emulator.runs) == processed
    assert len(emulator.requests("start")) == 1


def test_delay_comes_before_the_real_answer(emulator):
    """A delayed answer is the real one, and not early."""
    emulator.add_run(run_id="run-1", statuses=["PASSED"])
    emulator.inject(Fault(delay=0.1))

    began = time.monotonic()
    response = read(emulator)

    assert time.monotonic() - began >= 0.1
    assert response.json()["status"] == "PASSED"


def test_endless_delay_never_answers(emulator):
    """With an endless delay it is the client that gives up; others are served meanwhile."""
    emulator.add_run(run_id="run-1")
    emulator.inject(Fault(delay=math.inf))

    with pytest.raises(requests.ReadTimeout):
        read(emulator, timeout=IMPATIENT)

    assert read(emulator).status_code == 200
    assert len(emulator.requests("get")) == 2


def test_trickle_sends_byte_by_byte(emulator, monkeypatch):
    """A trickling answer is whole in the end, but comes one byte at a time."""
    monkeypatch.setattr(server, "_TRICKLE_SECONDS", 0)
    emulator.inject(Fault(body={"status": "PASSED"}, trickle=True))

    response = connect(emulator).getresponse()
    pieces = list(iter(lambda: response.read1(100), b""))

    assert b"".join(pieces) == b'{"status": "PASSED"}'
    assert {len(piece) for piece in pieces} == {1}


def test_trickle_outlasts_a_patient_client(emulator):
    """A trickling answer takes its time although each byte comes soon."""
    body = b"x" * 10
    emulator.inject(Fault(body=body, trickle=True))

    began = time.monotonic()
    read(emulator)

    assert time.monotonic() - began >= (len(body) - 1) * server._TRICKLE_SECONDS


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(drop=True), id="drop"),
        pytest.param(Fault(drop=True, processed=True), id="drop-processed"),
        pytest.param(Fault(delay=math.inf), id="endless-delay"),
        pytest.param(Fault(body=b"x" * 1000, trickle=True), id="trickle"),
    ],
)
def test_faults_are_not_logged_as_errors(fault, caplog):
    """What goes wrong on request, and a client that gives up on it, leaves no error in the log."""
    caplog.set_level("DEBUG")
    with StablyEmulator(api_key=KEY) as emulator:
        emulator.inject(fault)
        client = connect(emulator)
        wait_until(lambda: emulator.journal)
        client.close()
        read(emulator)

    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR", "CRITICAL"}] == []


@pytest.mark.parametrize(
    ("fault", "logged"),
    [
        pytest.param(Fault(), "404", id="none"),
        pytest.param(Fault(status=503), "503", id="status"),
        pytest.param(Fault(body="?"), "200", id="body"),
        pytest.param(Fault(body="?", status=502), "502", id="status-and-body"),
        pytest.param(Fault(body="?", processed=True), "200", id="body-processed"),
        pytest.param(Fault(drop=True), "no answer", id="drop"),
        pytest.param(Fault(delay=math.inf), "no answer", id="endless-delay"),
    ],
)
def test_log_says_what_the_client_sees(fault, logged, emulator, caplog):
    """The log has each request with the status that the client got for it."""
    caplog.set_level("INFO", logger=server.__name__)
    emulator.inject(fault)

    with suppress(requests.RequestException):
        read(emulator, timeout=IMPATIENT)

    assert caplog.messages == [f"GET {RUNS_PATH}/run-1 -> {logged}"]


def test_fault_happens_once(emulator):
    """A fault hits one request by default."""
    emulator.inject(Fault(status=500))

    codes = [start(emulator).status_code for _ in range(2)]

    assert codes == [500, 200]


def test_fault_happens_as_often_as_asked(emulator):
    """A fault hits as many requests as asked for."""
    emulator.inject(Fault(status=500), times=2)

    codes = [start(emulator).status_code for _ in range(3)]

    assert codes == [500, 500, 200]


def test_fault_can_last_until_healed(emulator):
    """A fault for all requests ends with heal."""
    emulator.inject(Fault(status=500), times=math.inf)
    ill = [start(emulator).status_code for _ in range(5)]

    emulator.heal()

    assert ill == [500] * 5
    assert start(emulator).status_code == 200


def test_faults_happen_in_order(emulator):
    """Faults hit in the order in which they were asked for."""
    emulator.inject(Fault(status=500), times=2)
    emulator.inject(Fault(status=429))

    codes = [start(emulator).status_code for _ in range(4)]

    assert codes == [500, 500, 429, 200]


@pytest.mark.parametrize("call", ["start", "get", "cancel"])
def test_fault_can_be_for_one_call(call, emulator):
    """A fault for one call lets the others pass, and waits for its own."""
    emulator.add_run(run_id="run-1")
    emulator.inject(Fault(status=503), call=call, times=math.inf)

    codes = {
        "start": start(emulator).status_code,
        "get": read(emulator).status_code,
        "cancel": cancel(emulator).status_code,
    }

    assert codes == {"start": 200, "get": 200, "cancel": 200, call: 503}


def test_fault_can_be_for_one_run(emulator):
    """A fault for one run hits whatever is about it, and nothing else."""
    for run_id in ("run-1", "run-2"):
        emulator.add_run(run_id=run_id)
    emulator.inject(Fault(status=503), run_id="run-2", times=math.inf)

    others = [start(emulator), read(emulator), cancel(emulator)]
    hit = [read(emulator, "run-2"), cancel(emulator, "run-2")]

    assert [response.status_code for response in others] == [200, 200, 200]
    assert [response.status_code for response in hit] == [503, 503]
    assert emulator.status("run-2") != "CANCELLED"


def test_fault_can_be_for_one_call_about_one_run(emulator):
    """A fault for a call and a run needs both to fit."""
    for run_id in ("run-1", "run-2"):
        emulator.add_run(run_id=run_id)
    emulator.inject(Fault(status=503), call="cancel", run_id="run-2")

    codes = [
        response.status_code
        for response in (read(emulator, "run-2"), cancel(emulator), cancel(emulator, "run-2"))
    ]

    assert codes == [200, 200, 503]


def test_wrong_key_can_meet_a_fault(emulator):
    """A fault hits before the key is checked, as a proxy's would."""
    emulator.inject(Fault(status=502))

    assert start(emulator, key="sk-another").status_code == 502

"""The emulator on its port: it serves its rules, comes and goes cleanly, and is for this machine only."""

from __future__ import annotations

import http.client
import json
import math
import socket
import threading
import time

import pytest
import requests

from airflow_provider_stably.testing import Fault, StablyEmulator
from tests.constants import KEY, PROJECT
from tests.testing.over_http import RUNS_PATH, SOON, cancel, connect, read, send, start
from tests.waiting import wait_until


def test_rules_are_served(emulator):
    """Over the wire the emulator answers by its rules, in JSON."""
    run_id = start(emulator).json()["runId"]

    reading, cancelling = read(emulator, run_id), cancel(emulator, run_id)

    assert reading.json() == {"status": "QUEUED"}
    assert cancelling.json() == {"cancelled": [{"runId": run_id}]}
    assert reading.headers["Content-Type"] == "application/json"
    assert emulator.status(run_id) == "CANCELLED"


def test_refusals_are_served(emulator):
    """Over the wire the emulator refuses by its rules, with the headers that belong to it."""
    wrong_key, wrong_method = read(emulator, key="sk-another"), send(emulator, "DELETE", RUNS_PATH)

    assert (wrong_key.status_code, wrong_key.json()) == (401, {"error": "Invalid API key"})
    assert (wrong_method.status_code, wrong_method.headers["Allow"]) == (405, "POST")


def test_journal_has_what_was_sent(emulator):
    """The journal has a request's path as it was sent, without the query, its headers and its body."""
    # Not over requests, which would send the hyphen unescaped.
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=SOON)
    connection.request("PUT", f"{RUNS_PATH}/run%2D1?tab=specs", b'{"a":  1}', {"X-Trace": "Abc"})
    connection.getresponse().read()

    [request] = emulator.journal
    assert (request.method, request.path) == ("PUT", f"{RUNS_PATH}/run%2D1")
    assert request.headers["x-trace"] == "Abc"
    assert request.body == b'{"a":  1}'


def test_connection_leads_to_the_emulator(emulator):
    """The connection that the emulator offers has its address and key, and fields that are asked for."""
    connection = json.loads(emulator.connection(login=PROJECT, password="sk-another"))

    assert connection == {
        "conn_type": "stably",
        "host": f"http://127.0.0.1:{emulator.port}",
        "password": "sk-another",
        "login": PROJECT,
    }
    assert json.loads(emulator.connection())["password"] == KEY


def test_connections_are_counted(emulator):
    """The emulator's count of connections shows whether a client keeps its own or opens new ones."""
    kept = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=SOON)
    for _ in range(3):
        kept.request("GET", RUNS_PATH)
        kept.getresponse().read()
    counted = emulator.connections

    read(emulator)
    kept.close()

    assert (counted, emulator.connections) == (1, 2)


def test_emulators_stand_side_by_side(emulator):
    """Two emulators have their own addresses, keys, runs and faults."""
    emulator.inject(Fault(status=500), times=math.inf)

    with StablyEmulator(api_key="sk-another") as other:
        response = start(other, key="sk-another")
        refused = start(other)

    assert response.status_code == 200
    assert refused.status_code == 401
    assert other.url != emulator.url
    assert (len(other.runs), len(emulator.runs), len(emulator.journal)) == (1, 0, 0)


def test_taken_port_is_an_error():
    """If the port is taken, entering raises, and leaves no thread behind."""
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OSError, match="address already in use"):
            StablyEmulator(port=port).__enter__()

    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(), id="idle"),
        pytest.param(Fault(delay=math.inf), id="amid-an-endless-delay"),
        pytest.param(Fault(delay=600), id="amid-a-long-delay"),
        pytest.param(Fault(body=b"x" * 100_000, trickle=True), id="amid-a-trickle"),
    ],
)
def test_nothing_runs_on(fault):
    """After exit the thread is gone and the port refuses, whatever was under way, and soon."""
    before = set(threading.enumerate())
    with StablyEmulator(api_key=KEY) as emulator:
        emulator.inject(fault)
        client = connect(emulator)
        wait_until(lambda: emulator.journal)
        began = time.monotonic()

    assert time.monotonic() - began < SOON
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", emulator.port), timeout=SOON)
    client.close()


def test_error_in_the_test_passes_through():
    """An error inside the with block is the test's own, and the emulator stops all the same."""
    before = set(threading.enumerate())

    with pytest.raises(ZeroDivisionError), StablyEmulator():
        _ = 1 / 0

    assert set(threading.enumerate()) <= before


def test_emulator_can_come_back():
    """Entered again, the emulator is at the same address and knows its runs."""
    emulator = StablyEmulator(api_key=KEY)
    with emulator:
        url, run_id = emulator.url, start(emulator).json()["runId"]

    with emulator:
        response = read(emulator, run_id)

    assert emulator.url == url
    assert response.status_code == 200


def test_failed_start_can_be_made_up_for():
    """An emulator whose port was taken can be entered once the port is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        emulator = StablyEmulator(port=taken.getsockname()[1], api_key=KEY)
        with pytest.raises(OSError, match="address already in use"):
            emulator.__enter__()

    with emulator:
        response = start(emulator)

    assert response.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
        "evil.example[::1]",
        "evil.example@127.0.0.1",
        "127.0.0.1/evil.example",
        "127.0.0.1#evil.example",
    ],
)
@pytest.mark.parametrize("path", ["/", f"/v1/projects/{PROJECT}/runs/r"])
def test_a_request_to_another_host_is_refused(emulator, host, path):
    """A web page that makes a browser take its name for this machine sees no run."""
    response = requests.get(emulator.url + path, headers={"Host": host}, timeout=5)

    assert response.status_code in {400, 421}
    assert emulator.requests() == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8484", "LOCALHOST:80"])
def test_any_name_of_loopback_will_do(emulator, host):
    """Whichever a connection has."""
    assert requests.get(emulator.url, headers={"Host": host}, timeout=5).status_code == 200


def test_no_repr_of_the_emulator_shows_a_secret(emulator):
    """A failed assertion on the journal, or on the runs, prints it."""
    requests.post(
        f"{emulator.url}/v1/projects/{PROJECT}/runs",
        json={"envOverrides": {"TOKEN": "hush"}},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=5,
    )

    assert "start" in repr(emulator.requests())
    assert KEY not in repr(emulator.requests())
    assert "hush" not in repr(emulator.requests()) + repr(emulator.runs)

"""The emulator as a program of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from threading import Timer

import pytest
import requests

from tests.constants import PROJECT, ROOT

SOON = 30
"""Seconds in which the program has done what it should; never waited for in full unless a test fails."""
OPTIONS = ["--port", "0", "--api-key", "sk-of-the-program", "--run-seconds", "0"]


@pytest.fixture
def launch():
    """Launch the program with the given options; it is killed if it outlasts the test, or its time."""
    launched = []

    def launch(*options):
        program = subprocess.Popen(
            [sys.executable, "-m", "airflow_provider_stably.testing", *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        watchdog = Timer(SOON, program.kill)
        watchdog.start()
        launched.append((program, watchdog))
        return program

    yield launch
    for program, watchdog in launched:
        watchdog.cancel()
        program.kill()
        program.communicate()


def connection_printed_by(program):
    """Read the program's output up to the connection, and return that."""
    for line in program.stdout:
        if "AIRFLOW_CONN_" in line:
            [_, assignment] = shlex.split(line)
            name, _, connection = assignment.partition("=")
            assert name == "AIRFLOW_CONN_STABLY_DEFAULT"
            return json.loads(connection)
    raise AssertionError(f"no connection was printed: {program.stderr.read()}")


def start_and_read(connection):
    """Start a run over a connection and return what its first status answer says."""
    headers = {"Authorization": f"Bearer {connection['password']}"}
    runs_url = f"{connection['host']}/v1/projects/{PROJECT}/runs"
    started = requests.post(runs_url, json={}, headers=headers, timeout=SOON)
    return requests.get(f"{runs_url}/{started.json()['runId']}", headers=headers, timeout=SOON).json()


def is_anything_left_of(program):
    """Whether any process of the program's group is there."""
    with suppress(ProcessLookupError):
        os.killpg(program.pid, 0)
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["terminate", "ctrl-c"])
def test_the_program_serves_until_a_signal(number, launch):
    """The program prints a connection that works, and a signal ends it cleanly."""
    program = launch(*OPTIONS)
    connection = connection_printed_by(program)

    answer = start_and_read(connection)
    program.send_signal(number)
    output, errors = program.communicate(timeout=SOON)

    assert connection["conn_type"] == "stably"
    assert connection["password"] == "sk-of-the-program"
    assert answer["status"] == "PASSED"  # at once: --run-seconds 0
    assert program.returncode == 0
    assert errors == ""
    assert f"POST /v1/projects/{PROJECT}/runs -> 200" in output
    assert not is_anything_left_of(program)
    with pytest.raises(requests.ConnectionError):
        start_and_read(connection)


def test_many_signals_stop_it_too(launch):
    """Someone who presses Ctrl-C again and again does not jam the program."""
    program = launch(*OPTIONS)
    connection_printed_by(program)

    for _ in range(1000):
        program.send_signal(signal.SIGINT)
        program.send_signal(signal.SIGTERM)
    _, errors = program.communicate(timeout=SOON)

    assert (program.returncode, errors) == (0, "")


def test_requests_are_logged_without_the_key(launch):
    """The program logs each request, and never the key."""
    program = launch(*OPTIONS)
    connection = connection_printed_by(program)

    start_and_read(connection)
    program.terminate()
    log, _ = program.communicate(timeout=SOON)

    assert "-> 200" in log
    assert connection["password"] not in log


def test_taken_port_ends_it(launch):
    """If the port is taken, the program says so in one line and fails."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        program = launch("--port", str(port))

        output, errors = program.communicate(timeout=SOON)

    assert program.returncode == 1
    assert errors.startswith(f"Cannot serve on port {port}: ")
    assert errors.endswith("address already in use; --port 0 takes a free one\n")
    assert errors.count("\n") == 1
    assert output == ""


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_impossible_port_ends_it(port, launch):
    """If there is no port of that number, the program says so in one line and fails."""
    program = launch("--port", port)

    output, errors = program.communicate(timeout=SOON)

    assert program.returncode == 1
    assert errors.startswith(f"Cannot serve on port {port}: ")
    assert errors.count("\n") == 1
    assert output == ""


def test_help_names_the_scripts(launch):
    """The program's help says how a run's course is chosen."""
    program = launch("--help")

    output, errors = program.communicate(timeout=SOON)

    assert (program.returncode, errors) == (0, "")
    assert "stays-queued" in output


def test_the_emulator_loads_no_airflow():
    """Airflow takes seconds to load, and would log the emulator's requests in its own way."""
    code = "import sys, airflow_provider_stably.testing; sys.exit('airflow' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

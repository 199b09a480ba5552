"""Try it by hand: a real Airflow with the example DAGs, and the emulator of Stably's API: ``make ui``.

Everything is temporary and on loopback; Ctrl-C ends and removes it.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from textwrap import dedent

import requests
from steps import ROOT, NotAsPromisedError, Steps, TemporaryAirflow, main

from airflow_provider_stably.testing import SCRIPTS, StablyEmulator

PROJECT_ID = "my-project"
USER = "admin"
RUN_SECONDS = 60
START_SECONDS = 180


def try_by_hand(steps: Steps) -> None:
    """Start everything, say where it is, and keep it up until told to stop."""
    url, password = f"http://127.0.0.1:{free_port()}", secrets.token_urlsafe(9)
    with ExitStack() as stack:
        emulator = stack.enter_context(StablyEmulator(run_seconds=RUN_SECONDS))
        airflow = stack.enter_context(TemporaryAirflow(Path(sys.executable), settings(url)))
        with steps.step("Create Airflow's metadata database (SQLite)"):
            airflow.airflow("db", "migrate")
        with steps.step("Store the connection stably_default, to the emulator"):
            # The port apart, or Airflow 3.3.2 refuses to test the connection: apache/airflow#73298.
            connection = emulator.connection(host="http://127.0.0.1", port=emulator.port, login=PROJECT_ID)
            airflow.airflow("connections", "add", "stably_default", "--conn-json", connection)
            airflow.airflow("pools", "set", "stably_runs", "2", "Stably runs at once", "--include-deferred")
        passwords = airflow.home / "simple_auth_manager_passwords.json.generated"
        passwords.write_text(json.dumps({USER: password}))
        with steps.step("Start all of Airflow (airflow standalone)"):
            standalone = stack.enter_context(airflow.running("standalone"))
            wait_until_healthy(url, standalone, airflow.log)
        print(welcome(url, password, emulator.url, airflow.log), flush=True)
        with suppress(KeyboardInterrupt):
            standalone.wait()
            raise ended(airflow.log)
        print("\nStopping ...", flush=True)


def settings(url: str) -> dict[str, str]:
    """Return Airflow's configuration.

    :param url: Where its user interface is to be.
    """
    return {
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rpartition(":")[2],
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
    }


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_until_healthy(url: str, standalone: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until every part of Airflow says that it is up.

    :raises NotAsPromisedError: If they do not in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while not is_healthy(url):
        if standalone.poll() is not None:
            raise ended(log)
        if time.monotonic() > deadline:
            raise NotAsPromisedError(f"not up after {START_SECONDS} s", output=log.read_text())
        time.sleep(0.5)


def is_healthy(url: str) -> bool:
    """Whether every part of Airflow is up."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            parts = session.get(f"{url}/api/v2/monitor/health", timeout=10).json()
        except requests.RequestException:
            return False
    return all(part["status"] == "healthy" for part in parts.values())


def ended(log: Path) -> NotAsPromisedError:
    """Return the error that Airflow has ended without being told to."""
    return NotAsPromisedError("airflow standalone ended by itself", output=log.read_text())


def welcome(url: str, password: str, emulator_url: str, log: Path) -> str:
    """Say where everything is, and what to try."""
    return dedent(f"""
        Airflow    {url}    user {USER}, password {password}
        Emulator   {emulator_url}    shows the runs as they go

        Try this: in Airflow, trigger the DAG example_stably_gate_deployment with the Playwright project
        "hangs". Its run goes on until it is cancelled: clear the task run_tests, or mark it failed, and
        see the run turn CANCELLED in the emulator.

        Or use the kill switch: start another "hangs" run, copy its id from the emulator's page, and trigger
        the DAG example_stably_cancel_run with it. (The run that is there already is the nightly example's,
        which has a schedule.)

        Other Playwright projects to try:
        {", ".join(SCRIPTS)};
        any other name passes after {RUN_SECONDS} s.

        The connection stably_default leads to the emulator. The button "Open in Stably" leads to Stably's
        own dashboard, which does not know these runs. Airflow's log: {log}

        Ctrl-C stops and removes all of this.""")


if __name__ == "__main__":
    sys.exit(main(try_by_hand))

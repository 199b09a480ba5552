"""``make ui``: everything up with one command, and gone with Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Timer

import psutil
import pytest
import requests

from tests.constants import ROOT
from tests.system.versions import Airflow2, airflow_of_this_python

START_SECONDS = 240
STOP_SECONDS = 60

pytestmark = pytest.mark.skipif(
    isinstance(airflow_of_this_python(), Airflow2), reason="the script is for the Airflow of .venv, not 2.11"
)


@pytest.fixture
def script():
    """The program; it is told to stop if it outlasts the test, or its time to start."""
    script = subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "ui.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    watchdog = Timer(START_SECONDS, script.terminate)
    watchdog.start()
    yield script
    watchdog.cancel()
    script.terminate()
    script.communicate(timeout=STOP_SECONDS)


def read_until(script, last):
    """Return what a program prints up to a line that has some words."""
    printed = ""
    for line in script.stdout:
        printed += line
        if last in line:
            return printed
    raise AssertionError(f"it ended:\n{printed}")


def processes_of(home):
    """Return the processes of the Airflow that has a home, those that were left alone included."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("AIRFLOW_HOME") == str(home):
                found.append(process)
    return found


def test_all_is_up_and_then_gone(script):
    """What is printed is so: Airflow, its log-in, DAGs and connection, the emulator; Ctrl-C ends it all."""
    printed = read_until(script, "Ctrl-C stops")
    url, user, password = re.search(r"Airflow +(\S+) +user (\w+), password (\S+)", printed).groups()
    emulator = re.search(r"Emulator +(\S+)", printed)[1]
    home = Path(re.search(r"(\S+)/airflow\.log", printed)[1])
    logged_in = requests.post(f"{url}/auth/token", json={"username": user, "password": password}, timeout=30)
    headers = {"Authorization": f"Bearer {logged_in.json()['access_token']}"}

    connection = requests.get(f"{url}/api/v2/connections/stably_default", headers=headers, timeout=30).json()
    page = requests.get(emulator, timeout=30)
    running = processes_of(home)
    script.send_signal(signal.SIGINT)
    printed, _ = script.communicate(timeout=STOP_SECONDS)

    assert f"{connection['host']}:{connection['port']}" == emulator
    assert "No run yet" in page.text
    assert len(running) > 4
    assert (script.returncode, printed) == (0, "\nStopping ...\n")
    assert processes_of(home) == []
    assert not home.exists()

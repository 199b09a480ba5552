"""``make ui`` starts Airflow and the emulator with one command, and Ctrl-C stops and removes everything."""

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
    isinstance(airflow_of_this_python(), Airflow2), reason="make ui starts an Airflow 3 only"
)


@pytest.fixture
def script():
    """The running script; terminated after the test, or when it takes too long to start."""
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
    """Return the script's output up to the first line that contains some text."""
    printed = ""
    for line in script.stdout:
        printed += line
        if last in line:
            return printed
    raise AssertionError(f"The script ended:\n{printed}")


def processes_of(home):
    """Return all processes with this ``AIRFLOW_HOME``, orphans included."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("AIRFLOW_HOME") == str(home):
                found.append(process)
    return found


def test_script_starts_and_removes_everything(script):
    """The printed Airflow, log-in and emulator work, and Ctrl-C ends all processes and removes all files."""
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

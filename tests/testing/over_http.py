"""Ask the emulator on its port."""

from __future__ import annotations

import http.client

import requests

from tests.constants import KEY, PROJECT

RUNS_PATH = f"/v1/projects/{PROJECT}/runs"
SOON = 5
"""Seconds in which what should happen has happened; never waited for in full unless a test fails."""


def send(emulator, method, path, body=None, *, key=KEY, timeout=SOON):
    """Send a request to an emulator."""
    headers = {"Authorization": f"Bearer {key}"}
    return requests.request(method, emulator.url + path, json=body, headers=headers, timeout=timeout)


def start(emulator, **options):
    """Start a run."""
    return send(emulator, "POST", RUNS_PATH, {}, **options)


def read(emulator, run_id="run-1", **options):
    """Read a run's status."""
    return send(emulator, "GET", f"{RUNS_PATH}/{run_id}", **options)


def cancel(emulator, run_id="run-1"):
    """Cancel a run."""
    return send(emulator, "POST", f"{RUNS_PATH}/cancel", {"where": {"runId": run_id}})


def connect(emulator):
    """Open a connection, send a status request and return the connection."""
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=SOON)
    connection.request("GET", f"{RUNS_PATH}/run-1", headers={"Authorization": f"Bearer {KEY}"})
    return connection

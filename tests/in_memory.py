"""Ask an emulator in memory, on a clock that is set by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from tests.constants import KEY, PROJECT

RUN_SECONDS = 20
RUNS_PATH = f"/v1/projects/{PROJECT}/runs"
CANCEL_PATH = f"{RUNS_PATH}/cancel"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


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

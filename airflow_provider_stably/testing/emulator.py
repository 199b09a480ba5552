"""The emulator's rules: what Stably's API answers, kept strictly to the contract. No I/O.

How a run goes depends on the Playwright project name that it is started with, see :mod:`.emulated_run`.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import RLock
from typing import Any
from urllib.parse import unquote

from airflow_provider_stably.api import calls
from airflow_provider_stably.exceptions import StablyInvalidIdError
from airflow_provider_stably.testing.emulated_run import EmulatedRun

DEFAULT_RUN_SECONDS = 20.0

_START_FIELDS = {
    "playwrightProjectName",
    "runGroupName",
    "branch",
    "environment",
    "envOverrides",
    "autofix",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the emulator saw it.

    :param at: Seconds since the emulator was made.
    :param call: ``start``, ``get`` or ``cancel``; None for any other address.
    :param path: As sent, without the query.
    :param run_id: The run it names; None if it names none.
    :param headers: Names in lower case. Not in the repr, as the key is in them.
    :param body: As sent. Not in the repr either: a start's may hold secrets.
    """

    at: float
    method: str
    path: str
    call: str | None
    project_id: str | None
    run_id: str | None
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Read the body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """What the emulator answers.

    :param headers: Besides the content type.
    """

    status: int
    json: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class Emulator:
    """Stably's API in memory.

    :param api_key: The key it accepts.
    :param run_seconds: How long a run takes.
    :param clock: Gives the present as aware UTC.
    """

    def __init__(
        self,
        *,
        api_key: str = "emulator-key",
        run_seconds: float = DEFAULT_RUN_SECONDS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.api_key = api_key
        self.run_seconds = run_seconds
        self.runs: dict[str, EmulatedRun] = {}
        self.journal: list[Request] = []
        self._clock = clock
        self._made_at = time.monotonic()
        self._lock = RLock()

    def add_run(
        self,
        *,
        project_id: str = "project-1",
        script: str = "hangs",
        statuses: Sequence[str] = (),
        run_id: str | None = None,
    ) -> str:
        """Add a run without a request and return its id.

        :param script: A name from :data:`~airflow_provider_stably.testing.emulated_run.SCRIPTS`.
        :param statuses: What each status read gives in turn, the last one for good; overrides the script.
        :param run_id: None makes one up.
        """
        run_id = run_id or "c" + secrets.token_hex(12)
        with self._lock:
            self.runs[run_id] = EmulatedRun(
                run_id=run_id,
                project_id=project_id,
                script=script,
                run_seconds=self.run_seconds,
                created_at=self._clock(),
                statuses=statuses,
            )
        return run_id

    def status(self, run_id: str) -> str:
        """Return a run's status now; not a read for ``statuses``."""
        return self.runs[run_id].status(self._clock())

    def live_runs(self) -> list[str]:
        """Return the ids of the runs that are queued or running now."""
        with self._lock:
            now = self._clock()
            return [run.run_id for run in self.runs.values() if run.is_live(now)]

    def requests(self, call: str | None = None, *, run_id: str | None = None) -> list[Request]:
        """Return the journal's requests, of one call and about one run if named."""
        return [
            request
            for request in list(self.journal)
            if (call is None or request.call == call) and (run_id is None or request.run_id == run_id)
        ]

    def receive(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Request:
        """Record a request in the journal."""
        call, ids = _match(method, path)
        run_id = ids.get("run_id") or (_run_id_in(body) if call == "cancel" else None)
        request = Request(
            at=time.monotonic() - self._made_at,
            method=method,
            path=path,
            call=call,
            project_id=ids.get("project_id"),
            run_id=run_id,
            headers={name.lower(): value for name, value in headers.items()},
            body=body,
        )
        self.journal.append(request)
        return request

    def respond(self, request: Request) -> Response:
        """Do what a request asks and answer it."""
        if request.headers.get("authorization") != f"Bearer {self.api_key}":
            return _error(401, "Invalid API key")
        if request.call is None:
            return _no_such_call(request.path)
        with self._lock:
            return _HANDLERS[request.call](self, request)

    def _start(self, request: Request) -> Response:
        try:
            project_id = calls.check_id("project", request.project_id)
            body = _start_body(request.body)
        except StablyInvalidIdError:
            return _error(404, "Project not found")
        except ValueError as error:
            return _error(400, str(error))
        script = body.get("playwrightProjectName", body.get("runGroupName", "passes"))
        run_id = self.add_run(project_id=project_id, script=script)
        self.runs[run_id].started_with = body
        return Response(200, {"runId": run_id})

    def _get(self, request: Request) -> Response:
        run = self._find(request)
        if run is None:
            return _error(404, "Run not found")
        description = run.describe(self._clock())
        run.reads += 1
        return Response(200, description.to_json())

    def _cancel(self, request: Request) -> Response:
        if request.run_id is None:
            return _error(400, "Expected {where: {runId: string}}")
        run = self._find(request)
        now = self._clock()
        if run is None or not run.is_live(now):
            return _error(400, "No such run in QUEUED or RUNNING status")
        run.cancelled_at = now
        return Response(200, {"cancelled": [{"runId": run.run_id}]})

    def _find(self, request: Request) -> EmulatedRun | None:
        run = self.runs.get(request.run_id or "")
        return run if run is not None and run.project_id == request.project_id else None


_ROUTES = {
    "start": calls.START_RUN,
    "cancel": calls.CANCEL_RUN,  # before "get", whose template fits its path too: so OpenAPI has it
    "get": calls.GET_RUN,
}
_HANDLERS: Mapping[str, Callable[[Emulator, Request], Response]] = {
    "start": Emulator._start,
    "get": Emulator._get,
    "cancel": Emulator._cancel,
}
_PATTERNS = {
    call: re.compile(route.template.replace("{", "(?P<").replace("}", ">[^/]+)"))
    for call, route in _ROUTES.items()
}


def _match(method: str, path: str) -> tuple[str | None, dict[str, str]]:
    call, ids = _at(path)
    return (call, ids) if call is not None and _ROUTES[call].method == method else (None, {})


def _at(path: str) -> tuple[str | None, dict[str, str]]:
    for call, pattern in _PATTERNS.items():
        if found := pattern.fullmatch(path):
            return call, {name: unquote(value) for name, value in found.groupdict().items()}
    return None, {}


def _no_such_call(path: str) -> Response:
    call, _ = _at(path)
    if call is None:
        return _error(404, "Not found")
    return Response(405, {"error": "Method not allowed"}, {"Allow": _ROUTES[call].method})


def _start_body(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except RecursionError:
        raise ValueError("Nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError("Expected an object")
    for name, value in fields.items():
        if name not in _START_FIELDS:
            raise ValueError(f"Unknown field {name}")
        if name == "envOverrides":
            if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
                raise ValueError("Expected envOverrides to map names to strings")
        elif name == "autofix":
            if not isinstance(value, bool):
                raise ValueError("Expected autofix to be a boolean")
        elif not isinstance(value, str):
            raise ValueError(f"Expected {name} to be a string")
    return fields


def _run_id_in(body: bytes) -> str | None:
    try:
        run_id = json.loads(body)["where"]["runId"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return run_id if isinstance(run_id, str) else None


def _error(status: int, text: str) -> Response:
    return Response(status, {"error": text})

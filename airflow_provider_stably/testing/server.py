"""Serve the emulator on loopback, and break the service on request."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ssl import SSLContext
from threading import Event, Thread
from typing import Any, Self
from urllib.parse import parse_qs

from aiohttp import web
from multidict import CIMultiDict

from airflow_provider_stably.api.address import Address, is_loopback
from airflow_provider_stably.testing import page
from airflow_provider_stably.testing.emulator import Emulator, Request, Response

log = logging.getLogger(__name__)

_TRICKLE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with a request.

    :param status: Answer with this status instead of the real one; None keeps the real one, or is 200 if
        there is a ``body``.
    :param body: Answer with this body; a mapping is sent as JSON. None keeps the real one, which is ``{}``
        where the request takes no effect.
    :param headers: Headers to add or replace.
    :param drop: Close the connection instead of answering.
    :param processed: Whether the request takes effect all the same.
    :param delay: Seconds to wait before answering; infinity never answers.
    :param trickle: Send the body byte by byte, slowly.
    """

    status: int | None = None
    body: bytes | str | Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    processed: bool = False
    delay: float = 0.0
    trickle: bool = False


@dataclass(slots=True)
class _Planned:
    fault: Fault
    call: str | None
    project_id: str | None
    run_id: str | None
    left: float

    def applies_to(self, request: Request) -> bool:
        return (
            self.left > 0
            and self.call in {None, request.call}
            and self.project_id in {None, request.project_id}
            and self.run_id in {None, request.run_id}
        )


class StablyEmulator(Emulator):
    """Stably's API on a loopback port, from a thread of its own. Use as a context manager.

    Entered again, it comes back at the address it had, with the runs and the journal it had. A browser sees
    the runs at its root. That is no request to the API, so it is not in the journal and meets no fault. A
    request whose ``Host`` is not loopback is refused.

    :param port: Port to serve on; 0 takes a free one.
    :param tls: Serve over TLS with this context; None serves plain HTTP.
    :param options: As for :class:`~airflow_provider_stably.testing.emulator.Emulator`.
    """

    def __init__(self, *, port: int = 0, tls: SSLContext | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.port = port
        self._tls = tls
        self._planned: list[_Planned] = []
        self._peers: set[Any] = set()

    @property
    def url(self) -> str:
        """The address to give a connection as its host."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections the requests so far came over."""
        return len(self._peers)

    def connection(self, **fields: Any) -> str:
        """Return an Airflow connection to this emulator, as the JSON that ``AIRFLOW_CONN_...`` takes.

        :param fields: Connection fields to add or replace.
        """
        return json.dumps(
            {
                "conn_type": "stably",
                "host": self.url,
                "password": self.api_key,
                **fields,
            }
        )

    def inject(
        self,
        fault: Fault,
        *,
        call: str | None = None,
        project_id: str | None = None,
        run_id: str | None = None,
        times: float = 1,
    ) -> None:
        """Let the next requests go wrong.

        :param call: Only ``start``, ``get`` or ``cancel`` requests; None means any.
        :param project_id: Only requests about this project; None means any.
        :param run_id: Only requests about this run; None means any.
        :param times: How many requests; infinity means all.
        """
        self._planned.append(_Planned(fault, call, project_id, run_id, times))

    def heal(self) -> None:
        """Forget all faults that are still to come."""
        self._planned.clear()

    def __enter__(self) -> Self:
        self._ready = Event()
        self._failure: BaseException | None = None
        self._thread = Thread(
            target=lambda: asyncio.run(self._serve()),
            name="stably-emulator",
            daemon=True,
        )
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        try:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls)
            await site.start()
            self.port = runner.addresses[0][1]
            self._ready.set()
            await self._stop.wait()
        except (OSError, OverflowError) as error:  # OverflowError: there is no port of that number
            self._failure = error
            self._ready.set()
        finally:
            await runner.cleanup()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        if not _is_for_loopback(http):
            return web.json_response({"error": "The emulator answers on loopback only"}, status=421)
        path, _, query = http.raw_path.partition("?")
        if http.method == "GET" and path == "/":
            return self._page(parse_qs(query).get("run", [""])[0])
        if http.transport is not None:
            self._peers.add(http.transport.get_extra_info("peername"))
        body = await http.read()
        request = self.receive(http.method, path, dict(http.headers), body)
        fault = self._next_fault(request)
        response = self.respond(request) if fault.processed or _leaves_answer(fault) else Response(500, {})
        log.info("%s %s -> %s", request.method, request.path, _seen(fault, response))
        await self._wait(fault.delay)
        if fault.drop:
            if http.transport is not None:
                http.transport.abort()
            return web.Response()
        return await _send(http, fault, response)

    def _page(self, opened: str) -> web.Response:
        with self._lock:
            html = page.render(self.runs.values(), self._clock(), opened=opened)
        return web.Response(text=html, content_type="text/html", headers={"Cache-Control": "no-store"})

    def _next_fault(self, request: Request) -> Fault:
        for planned in list(self._planned):
            if planned.applies_to(request):
                planned.left -= 1
                return planned.fault
        return Fault()

    async def _wait(self, seconds: float) -> None:
        if math.isinf(seconds):
            await self._stop.wait()
        elif seconds:
            await asyncio.sleep(seconds)


def _is_for_loopback(http: web.BaseRequest) -> bool:
    """Whether a request names this machine: a web page may make a browser take another name for it."""
    try:
        address = Address.parse(f"http://{http.headers.get('Host', '')}")
    except ValueError:
        return False
    return is_loopback(address.host) and not (address.has_user or address.path or address.rest)


def _leaves_answer(fault: Fault) -> bool:
    return not fault.drop and fault.status is None and fault.body is None


def _status(fault: Fault, response: Response) -> int:
    return fault.status or (200 if fault.body is not None else response.status)


def _seen(fault: Fault, response: Response) -> int | str:
    return "no answer" if fault.drop or math.isinf(fault.delay) else _status(fault, response)


async def _send(http: web.BaseRequest, fault: Fault, response: Response) -> web.StreamResponse:
    body = response.json if fault.body is None else fault.body
    content = json.dumps(body) if isinstance(body, Mapping) else body
    headers = CIMultiDict({"Content-Type": "application/json", **response.headers})
    headers.update(fault.headers)
    status = _status(fault, response)
    raw = content.encode() if isinstance(content, str) else content
    if not fault.trickle:
        return web.Response(status=status, body=raw, headers=headers)
    stream = web.StreamResponse(status=status, headers=headers)
    await stream.prepare(http)
    with suppress(ConnectionResetError):  # the client gave up; aiohttp would log that as our error
        for index in range(len(raw)):
            await stream.write(raw[index : index + 1])
            await asyncio.sleep(_TRICKLE_SECONDS)
    return stream

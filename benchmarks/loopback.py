"""An API on loopback over TLS that always answers RUNNING, each way that a side of a benchmark reads it."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import trustme
from aiohttp import web

SPAWN = multiprocessing.get_context("spawn")
CHAIN = "STABLY_BENCHMARK_CHAIN"
"""Environment variable with the path of the servers' key and certificate."""

KEEPALIVE_SECONDS = 75.0
"""How long an idle connection is kept: nginx's default."""

ANSWERS = {
    "/v1/": {"status": "RUNNING", "startedAt": "2026-11-22T12:00:00.000Z", "branchName": "main"},
    "/api/v2/": {"data": {"status": 3, "started_at": "2026-11-22T12:00:00.000Z", "git_branch": "main"}},
    "/api/2.": {"state": {"life_cycle_state": "RUNNING", "state_message": "since 2026-11-22T12:00:00.000Z"}},
}
"""What begins a path to what is answered: Stably, dbt Cloud, Databricks."""

PORT, REQUESTS, CONNECTIONS, HELD = range(4)
"""What a server's process shares with the one that measures."""


def make_certificates(folder: Path) -> None:
    """Make what a server needs, and let processes that are spawned from now on trust it."""
    authority = trustme.CA()
    os.environ |= {"SSL_CERT_FILE": str(folder / "authority.pem"), CHAIN: str(folder / "server.pem")}
    os.environ |= dict.fromkeys(
        ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), ""
    )  # ours would trust that one alone
    authority.cert_pem.write_to_path(os.environ["SSL_CERT_FILE"])
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(os.environ[CHAIN])


class Server:
    """The API while the context lasts, in another process so that its work does not count."""

    def __init__(self) -> None:
        self._shared = SPAWN.Array("q", 4, lock=False)

    def __enter__(self) -> Self:
        self._process = SPAWN.Process(target=serve, args=(self._shared,), daemon=True)
        self._process.start()
        while not self.port:
            time.sleep(0.05)
            if not self._process.is_alive():
                raise RuntimeError("the server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    @property
    def port(self) -> int:
        """Its port; 0 before it listens."""
        return self._shared[PORT]

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def requests(self) -> int:
        """How many it was sent."""
        return self._shared[REQUESTS]

    @property
    def connections(self) -> int:
        """How many were made to it."""
        return self._shared[CONNECTIONS]

    async def fill(self, connections: int) -> None:
        """Hold answers back until so many more connections are made."""
        full = self.connections + connections
        self._shared[HELD] = 1
        await until(lambda: self.connections == full)
        self._shared[HELD] = 0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most 50 s."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


class CountingServer(web.Server):
    """Counts connections."""

    shared: Any

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """Count one whose handshake is done."""
        self.shared[CONNECTIONS] += 1
        super().connection_made(handler, transport)


def serve(shared: Any) -> None:
    """Answer until the process is ended."""
    answers = {prefix: json.dumps(answer) for prefix, answer in ANSWERS.items()}

    async def answer(request: web.BaseRequest) -> web.Response:
        shared[REQUESTS] += 1
        while shared[HELD]:  # noqa: ASYNC110 - another process tells
            await asyncio.sleep(0.05)
        text = next(answers[prefix] for prefix in answers if request.path.startswith(prefix))
        return web.Response(text=text, content_type="application/json")

    async def run() -> None:
        server = CountingServer(answer, keepalive_timeout=KEEPALIVE_SECONDS, access_log=None)
        server.shared = shared
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(os.environ[CHAIN])
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(server, "127.0.0.1", 0, ssl=tls, backlog=5000)
        shared[PORT] = listening.sockets[0].getsockname()[1]
        await listening.serve_forever()

    asyncio.run(run())

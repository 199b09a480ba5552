"""What does a waiting trigger cost a triggerer? ``python benchmarks/triggerer_load.py``, 50 seconds, Linux.

Triggers on one event loop, over TLS on loopback, beside a bare loop: as many coroutines that get and parse
the same answer at the same pace through one plain ``aiohttp.ClientSession``. The server has a process of its
own and always answers RUNNING. For CPU and lag the pace is driven up to a few polls a second, the two sides
take turns in one process, and the median over the rounds is printed. Memory is measured at rest, with all
connections open: what 1,000 more add. And one trigger polls twice at the real ``poll_interval`` of 30 s.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import ssl
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Self, TypeVar

import aiohttp
import trustme
from aiohttp import web

SIDES = ("triggers", "bare loop")
ANSWER = json.dumps({"status": "RUNNING", "startedAt": "2026-11-22T12:00:00.000Z", "branchName": "main"})
SERVER_KEEPALIVE_SECONDS = 75.0
"""How long the server keeps an idle connection: nginx's default."""

MOST_CONNECTIONS = 100
"""aiohttp's own limit, for a session."""

WARM_UP_SECONDS = 1.0
TICK_SECONDS = 0.01
FIRST_AT_REST, MORE_AT_REST = 200, 1000
LONG = 3600.0
SPAWN = multiprocessing.get_context("spawn")
PORT, REQUESTS, CONNECTIONS, HELD = range(4)
"""What a server's process shares with the one that measures."""

T = TypeVar("T")
Poll = Callable[[str], Awaitable[None]]
"""Polls the run of that id for good."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--triggers", type=int, default=200, help="on the loop, default %(default)s")
    parser.add_argument("--pause", type=float, default=0.4, help="seconds between polls, default %(default)s")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a round, default %(default)s")
    parser.add_argument("--rounds", type=int, default=4, help="of each side, default %(default)s")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as home,
        # A fresh process for each measurement.
        ProcessPoolExecutor(3, mp_context=SPAWN, max_tasks_per_child=1) as processes,
    ):
        # They inherit these. A proxy would be measured too.
        os.environ.update(AIRFLOW_HOME=home, NO_PROXY="*")
        of_one = processes.submit(run, connections_of_one)
        print_memory(list(processes.map(run, [memory, memory], SIDES)))
        print_load(options.triggers, processes.submit(run, load, options).result())
        print_connections(of_one.result())


def run(function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Run a coroutine in this process."""
    return asyncio.run(function(*args))


class Server:
    """The API on loopback, in another process so that its work does not count, and a connection to it.

    :param conn_id: Id of the Airflow connection.
    """

    def __init__(self, conn_id: str = "stably_default") -> None:
        self.conn_id = conn_id
        self._shared = SPAWN.Array("q", 4, lock=False)

    def __enter__(self) -> Self:
        folder = tempfile.mkdtemp(dir=os.environ["AIRFLOW_HOME"])
        self.authority, key = f"{folder}/authority.pem", f"{folder}/server.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(key)
        self._process = SPAWN.Process(target=serve, args=(key, self._shared), daemon=True)
        self._process.start()
        while not self._shared[PORT]:
            time.sleep(0.05)
            if not self._process.is_alive():
                raise RuntimeError("the server did not start")
        self.url = f"https://127.0.0.1:{self._shared[PORT]}"
        extra = {"verify": self.authority}
        fields = {"conn_type": "stably", "host": self.url, "password": "made-up-key", "extra": extra}
        os.environ[f"AIRFLOW_CONN_{self.conn_id.upper()}"] = json.dumps(fields)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    @property
    def requests(self) -> int:
        """How many it was sent."""
        return self._shared[REQUESTS]

    @property
    def connections(self) -> int:
        """How many were made to it."""
        return self._shared[CONNECTIONS]

    async def fill(self, pollers: int) -> None:
        """Hold answers back until so many pollers have opened all the connections that they ever will."""
        full = self.connections + min(pollers, MOST_CONNECTIONS)
        self._shared[HELD] = 1
        await until(lambda: self.connections == full)
        self._shared[HELD] = 0


class CountingServer(web.Server):
    """Counts connections."""

    shared: Any

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """Count one whose handshake is done."""
        self.shared[CONNECTIONS] += 1
        super().connection_made(handler, transport)


def serve(key: str, shared: Any) -> None:
    """Answer RUNNING until the process is ended."""

    async def answer(_: web.BaseRequest) -> web.Response:
        shared[REQUESTS] += 1
        while shared[HELD]:  # noqa: ASYNC110 - another process tells
            await asyncio.sleep(0.05)
        return web.Response(text=ANSWER, content_type="application/json")

    async def run() -> None:
        server = CountingServer(answer, keepalive_timeout=SERVER_KEEPALIVE_SECONDS, access_log=None)
        server.shared = shared
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(key)
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=tls)
        shared[PORT] = listening.sockets[0].getsockname()[1]
        await listening.serve_forever()

    asyncio.run(run())


@asynccontextmanager
async def polling(side: str, server: Server, *, poll_interval: float) -> AsyncIterator[Poll]:
    """Give what polls a run that is an hour old, the way of this side."""
    if side == "triggers":
        yield lambda run_id: poll_as_trigger(run_id, server.conn_id, poll_interval)
        return
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=server.authority))
    path = "v1/projects/project-1/runs"
    async with aiohttp.ClientSession(connector=connector) as session:
        yield lambda run_id: poll_barely(session, f"{server.url}/{path}/{run_id}", poll_interval)


async def poll_as_trigger(run_id: str, conn_id: str, poll_interval: float) -> None:
    """Run a trigger as the triggerer does."""
    from airflow_provider_stably.triggers.stably import StablyRunTrigger  # noqa: PLC0415 - once env is set

    trigger = StablyRunTrigger(
        run_id=run_id,
        project_id="project-1",
        stably_conn_id=conn_id,
        started_at=time.time() - LONG,
        deadline=time.time() + LONG,
        poll_interval=poll_interval,
        cancel_on_kill=False,  # before Airflow 3.3 it would ask Airflow about the task when it is ended
    )
    async for event in trigger.run():
        raise RuntimeError(f"unexpected {event}")


async def poll_barely(session: aiohttp.ClientSession, url: str, poll_interval: float) -> None:
    """Do the least that can be done, at the same pace."""
    from airflow_provider_stably.watching import next_delay  # noqa: PLC0415 - once env is set

    while True:
        async with session.get(url) as response:
            if (await response.json())["status"] != "RUNNING":
                raise RuntimeError("unexpected status")
        await asyncio.sleep(next_delay(LONG, poll_interval))


@asynccontextmanager
async def at_work(poll: Poll, pollers: int) -> AsyncIterator[None]:
    """Start so many all at once, as a triggerer that was restarted does, and run them in the meantime."""
    tasks = [asyncio.ensure_future(poll(f"run-{number}")) for number in range(pollers)]
    try:
        yield
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if ended:
        raise RuntimeError(f"{len(ended)} of {len(tasks)} stopped polling") from ended[0].exception()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most 50 s."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


def set_pace(pause: float) -> None:
    """Let a run be looked at this often, whatever its age, out of step soon; and have everything imported."""
    import airflow_provider_stably.triggers.stably  # noqa: F401, PLC0415 - once env is set
    from airflow_provider_stably import watching  # noqa: PLC0415 - likewise

    watching.SHARE_OF_AGE = 0.0
    watching.SHORTEST_DELAY_SECONDS = pause
    watching.JITTER = 0.5


@dataclass(frozen=True)
class Load:
    """What one round showed of one side."""

    cpu_ms: float
    polls_per_second: float
    connections: int
    lags_ms: Sequence[float]


async def load(options: argparse.Namespace) -> list[list[Load]]:
    """Measure the two sides in turns, and return the rounds of each."""
    with Server() as server:
        set_pace(options.pause)
        rounds: dict[str, list[Load]] = {side: [] for side in SIDES}
        for number in range(options.rounds):
            for side in SIDES[:: 1 - 2 * (number % 2)]:  # none is always the first
                rounds[side].append(await one_round(side, options, server))
    return list(rounds.values())


async def one_round(side: str, options: argparse.Namespace, server: Server) -> Load:
    """Measure one side for some seconds."""
    async with (
        polling(side, server, poll_interval=2 * options.pause) as poll,
        at_work(poll, options.triggers),
    ):
        await server.fill(options.triggers)
        await asyncio.sleep(WARM_UP_SECONDS)
        gc.collect()
        polls, connections, lags = server.requests, server.connections, []
        cpu, began = time.process_time(), time.perf_counter()
        while (now := time.perf_counter()) < began + options.seconds:
            await asyncio.sleep(TICK_SECONDS)
            lags.append(1000 * (time.perf_counter() - now - TICK_SECONDS))
        cpu, took = time.process_time() - cpu, time.perf_counter() - began
        polls, connections = server.requests - polls, server.connections - connections
    return Load(1000 * cpu / polls, polls / took, connections, lags)


async def memory(side: str) -> tuple[float, float]:
    """Measure what one more that waits takes.

    :returns: kB by which the process grows, and kB that Python allocates.
    """
    with Server() as server:
        set_pace(LONG)
        async with polling(side, server, poll_interval=LONG) as poll, at_rest(poll, FIRST_AT_REST, server):
            resident = resident_bytes()
            async with at_rest(poll, MORE_AT_REST, server):
                resident = resident_bytes() - resident
            tracemalloc.start()
            async with at_rest(poll, MORE_AT_REST, server):
                allocated, _ = tracemalloc.get_traced_memory()
    return resident / MORE_AT_REST / 1000, allocated / MORE_AT_REST / 1000


@asynccontextmanager
async def at_rest(poll: Poll, pollers: int, server: Server) -> AsyncIterator[None]:
    """Let so many wait, each of which has polled once."""
    expected = server.requests + pollers
    async with at_work(poll, pollers):
        if not server.connections:
            await server.fill(pollers)
        await until(lambda: server.requests == expected)
        await asyncio.sleep(0.5)
        gc.collect()
        yield


def resident_bytes() -> int:
    """Return how much memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def connections_of_one() -> list[tuple[int, int]]:
    """Let one of each side poll twice at the real pace, and return polls and connections."""
    with Server("trigger") as ours, Server("bare") as bare:
        async with (
            polling(SIDES[0], ours, poll_interval=30.0) as poll_ours,
            polling(SIDES[1], bare, poll_interval=30.0) as poll_bare,
            at_work(poll_ours, 1),
            at_work(poll_bare, 1),
        ):
            await until(lambda: min(ours.requests, bare.requests) == 2)
        return [(server.requests, server.connections) for server in (ours, bare)]


def print_memory(sizes: Sequence[tuple[float, float]]) -> None:
    """Print memory."""
    print_header(f"{MORE_AT_REST} more at rest", "kB the process grows, each", "kB Python allocates, each")
    for side, (resident, allocated) in zip(SIDES, sizes, strict=True):
        print(f"| {side} | {resident:.1f} | {allocated:.1f} |")


def print_load(pollers: int, rounds: Sequence[Sequence[Load]]) -> None:
    """Print CPU, connections and lag."""
    print_header(
        f"{pollers} at work",
        "polls/s",
        "CPU ms per poll: median, fastest round",
        "ratios",
        "new connections",
        "lag ms: p50, p99",
    )
    bare = [one.cpu_ms for one in rounds[1]]
    for side, results in zip(SIDES, rounds, strict=True):
        cpu = [one.cpu_ms for one in results]
        ratio = median(ms / of_bare for ms, of_bare in zip(cpu, bare, strict=True))
        lags = [quantiles(one.lags_ms, n=100) for one in results]
        cells = (
            side,
            f"{median(one.polls_per_second for one in results):.0f}",
            f"{median(cpu):.2f}, {min(cpu):.2f}",
            f"{ratio:.2f}, {min(cpu) / min(bare):.2f}",
            f"{sum(one.connections for one in results)}",
            ", ".join(f"{median(lag[rank - 1] for lag in lags):.1f}" for rank in (50, 99)),
        )
        print(f"| {' | '.join(cells)} |")


def print_connections(counts: Sequence[tuple[int, int]]) -> None:
    """Print how many connections one alone opens."""
    print_header("one alone, every 30 s", "polls", "connections")
    for side, (polls, connections) in zip(SIDES, counts, strict=True):
        print(f"| {side} | {polls} | {connections} |")


def print_header(*titles: str) -> None:
    """Begin a table."""
    print("", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", sep="\n")


if __name__ == "__main__":
    main()

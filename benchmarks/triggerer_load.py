"""What does a waiting trigger cost a triggerer? ``python benchmarks/triggerer_load.py``, Linux.

Triggers on one event loop, over TLS on loopback, beside a bare loop: as many coroutines that get and parse
the same answer at the same pace through one plain ``aiohttp.ClientSession``. Other providers' triggers are
measured beside them where they are installed. The server has a process of its own and always answers RUNNING.
For CPU and lag the pace is driven up to a few polls a second, the sides take turns in one process, and the
median over the rounds is printed. Memory is measured after a poll, with all connections open that a side
keeps: what 1,000 more add. And one of each side polls twice, every 30 s. It takes a minute, with other
providers two.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeVar

from loopback import SPAWN, Server, make_certificates, until
from sides import HOUR, SIDES, Poll

BASE = "bare loop"
WARM_UP_SECONDS = 1.0
TICK_SECONDS = 0.01
FIRST_AT_REST, MORE_AT_REST = 200, 1000

T = TypeVar("T")


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
        # They inherit these. A proxy, and the lines that others log for each poll, would be measured too.
        os.environ.update(AIRFLOW_HOME=home, NO_PROXY="*", AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR")
        make_certificates(Path(home))
        sides = [name for name, side in SIDES.items() if side.is_installed()]
        of_one = processes.submit(run, connections_of_one, sides)
        print_memory({side: processes.submit(run, memory, side).result() for side in sides})
        print_load(options.triggers, processes.submit(run, load, sides, options).result())
        print_connections(of_one.result())


def run(function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Run a coroutine in this process."""
    return asyncio.run(function(*args))


@asynccontextmanager
async def at_work(poll: Poll, pollers: int) -> AsyncIterator[None]:
    """Start so many all at once, as a triggerer that was restarted does, and run them in the meantime."""
    tasks = [asyncio.ensure_future(poll(number)) for number in range(1, pollers + 1)]
    try:
        yield
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if ended:
        raise RuntimeError(f"{len(ended)} of {len(tasks)} stopped polling") from ended[0].exception()


def set_pace(pause: float) -> None:
    """Let a run be looked at this often, whatever its age, out of step soon."""
    from airflow_provider_stably.runs import watch  # noqa: PLC0415 - once env is set

    watch.SHARE_OF_AGE = 0.0
    watch.SHORTEST_DELAY_SECONDS = pause
    watch.JITTER = 0.5


@dataclass(frozen=True)
class Load:
    """What one round showed of one side."""

    cpu_ms: float
    polls_per_second: float
    connections_per_poll: float
    lags_ms: Sequence[float]


async def load(sides: Sequence[str], options: argparse.Namespace) -> dict[str, list[Load]]:
    """Measure the sides in turns, and return the rounds of each."""
    set_pace(options.pause)
    rounds: dict[str, list[Load]] = {side: [] for side in sides}
    with Server() as server:
        for number in range(options.rounds + 1):
            for side in sides[:: 1 - 2 * (number % 2)]:  # none is always the first
                rounds[side].append(await one_round(side, options, server))
    # Nothing is learned from the first round, which imports.
    return {side: results[1:] for side, results in rounds.items()}


async def one_round(side: str, options: argparse.Namespace, server: Server) -> Load:
    """Measure one side for some seconds."""
    async with (
        SIDES[side].polling(server, options.pause) as poll,
        at_work(poll, options.triggers),
    ):
        await server.fill(SIDES[side].connections(options.triggers))
        await asyncio.sleep(WARM_UP_SECONDS)
        gc.collect()
        polls, connections, lags = server.requests, server.connections, []
        cpu, began = time.process_time(), time.perf_counter()
        while (now := time.perf_counter()) < began + options.seconds:
            await asyncio.sleep(TICK_SECONDS)
            lags.append(1000 * (time.perf_counter() - now - TICK_SECONDS))
        cpu, took = time.process_time() - cpu, time.perf_counter() - began
        polls, connections = server.requests - polls, server.connections - connections
    return Load(1000 * cpu / polls, polls / took, connections / polls, lags)


async def memory(side: str) -> tuple[float, float]:
    """Measure what one more that waits takes.

    :returns: kB by which the process grows, and kB that Python allocates.
    """
    set_pace(HOUR)
    with Server() as server:
        async with SIDES[side].polling(server, HOUR) as poll, at_rest(side, poll, FIRST_AT_REST, server):
            resident = resident_bytes()
            async with at_rest(side, poll, MORE_AT_REST, server):
                resident = resident_bytes() - resident
            tracemalloc.start()
            async with at_rest(side, poll, MORE_AT_REST, server):
                allocated, _ = tracemalloc.get_traced_memory()
    return resident / MORE_AT_REST / 1000, allocated / MORE_AT_REST / 1000


@asynccontextmanager
async def at_rest(side: str, poll: Poll, pollers: int, server: Server) -> AsyncIterator[None]:
    """Let so many wait, each of which has polled once."""
    expected = server.requests + pollers
    async with at_work(poll, pollers):
        if not server.connections:
            await server.fill(SIDES[side].connections(pollers))
        await until(lambda: server.requests == expected)
        await asyncio.sleep(0.5)
        gc.collect()
        yield


def resident_bytes() -> int:
    """Return how much memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def connections_of_one(sides: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Let one of each side poll twice at the real pace, and return polls and connections."""
    async with AsyncExitStack() as stack:
        servers = {side: stack.enter_context(Server()) for side in sides}
        for side, server in servers.items():
            poll = await stack.enter_async_context(SIDES[side].polling(server, 30.0))
            await stack.enter_async_context(at_work(poll, 1))
        await until(lambda: min(server.requests for server in servers.values()) == 2)
        return {side: (server.requests, server.connections) for side, server in servers.items()}


def print_memory(sizes: Mapping[str, tuple[float, float]]) -> None:
    """Print memory."""
    print_header(f"{MORE_AT_REST} more at rest", "kB the process grows, each", "kB Python allocates, each")
    for side, (resident, allocated) in sizes.items():
        print(f"| {side} | {resident:.1f} | {allocated:.1f} |")


def print_load(pollers: int, rounds: Mapping[str, Sequence[Load]]) -> None:
    """Print CPU, connections and lag."""
    print_header(
        f"{pollers} at work",
        "polls/s",
        "CPU ms per poll: median, fastest round",
        "ratios",
        "new connections per poll",
        "lag ms: p50, p99",
    )
    base = [one.cpu_ms for one in rounds[BASE]]
    for side, results in rounds.items():
        cpu = [one.cpu_ms for one in results]
        ratio = median(ms / of_base for ms, of_base in zip(cpu, base, strict=True))
        lags = [quantiles(one.lags_ms, n=100) for one in results]
        cells = (
            side,
            f"{median(one.polls_per_second for one in results):.0f}",
            f"{median(cpu):.2f}, {min(cpu):.2f}",
            f"{ratio:.2f}, {min(cpu) / min(base):.2f}",
            f"{median(one.connections_per_poll for one in results):.2g}",
            ", ".join(f"{median(lag[rank - 1] for lag in lags):.1f}" for rank in (50, 99)),
        )
        print(f"| {' | '.join(cells)} |")


def print_connections(counts: Mapping[str, tuple[int, int]]) -> None:
    """Print how many connections one alone opens."""
    print_header("one alone, every 30 s", "polls", "connections")
    for side, (polls, connections) in counts.items():
        print(f"| {side} | {polls} | {connections} |")


def print_header(*titles: str) -> None:
    """Begin a table."""
    print("", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", sep="\n")


if __name__ == "__main__":
    main()

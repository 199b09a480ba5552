"""How a rule calls Stably and waits: the same coroutine runs in a thread and on an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from airflow_provider_stably.api.calls import Call
from airflow_provider_stably.api.retries import MAX_RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from airflow_provider_stably.api.async_client import AsyncStablyClient
    from airflow_provider_stably.api.client import StablyClient

T = TypeVar("T")


class BlockingDriver:
    """Blocks this thread and never suspends, so a rule needs no event loop; see :func:`run_blocking`.

    :param client: Sends the calls.
    :param sleep: Waits the given seconds.
    :param reconnect: Returns the client to use from then on; None keeps the one there is.
    :param now: Returns the present, in seconds since the epoch.
    """

    def __init__(
        self,
        client: StablyClient,
        *,
        sleep: Callable[[float], None] = time.sleep,
        reconnect: Callable[[], StablyClient] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._sleep = sleep
        self._reconnect = reconnect
        self.now = now

    async def send(self, call: Call[T]) -> T:
        """Send a call, again where the retry policy allows it."""
        return self._client.send(call)

    async def send_once(self, call: Call[T]) -> T:
        """Send a call a single time: the rule itself repeats it."""
        return self._client.send_once(call)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        self._sleep(seconds)

    async def reconnect(self) -> None:
        """Look the Airflow connection up anew: its key may have been rotated."""
        if self._reconnect is not None:
            self._client = self._reconnect()


class AsyncDriver:
    """Awaits on the running event loop.

    :param client: Sends the calls; entered by the caller.
    :param heeded: As of :func:`~airflow_provider_stably.api.retries.replay_policy`.
    """

    def __init__(self, client: AsyncStablyClient, *, heeded: float = MAX_RETRY_AFTER_SECONDS) -> None:
        self._client = client
        self._heeded = heeded
        self.now = time.time

    async def send(self, call: Call[T]) -> T:
        """Send a call, again where the retry policy allows it."""
        return await (await self._connected()).send(call, heeded=self._heeded)

    async def send_once(self, call: Call[T]) -> T:
        """Send a call a single time."""
        return await (await self._connected()).send_once(call)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def reconnect(self) -> None:
        """Keep the client: there is no other."""

    async def _connected(self) -> AsyncStablyClient:
        return self._client


Driver: TypeAlias = BlockingDriver | AsyncDriver
"""Calls Stably, waits and reads the clock, for a rule."""


def run_blocking(rule: Coroutine[Any, Any, T]) -> T:
    """Run a rule over a :class:`BlockingDriver` to its end in this thread and return its result.

    One step is enough, as such a driver never suspends. So there is no event loop on the worker, where an
    ``execution_timeout`` would strike inside it.
    """
    try:
        rule.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    rule.close()
    raise RuntimeError("a rule over a BlockingDriver was suspended")

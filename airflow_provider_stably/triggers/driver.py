"""How a trigger calls Stably: over a connection that it looks up without holding the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_stably.api.retries import MAX_RETRY_AFTER_SECONDS
from airflow_provider_stably.exceptions import StablyConfigError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs.cancel import HEEDED_IN_HASTE_SECONDS
from airflow_provider_stably.runs.driver import AsyncDriver
from airflow_provider_stably.tasks.best_effort import best_effort

if TYPE_CHECKING:
    from airflow_provider_stably.api.async_client import AsyncStablyClient

T = TypeVar("T")

LOOK_UP_SECONDS = 30.0
"""How long a poll waits for the connection: a secrets backend may never answer."""

KILL_REQUEST_SECONDS = 10.0
"""To connect, and again to read, in on_kill: an answer that never comes leaves time for another attempt."""

_kept_work: set[asyncio.Future[Any]] = set()
"""Strong references: asyncio keeps only weak ones to tasks."""

ASK_ANEW_SECONDS = 300.0
"""How long an unanswered look-up is waited for: its answer may be lost, but each holds a thread."""

_looking_up: WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[str, tuple[asyncio.Future[StablyHook], float]]
] = WeakKeyDictionary()
"""The look-ups without an answer, and when they began: a thousand triggers that start at once ask once."""


class TriggerDriver(AsyncDriver):
    """Looks the connection up in the triggerer: at the first call, and at each one until that works.

    :param hook: Its connection has been read; None: not yet.
    :param timeout: Seconds to connect, and seconds to read; None leaves it to the connection.
    :param heeded: As of :func:`~airflow_provider_stably.api.retries.replay_policy`.
    """

    def __init__(
        self,
        stably_conn_id: str,
        *,
        hook: StablyHook | None = None,
        timeout: float | None = None,
        heeded: float = MAX_RETRY_AFTER_SECONDS,
    ) -> None:
        self._stably_conn_id = stably_conn_id
        self._hook = hook
        self._timeout = timeout
        self._heeded = heeded
        self._entered: AsyncStablyClient | None = None
        self.now = time.time

    def in_haste(self) -> Self:
        """Return another driver, for ``on_kill``, on the connection that this one has read already."""
        return type(self)(
            self._stably_conn_id,
            hook=self._hook,
            timeout=KILL_REQUEST_SECONDS,
            heeded=HEEDED_IN_HASTE_SECONDS,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._entered is not None:
            await self._entered.__aexit__(None, None, None)

    async def reconnect(self) -> None:
        """Look the connection up anew; keep the old one if that fails."""
        before = self._entered
        if before is None:
            return  # the next call looks it up
        with best_effort("The connection cannot be read now, so the old one is kept"):
            await self._enter(await _look_up(self._stably_conn_id))
            await before.__aexit__(None, None, None)

    async def _connected(self) -> AsyncStablyClient:
        return self._entered or await self._enter(self._hook or await _look_up(self._stably_conn_id))

    async def _enter(self, hook: StablyHook) -> AsyncStablyClient:
        self._entered = await hook.make_async_client(timeout=self._timeout).__aenter__()
        self._hook = hook
        return self._entered


async def _look_up(stably_conn_id: str) -> StablyHook:
    """Look a connection up; where there is no answer yet, wait for that again before asking anew.

    :returns: A hook that has read it.
    :raises StablyConfigError: if it cannot be used, or is not there in time.
    """
    loop = asyncio.get_running_loop()
    each, now = _looking_up.setdefault(loop, {}), loop.time()
    answer, began = each.get(stably_conn_id, (None, 0.0))
    if answer is None or answer.done() or now - began > ASK_ANEW_SECONDS:
        answer, began = each[stably_conn_id] = kept(_read(stably_conn_id)), now
    await asyncio.wait([answer], timeout=LOOK_UP_SECONDS)
    if not answer.done():
        problem = f"cannot be read now: no answer in {LOOK_UP_SECONDS:g} s"
        raise StablyConfigError(problem, conn_id=stably_conn_id, field="conn_id")
    if each.get(stably_conn_id) == (answer, began):
        del each[stably_conn_id]  # it holds the loop
    if (error := answer.exception()) is not None:
        raise error.with_traceback(None)  # else it would grow with each that waits
    return answer.result()


async def _read(stably_conn_id: str) -> StablyHook:
    hook = StablyHook(stably_conn_id)
    await hook.get_async_client()
    return hook


async def shield(work: Coroutine[Any, Any, T]) -> T:
    """Await something that goes on although this wait for it is cancelled.

    Airflow 3 cancels a trigger again every second until it has ended, ``on_kill`` included. And a question to
    Airflow 3.0 or 3.1 that is cut off ends the whole triggerer: its answer is taken for the next one's.
    """
    return await asyncio.shield(kept(work))


def kept(work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    """Begin something that goes on although nobody may wait for it."""
    future = asyncio.ensure_future(work)
    _kept_work.add(future)
    future.add_done_callback(_kept_work.discard)
    return future

"""Several calls that belong together, as a generator: it yields what to do next and is sent the answers.

So every decision is written once and needs no I/O; a thread and an event loop differ only in who waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_stably.api.protocol import Call
from airflow_provider_stably.exceptions import StablyError

if TYPE_CHECKING:
    from airflow_provider_stably.api.async_client import AsyncStablyClient
    from airflow_provider_stably.api.client import StablyClient

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Once:
    """A call to send a single time: the conversation itself repeats it."""

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait."""

    seconds: float


class Reconnect(Enum):
    """The wish to look the Airflow connection up anew: the key may have been rotated."""

    RECONNECT = "reconnect"


Step = Call[Any] | Once | Pause | Reconnect


def conduct(
    conversation: Generator[Step, Any, R],
    client: StablyClient,
    *,
    reconnect: Callable[[], StablyClient] | None = None,
) -> R:
    """Carry a conversation out in this thread.

    :param reconnect: Gives the client to go on with; needed only if the conversation asks for one.
    """
    reply: Any = None
    while True:
        try:
            step = _reply(conversation, reply)
        except StopIteration as end:
            result: R = end.value
            return result
        reply = None
        if isinstance(step, Pause):
            time.sleep(step.seconds)  # the wait of a task that is not deferred; aconduct has the other kind
        elif isinstance(step, Reconnect):
            client = reconnect() if reconnect else client
        else:
            try:
                reply = client.send_once(step.call) if isinstance(step, Once) else client.send(step)
            except StablyError as error:
                reply = error


async def aconduct(
    conversation: Generator[Step, Any, R],
    client: AsyncStablyClient,
    *,
    reconnect: Callable[[], Awaitable[AsyncStablyClient]] | None = None,
) -> R:
    """Carry a conversation out on this event loop; otherwise as :func:`conduct`."""
    reply: Any = None
    while True:
        try:
            step = _reply(conversation, reply)
        except StopIteration as end:
            result: R = end.value
            return result
        reply = None
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, Reconnect):
            client = await reconnect() if reconnect else client
        else:
            try:
                reply = await (client.send_once(step.call) if isinstance(step, Once) else client.send(step))
            except StablyError as error:
                reply = error


def _reply(conversation: Generator[Step, Any, R], reply: Any) -> Step:
    return conversation.throw(reply) if isinstance(reply, StablyError) else conversation.send(reply)

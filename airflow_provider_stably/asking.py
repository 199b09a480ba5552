"""Ask Airflow something that blocks, from the event loop of its triggerer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")


async def ask(question: Callable[..., T], *arguments: Any) -> T:
    """Return what a function returns that talks to Airflow; it runs in a thread."""
    # Not asyncio.to_thread: Airflow 3.0 and 3.1 would read the answer on an event loop of the thread's own,
    # which fails, and the triggerer would stumble over that answer and end. Until 3.2 is the oldest.
    return await sync_to_async(question, thread_sensitive=False)(*arguments)

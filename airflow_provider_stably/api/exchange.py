"""What holds for one request and its answer, whichever library carries them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import urlsplit

from airflow_provider_stably.exceptions import StablyUnreachableError

MAX_HEAD_LINES = 101
"""Most lines of an answer's head, interim answers included: a status, 99 headers and the empty line.

aiohttp before 3.14 keeps every header, and each costs as much as all before it when the connection ends.
"""

MAX_HEAD_BYTES = 512 * 1024
"""Most bytes of an answer's head."""

MAX_HEAD_LINE_BYTES = 64 * 1024
"""Longest line of it that is read."""


def refuse_other_proxies(proxy: str | None, label: str) -> None:
    """Let only proxies pass that speak HTTP: aiohttp knows no other, and nothing bounds the words of SOCKS.

    :param proxy: Its address; without a scheme, ``http`` is meant.
    :param label: Of the endpoint.
    :raises StablyUnreachableError: if it is another one, or no address: requests' own errors may show it.
    """
    if proxy and not _speaks_http(proxy if "://" in proxy else f"http://{proxy}"):
        problem = (
            "Only http:// and https:// proxies with a valid host and port can be used: see extra.proxy, or "
            f"environment ({label})"
        )
        raise StablyUnreachableError(problem, request_sent=False, is_local=True)


def _speaks_http(proxy: str) -> bool:
    try:
        url = urlsplit(proxy)
        return url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:  # of the host or the port
        return False


_noted: ContextVar[list[bool] | None] = ContextVar("_noted", default=None)


@contextmanager
def noting_what_is_sent() -> Iterator[list[bool]]:
    """Give a list that is empty as long as no request of this thread or task can have reached the API.

    What fails before that may be sent again, whatever the error is.
    """
    noted: list[bool] = []
    outer = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(outer)


_asked: ContextVar[Callable[[], None] | None] = ContextVar("_asked", default=None)


@contextmanager
def asking_before_it_is_sent(question: Callable[[], None]) -> Iterator[None]:
    """Ask once there is a connection, which may take long, and before a request is written to it.

    :param question: Raises if nothing is to be sent any more.
    """
    outer = _asked.set(question)
    try:
        yield
    finally:
        _asked.reset(outer)


def note_sending() -> None:
    """Say that there is a connection to the API, and that a request begins to be written to it."""
    question, noted = _asked.get(), _noted.get()
    if question is not None:
        question()
    if noted is not None:  # None: a session's user sends by hand
        noted.append(True)

"""Where a name leads: looked up where that can be left behind, and remembered once it was reached."""

from __future__ import annotations

import _thread
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from urllib3.util.connection import allowed_gai_family

reached_at: dict[str, str] = {}
"""Host, or proxy, to the IP address at which this process last reached it by its name."""

_found: dict[str, list[str]] = {}
"""Host, or proxy, to what its last look-up found, which may have taken longer than anybody waited."""

LOOK_UP_AGAIN_SECONDS = 1.0
"""How long a name is looked up whose last address is known: a killed task has five seconds."""

Found: TypeAlias = list[str] | OSError | UnicodeError
"""A name's addresses, or why there are none."""


def look_up(host: str, port: int, tell: Callable[[Found], object]) -> None:
    """Begin to look a name up, in a thread that can be left behind.

    A look-up that stalls cannot be interrupted. In the main thread it would keep Python from calling the
    signal handler of a kill, and in the threads of an event loop it would hold what others wait for. A Thread
    would take locks that such a handler cannot wait for.

    :param tell: Gets what it comes to, in that thread. Its RuntimeError is ignored: its event loop is closed.
    :raises RuntimeError: if there are too many threads.
    """
    _thread.start_new_thread(_look_up, (host, port, tell))


def _look_up(host: str, port: int, tell: Callable[[Found], object]) -> None:
    found = addresses_of(host, port)
    with suppress(RuntimeError):
        tell(found)


def addresses_of(host: str, port: int) -> Found:
    """Look a name up in this thread."""
    try:
        each = socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return error
    found = _found[host] = list(dict.fromkeys(str(address[0]) for *_, address in each))
    return found


def last_known(host: str) -> list[str]:
    """Return the addresses that a name last led to, and the one at which it was last reached."""
    reached = reached_at.get(host)
    return list(dict.fromkeys([*_found.get(host, ()), *([reached] if reached else [])]))

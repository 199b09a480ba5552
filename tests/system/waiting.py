"""Wait for something to become true, but not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""How long a step may take on a machine that is busy with other things."""

_SECONDS_BETWEEN_LOOKS = 0.2


class NotInTimeError(AssertionError):
    """Something did not become true in time."""


def wait_for(condition: Callable[[], T], *, what: str, timeout: float = PATIENCE_SECONDS) -> T:
    """Look again and again until a condition holds.

    :param condition: Returns something true once it holds.
    :param what: What is waited for, for the message.
    :param timeout: Seconds.
    :returns: What the condition returned.
    :raises NotInTimeError: If it did not hold in time.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise NotInTimeError(f"Waited {timeout:g} s in vain for {what}; last seen: {found!r}")
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return found

"""Wait until a condition holds, but not forever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.001


class NotInTimeError(AssertionError):
    """A condition did not hold in time."""


def wait_until(
    condition: Callable[[], T],
    *,
    what: str = "the condition",
    timeout: float = 10.0,
    longest_pause: float = 0.2,
) -> T:
    """Wait until a condition holds.

    Pauses between checks grow: an event in this process is seen at once, and a real Airflow is not flooded.

    :param condition: Returns something true once it holds.
    :param what: What is waited for, for the error message.
    :param timeout: Seconds.
    :param longest_pause: Seconds.
    :returns: What the condition returned.
    :raises NotInTimeError: If it did not hold in time.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE_SECONDS
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise NotInTimeError(f"Waited {timeout:g} s in vain for {what}; last value: {found!r}")
        time.sleep(pause)
        pause = min(2 * pause, longest_pause)
    return found

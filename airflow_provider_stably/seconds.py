"""What counts as a number of seconds: the rule for arguments that DAG authors write."""

from __future__ import annotations

import math
from datetime import timedelta

LONGEST_SECONDS = 366 * 24 * 60 * 60
"""A year: anything longer is a mistake, and would break date arithmetic when the run is started already."""


def seconds(name: str, value: float | timedelta, *, at_least: float = math.ulp(0.0)) -> float:
    """Return an argument as seconds.

    :param name: The argument's name, for the message.
    :param value: A number or a timedelta.
    :param at_least: The least value; by default anything above 0.
    :raises ValueError: if it is neither, or out of range.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if is_number and at_least <= number <= LONGEST_SECONDS:
        return float(number)
    least = f"from {at_least:g}" if at_least == 0 else "above 0"
    raise ValueError(f"{name} is a number of seconds {least} up to a year, not {value!r}")

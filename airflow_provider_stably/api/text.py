"""Make text from outside safe to keep and to show: storable, on one line, short. No I/O."""

from __future__ import annotations

import re
import reprlib

MAX_SHOWN = 80
"""How much of a wrong value is shown."""

_UNSHOWN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Control characters (C0, C1 and so ANSI's), blanks without width, what changes a line's direction, and
half surrogate pairs.

A database refuses NUL and half a pair, and a triggerer that meets the latter in an event dies.
"""


def one_line(text: str, *, limit: int) -> str:
    """Return the start of a text with control characters escaped, so that it is one line and storable.

    :param limit: How many characters at most.
    """
    return _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), text[:limit])[:limit]


def shown(value: object) -> str:
    """Quote the start of a value for a message, whatever it is and however big or deep."""
    if isinstance(value, str):
        return repr(value[:MAX_SHOWN])
    try:
        return one_line(f"{type(value).__name__} {reprlib.repr(value)}", limit=MAX_SHOWN)
    except ValueError:  # an integer of thousands of digits
        return type(value).__name__

"""Log a failure and carry on: for clean-up that must not change a task's outcome."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_stably.api.text import one_line
from airflow_provider_stably.exceptions import StablyError, clearing_locals

log = logging.getLogger(__name__)

MAX_CHARACTERS = 500
"""How much of a failure is logged: it may name what came from outside."""


@contextmanager
def best_effort(failure: str) -> Iterator[None]:
    """Log what the block raises, and carry on after the block.

    Any Exception, because secrets backends, XCom backends and Airflow's supervisor raise whatever they like.
    One that got out would hide the first error, turn a PASSED run red, or keep the next run from being
    cancelled.

    :param failure: What did not happen, for people.
    """
    failure = one_line(failure, limit=MAX_CHARACTERS)
    try:
        with clearing_locals():
            yield
    except StablyError as error:  # its text is the cause, so no traceback
        log.warning("%s. %s", error, failure)
    except Exception:  # of a secrets or XCom backend, say; an interruption is none, and gets out
        log.warning("%s", failure, exc_info=True)

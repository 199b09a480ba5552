"""Log a failure and carry on: for clean-up that must not change a task's outcome."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def best_effort(failure: str) -> Iterator[None]:
    """Log what the block raises, with its traceback, and carry on after the block.

    Any Exception, because secrets backends, XCom backends and Airflow's supervisor raise whatever they like.
    One that got out would hide the first error, turn a PASSED run red, or keep the next run from being
    cancelled.

    :param failure: What did not happen, for people.
    """
    try:
        yield
    except Exception:
        log.warning("%s", failure, exc_info=True)

"""What must not change how a task, a callback or a trigger ends: its failure is logged, and that is all.

For cancelling after something else went wrong, and for questions to Airflow that can be done without. Any
Exception, because secrets backends, XCom backends and Airflow's supervisor raise whatever they like, and each
that got out would hide the first error, turn a PASSED run red, or keep the next run from being cancelled.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def best_effort(failure: str) -> Iterator[None]:
    """Log what the block raises, with its traceback, and go on after the block.

    :param failure: What then did not happen, for people.
    """
    try:
        yield
    except Exception:
        log.warning("%s", failure, exc_info=True)

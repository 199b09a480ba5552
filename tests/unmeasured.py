"""Switch coverage off, and on again."""

from __future__ import annotations

from contextlib import contextmanager

from coverage import Coverage


@contextmanager
def without_coverage():
    """Measure none, in no thread.

    pytest-cov's marker ``no_cover`` is not for fixtures, and does nothing in a worker of pytest-xdist: there
    it has started two measurements, and stops one.
    """
    stopped = []
    while coverage := Coverage.current():
        coverage.stop()
        stopped.insert(0, coverage)
    try:
        yield
    finally:
        for coverage in stopped:
            coverage.start()

"""Interrupt the main thread, as Airflow does at the execution_timeout."""

import signal
from contextlib import contextmanager


class Interrupted(BaseException):
    """As AirflowTaskTimeout on Airflow 3, not an Exception."""


@contextmanager
def interrupt_after(seconds):
    """Raise :class:`Interrupted` in the main thread after so many seconds."""

    def interrupt(*_):
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)

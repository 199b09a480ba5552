"""Interrupt the main thread, as Airflow does at the execution_timeout."""

import signal
import sys
import threading
from contextlib import contextmanager

from tests.unmeasured import without_coverage


class Interrupted(BaseException):
    """As AirflowTaskTimeout on Airflow 3, not an Exception."""


@contextmanager
def interrupt_when(condition, *, again_after=None):
    """Raise :class:`Interrupted` in the main thread as soon as something is so.

    :param again_after: Seconds after which it is raised once more; None: it is not.
    """

    def interrupt(*_):
        raise Interrupted

    def watch():
        while not over.wait(0.005):
            if condition():
                signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
                if again_after is not None and not over.wait(again_after):
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
                return

    previous = signal.signal(signal.SIGALRM, interrupt)
    over = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        # Coverage has a lock, which nobody releases if the interruption strikes just then.
        with without_coverage():
            yield
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def interrupt_at(number, function):
    """Raise :class:`Interrupted` in the main thread at the n-th line of a function that it executes.

    Gives an event that is set if it came so far.
    """
    struck = threading.Event()
    lines = 0

    def count(_, event, __):
        nonlocal lines
        lines += event == "line"
        if lines == number:
            struck.set()
            raise Interrupted
        return count

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: count if frame.f_code is function.__code__ else None)
    try:
        yield struck
    finally:
        sys.settrace(before)

"""Work that is seen through although the wait for it is interrupted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def see_through(work: Callable[[], T], *, when_interrupted: Callable[[], None]) -> T:
    """Do work in a thread and return what comes of it; an interruption goes on once the work has ended.

    Interruptions - an execution_timeout and, on Airflow 2.11, a kill - are raised in the main thread wherever
    it is: in the middle of a request they would lose its answer. They may strike anywhere here, too, inside
    ``Thread.start`` for one: so the thread does nothing before it is told to, and then is waited for.

    :param when_interrupted: Called before the wait goes on, to shorten it.
    """
    may_begin: SimpleQueue[bool] = SimpleQueue()
    results: SimpleQueue[Future[T]] = SimpleQueue()

    def run() -> None:
        if not may_begin.get():
            return
        result: Future[T] = Future()
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            result.set_exception(error)
        results.put(result)

    thread = Thread(target=run, name="stably-uninterrupted", daemon=True)
    try:
        thread.start()
        may_begin.put(True)
        result = results.get()
    except BaseException:
        when_interrupted()
        may_begin.put(False)
        if thread.is_alive():
            thread.join()
        raise
    return result.result()

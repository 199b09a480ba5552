"""Finish a piece of work although the wait for it is interrupted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def finish_despite_interrupt(work: Callable[[], T], *, when_interrupted: Callable[[], None]) -> T:
    """Do work in a thread and return its result; an interruption is raised again once the work has ended.

    Interruptions - an execution_timeout and, on Airflow 2.11, a kill - are raised in the main thread wherever
    it is: in the middle of a request they would lose its answer. They may strike anywhere here, too, inside
    ``Thread.start`` for one: so the thread does nothing until it may begin, and then is waited for.

    :param when_interrupted: Called before the wait goes on, to shorten it.
    """
    may_begin: SimpleQueue[bool] = SimpleQueue()
    results: SimpleQueue[Future[T] | None] = SimpleQueue()

    def run() -> None:
        if not may_begin.get():
            results.put(None)
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
        is_alive = True
        while is_alive:
            with suppress(BaseException):  # the first interruption is the one that goes on
                # Not join: in Python 3.11 one that is interrupted takes the thread for stopped.
                if is_alive := thread.is_alive():
                    results.get(timeout=1)
        raise
    assert result is not None  # noqa: S101 - for mypy: the thread was allowed to begin
    return result.result()

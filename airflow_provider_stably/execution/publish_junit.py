"""Write a run's JUnit XML where a DAG author wants it; if that fails, it is a warning."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event, Thread

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, ObjectStoragePath

from airflow_provider_stably.api.text import one_line
from airflow_provider_stably.arguments import check_address
from airflow_provider_stably.tasks.best_effort import MAX_CHARACTERS

log = logging.getLogger(__name__)

WRITE_SECONDS = 60.0
"""How long a task waits for its file: a storage that hangs must not hold a verdict back."""

KILL_PAUSE_SECONDS = 0.2


def publish_junit(target: str, make: Callable[[], bytes], *, is_killed: Callable[[], bool]) -> None:
    """Make a document and write it, in a thread, as long as the task has time for it.

    :param target: Where to: a path, or an address that Airflow's object storage knows.
    :param make: Makes the document; may call the API.
    :param is_killed: Whether the task was told to stop.
    """
    failure: list[str] = [f"it took longer than {WRITE_SECONDS:g} s"]
    has_given_up = Event()

    def write(path: ObjectStoragePath) -> None:
        try:
            document = make()
            if not has_given_up.is_set():
                _write(path, document)
        except Exception as error:  # noqa: BLE001 - each storage has its own; it would end the thread unseen
            failure[:] = [_reason(error)]
        else:
            failure.clear()

    end = time.monotonic() + WRITE_SECONDS
    try:
        check_address(target)
        path = ObjectStoragePath(target)
        _ = path.fs  # here, not in the thread: an Airflow 3.0 whose task goes on would mix up two look-ups
        # A daemon: the process may end without it.
        thread = Thread(target=write, args=(path,), name="stably-junit", daemon=True)
        thread.start()
        while thread.is_alive() and not is_killed() and time.monotonic() < end:
            thread.join(KILL_PAUSE_SECONDS)
    except AirflowTaskTimeout:  # the run was over in time
        failure[:] = ["the task's execution_timeout was over"]
    except Exception as error:  # noqa: BLE001 - each storage has its own; a file must not turn a run red
        failure[:] = [_reason(error)]
    has_given_up.set()
    where = one_line(target, limit=MAX_CHARACTERS)  # a template may render what comes from outside
    if failure:
        reason = "the task was killed" if is_killed() else failure[0]
        log.warning("The JUnit XML was not written to %s: %s", where, reason)
    else:
        log.info("Wrote JUnit XML to %s", where)


def _reason(error: Exception) -> str:
    log.debug("The JUnit XML was not written", exc_info=error)
    return one_line(f"{type(error).__name__}: {error}", limit=MAX_CHARACTERS)


def _write(path: ObjectStoragePath, document: bytes) -> None:
    if path.protocol in {"", "file", "local"}:  # on object stores that could make a bucket
        path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # type: ignore[no-untyped-call] # Airflow's is untyped
        file.write(document)

"""What a task notes about its start in Airflow's task state store (3.3 and later), which survives retries.

XCom is cleared when a task is tried again, so without this a try after a lost worker could not know of the
run that is still going on, and would start another beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from airflow_provider_stably.best_effort import best_effort
from airflow_provider_stably.run_reference import RunReference

START_RECORD_KEY = "stably_start"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What tells a retry of a task from a user's clear: Airflow raises one of these counters at a clear.

    Clearing a running task leaves ``max_tries`` alone but counts for the DAG run; clearing a finished or
    deferred one raises ``max_tries``.
    """

    max_tries: int | None
    clear_number: int | None

    @classmethod
    def of(cls, context: Any) -> Attempt:
        """Read the counters from a task's context."""
        return cls(
            getattr(context["ti"], "max_tries", None), getattr(context["dag_run"], "clear_number", None)
        )


class Unfinished(Enum):
    """A start that was begun, and of which nothing more is known."""

    STARTING = "starting"


@dataclass(frozen=True, slots=True)
class StartRecord:
    """A start that an earlier try noted.

    :param run: The run; ``STARTING`` if the answer to the start was never noted.
    :param started_at: When it was started, in seconds since the epoch.
    :param attempt: The counters at that time.
    """

    run: RunReference | Unfinished
    started_at: float
    attempt: Attempt


class StartLedger:
    """The task state store as far as starts go; without a store it notes and knows nothing.

    Never used in ``on_kill``: it talks to Airflow's supervisor.

    :param context: The task's context.
    """

    def __init__(self, context: Any) -> None:
        self._store = context.get("task_state_store")
        self._attempt = Attempt.of(context) if self._store is not None else Attempt(None, None)

    def read(self) -> StartRecord | None:
        """Return what an earlier try noted; None if nothing."""
        noted = self._store.get(START_RECORD_KEY) if self._store is not None else None
        if not isinstance(noted, Mapping):
            return None
        attempt = Attempt(noted.get("max_tries"), noted.get("clear_number"))
        started_at = float(noted.get("started_at") or 0)
        if noted.get("run_id") is None:
            return StartRecord(Unfinished.STARTING, started_at, attempt)
        return StartRecord(RunReference.from_xcom(noted), started_at, attempt)

    def is_retry_of(self, record: StartRecord) -> bool:
        """Whether this try is Airflow's own retry of the one that noted the record, not a user's clear."""
        return record.attempt == self._attempt

    def note(self, run: RunReference | Unfinished, started_at: float) -> None:
        """Note a start that is about to be made, or was made."""
        if self._store is None:
            return
        names = asdict(run) if isinstance(run, RunReference) else {}
        self._store.set(
            START_RECORD_KEY,
            {
                **names,
                "started_at": started_at,
                "max_tries": self._attempt.max_tries,
                "clear_number": self._attempt.clear_number,
            },
        )

    def forget(self) -> None:
        """Forget the start: the run is over, or there is none. A record that stays does little harm."""
        if self._store is None:
            return
        with best_effort("The record of this task's start could not be deleted"):
            self._store.delete(START_RECORD_KEY)

"""What a task writes about its start into Airflow's task state store (3.3 and later), which survives retries.

Airflow clears XComs when a task is tried again. Without this record a try after a lost worker would not know
the run that still goes on, and would start another one beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.tasks.best_effort import best_effort

START_RECORD_KEY = "stably_start"


@dataclass(frozen=True, slots=True)
class StartRecord:
    """A start that an earlier try recorded.

    :param run: The run; None if the answer to the start was never recorded, or the record cannot be read.
    :param is_retried: Whether this try is Airflow's own retry of that one, not a user's clear.
    :param try_number: The try that made it; None if not recorded.
    :param is_over: Whether the task has cancelled the run.
    """

    run: RunReference | None
    is_retried: bool
    try_number: int | None = None
    is_over: bool = False

    def run_of(self, try_number: int, *, cancel_on_kill: bool) -> RunReference | None:
        """Return the run if a try answers for it: its own, or an earlier one's; None if it leaves it alone.

        A try goes on with the run of the try that it retries. After a user's clear it cancels the earlier
        run, unless the task leaves its runs to others.
        """
        is_later = self.try_number is not None and self.try_number > try_number
        is_left_alone = self.try_number != try_number and not self.is_retried and not cancel_on_kill
        return None if is_later or is_left_alone or self.is_over else self.run


class StartRecords:
    """A task's start record in the task state store; without a store nothing is written or read.

    Never used in ``on_kill``: it talks to Airflow's supervisor.
    """

    def __init__(self, context: Any) -> None:
        self._store = context.get("task_state_store")
        self._counters = {} if self._store is None else _clear_counters(context)
        self._try_number: int | None = None if self._store is None else context["ti"].try_number
        self._last_read: Any = None

    @property
    def survive_retries(self) -> bool:
        """Whether the next try can read what this one writes."""
        return self._store is not None

    def read(self) -> StartRecord | None:
        """Return what an earlier try recorded; None if nothing."""
        recorded = self._last_read = self._store.get(START_RECORD_KEY) if self._store is not None else None
        if recorded is None:
            return None
        run = None
        with suppress(ValueError):  # written by somebody else: it must not block the task for good
            run = RunReference.from_json(recorded)
        if not isinstance(recorded, Mapping):
            recorded = {}
        try_number = recorded.get("try_number")
        return StartRecord(
            run=run,
            is_retried=all(recorded.get(name) == value for name, value in self._counters.items()),
            try_number=try_number if isinstance(try_number, int) else None,
            is_over=recorded.get("is_over") is True,
        )

    def write(self, run: RunReference | None) -> None:
        """Record a run that was started, or that one is about to be started (None)."""
        if self._store is not None:
            names = {} if run is None else asdict(run)
            self._store.set(START_RECORD_KEY, {**names, "try_number": self._try_number, **self._counters})

    def keep(self, run: RunReference) -> None:
        """Record a run that may be live, if that is missing: a clean-up of the store may have deleted it."""
        with best_effort("The record of this task's start could not be checked"):
            if (recorded := self.read()) is None or recorded.run != run:
                self.write(run)

    def put_back(self) -> None:
        """Write the record as it was last read, of the try that made it."""
        if self._store is not None:
            with best_effort("The record of an earlier try's start could not be put back"):
                self._store.set(START_RECORD_KEY, self._last_read)

    def delete(self) -> None:
        """Delete the record: there is no run."""
        if self._store is not None:
            with best_effort("The record of this task's start could not be deleted"):
                self._store.delete(START_RECORD_KEY)

    def delete_of(self, run: RunReference) -> None:
        """Delete the record of a run that is over by itself."""
        if self._is_of(run):
            self.delete()

    def mark_over(self, run: RunReference) -> None:
        """Record that this task has cancelled a run.

        A try that Airflow has replaced may do so late: from the record the next try, which has taken up the
        run, knows that nobody cancelled it on purpose.
        """
        with best_effort("The record of this task's start could not be changed"):
            if self._is_of(run):
                self._store.set(START_RECORD_KEY, {**self._last_read, "is_over": True})

    def _is_of(self, run: RunReference) -> bool:
        """Whether the record is of a run, or this try's own; by now the next try may have another one."""
        with best_effort("The record of this task's start could not be read"):
            recorded = self.read()
            return recorded is not None and (recorded.run == run or recorded.try_number == self._try_number)
        return False


def _clear_counters(context: Any) -> dict[str, int | None]:
    """Return the two counters that Airflow raises at a user's clear, and leaves alone at a retry.

    Clearing a running task leaves ``max_tries`` alone but counts for the DAG run; clearing a finished or
    deferred one raises ``max_tries``.
    """
    return {
        "max_tries": getattr(context["ti"], "max_tries", None),
        "clear_number": getattr(context["dag_run"], "clear_number", None),
    }

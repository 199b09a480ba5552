"""Which run a task's process answers for, and whether the task was killed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_stably.runs.reference import RunReference

KILL_PAUSE_SECONDS = 0.2
"""How often a wait checks whether the task was killed."""

LAST_PAUSE_SECONDS = 0.5
"""Longest pause once the task was killed, whatever a Retry-After says: Airflow 3 sends SIGKILL after 5 s."""


@dataclass(slots=True)
class Ownership:
    """Which run this process has to cancel if it stops watching, and what has happened to the task.

    No locks, so no Event: ``on_kill`` runs in a signal handler, and what it interrupts could hold them.

    :param cancel_on_kill: False if the task leaves its runs to others: then it owns none.
    :param watched: The run that the task waits for, as long as it may be live.
    """

    cancel_on_kill: bool
    run_to_cancel: RunReference | None = None
    watched: RunReference | None = None
    is_killed: bool = False
    may_be_pushed: bool = False

    def own(self, run: RunReference) -> RunReference:
        """Answer for a run from now on, if the task does at all."""
        self.run_to_cancel = run if self.cancel_on_kill else None
        self.watched = run
        return run

    def part(self) -> None:
        """Answer for no run any more: it is over, or left to others."""
        self.run_to_cancel = self.watched = None

    def stop_if_killed(self) -> None:
        """Raise if the task was killed.

        :raises AirflowException: retryable, as a worker that shuts down kills its tasks, too.
        """
        if self.is_killed:
            raise AirflowException("The task was killed")

    def sleep_unless_killed(self, seconds: float) -> None:
        """Wait, but no longer than until the task is killed; then raise."""
        self._wait_unless_killed(seconds)
        self.stop_if_killed()

    def sleep_less_if_killed(self, seconds: float) -> None:
        """Wait, but not for more than :data:`LAST_PAUSE_SECONDS` once the task is killed."""
        self._wait_unless_killed(seconds - LAST_PAUSE_SECONDS)
        # Even then: the API, which asked for it, would be sent cancels without a pause till SIGKILL.
        time.sleep(min(seconds, LAST_PAUSE_SECONDS))

    def _wait_unless_killed(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.is_killed and (left := end - time.monotonic()) > 0:
            # In short pieces, and no Event: on_kill sets the flag in a signal handler, which takes no lock.
            time.sleep(min(left, KILL_PAUSE_SECONDS))

"""One cell of the matrix while it is played: a DAG run, and a project of the emulator."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from airflow_provider_stably.testing import Fault, StablyEmulator
from airflow_provider_stably.testing.emulator import EmulatedRun
from tests.system.airflow_under_test import AirflowUnderTest
from tests.system.dag_runs import DagRun, TaskInstance
from tests.waiting import NotInTimeError

_FINAL = frozenset({"success", "failed", "skipped", "upstream_failed"})
_SETTLING_SECONDS = 30.0
"""How long after the end of the DAG run its Stably run may still be live.

The first trigger that asks a new triggerer for its task's state waits for the answer, 15 s on a busy machine.
"""


@dataclass
class MatrixCell:
    """A DAG run that has a project of the emulator to itself.

    :param mode: ``sync`` or ``deferrable``.
    :param project_id: No other cell's.
    """

    airflow: AirflowUnderTest
    emulator: StablyEmulator
    mode: str
    project_id: str
    dag_run: DagRun = field(init=False)
    task: TaskInstance = field(init=False)

    def begin(self, variant: str, *, script: str, task_id: str = "tests", map_index: int = -1) -> None:
        """Start the DAG run.

        :param variant: Which of the DAGs.
        :param script: What the Stably run does.
        """
        conf = {"project_id": self.project_id, "script": script}
        self.dag_run = self.airflow.trigger(f"matrix_{variant}_{self.mode}", conf)
        self.task = self.dag_run.task(task_id, map_index=map_index)

    def inject(self, fault: Fault, *, call: str, times: float = 1) -> None:
        """Let requests about this cell's project go wrong."""
        self.emulator.inject(fault, call=call, project_id=self.project_id, times=times)

    def runs(self) -> list[EmulatedRun]:
        """Return the cell's runs, oldest first."""
        runs = [run for run in list(self.emulator.runs.values()) if run.project_id == self.project_id]
        return sorted(runs, key=lambda run: run.created_at)

    def live(self) -> list[EmulatedRun]:
        """Return those that have not ended."""
        live = set(self.emulator.live_runs())
        return [run for run in self.runs() if run.run_id in live]

    def starting(self) -> EmulatedRun:
        """Wait until a run was asked for, answered or not, and return it."""
        return self.airflow.wait_until(self.runs, what=f"a start in {self.project_id}")[0]

    def watched(self, number: int = 1) -> EmulatedRun:
        """Wait until a run is looked at by whoever is to watch it, and return it.

        :param number: Which of the cell's runs, from 1.
        """
        self.airflow.wait_until(
            lambda: len(self.runs()) >= number, what=f"{number} start(s) in {self.project_id}", timeout=90
        )
        run = self.runs()[number - 1]
        self.looked_at_again(run, times=1)
        return run

    def watched_again(self, run: EmulatedRun, *, timeout: float = 90) -> EmulatedRun:
        """Wait until the next try of the task watches a run, and return it.

        :param run: That of the lost try; where Airflow can tell the next try of it, it is watched again.
        """
        before = self._looks(run)
        self.airflow.wait_until(
            lambda: len(self.runs()) > 1 or (self._looks(run) > before and run in self.live()),
            what=f"the next try of {self.project_id}",
            timeout=timeout,
        )
        return run if len(self.runs()) == 1 else self.watched(2)

    def called_back(self) -> None:
        """Wait until a callback of the DAG's own was called, see ``dags/matrix.py``."""
        self.airflow.wait_until(
            lambda: self.emulator.requests("get", run_id=f"callback-of-{self.project_id}"), what="a callback"
        )

    def looked_at_again(self, run: EmulatedRun, *, times: int = 1, timeout: float = 60) -> None:
        """Wait until the emulator has got some more status requests about a run."""
        enough = self._looks(run) + times
        self.airflow.wait_until(
            lambda: self._looks(run) >= enough, what=f"status requests about {run.run_id}", timeout=timeout
        )

    def end(self, run: EmulatedRun, script: str = "passes") -> None:
        """Let a run that hangs end now, as a script does."""
        run.run_seconds = (datetime.now(UTC) - run.created_at).total_seconds()
        run.script = script

    def settle(self) -> None:
        """Wait until task and DAG run have ended and, for a while, until no run is live."""
        self.dag_run.wait_for("success", "failed", timeout=120)
        self.task.wait_for(*_FINAL, timeout=30)
        with suppress(NotInTimeError):  # that is for the verdict to say
            self.airflow.wait_until(lambda: not self.live(), what="the runs' end", timeout=_SETTLING_SECONDS)

    def _looks(self, run: EmulatedRun) -> int:
        return len(self.emulator.requests("get", run_id=run.run_id))

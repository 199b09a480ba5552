"""One cell of the matrix while it is played: a DAG run and its project in the emulator."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from airflow_provider_stably.testing import Fault, StablyEmulator
from airflow_provider_stably.testing.emulated_run import EmulatedRun
from tests.system.airflow_under_test import AirflowUnderTest
from tests.system.dag_runs import DagRun, TaskInstance
from tests.waiting import NotInTimeError

_FINAL = frozenset({"success", "failed", "skipped", "upstream_failed"})
_SETTLING_SECONDS = 30.0
"""How long a Stably run may stay live after its DAG run has ended.

A trigger in a new triggerer waits up to 15 s for its task's state on a busy machine.
"""


@dataclass
class MatrixCell:
    """A DAG run with a project of its own in the emulator.

    :param mode: ``sync`` or ``deferrable``.
    :param project_id: The project; no other cell uses it.
    """

    airflow: AirflowUnderTest
    emulator: StablyEmulator
    mode: str
    project_id: str
    dag_run: DagRun = field(init=False)
    task: TaskInstance = field(init=False)

    def trigger(self, variant: str, *, script: str, task_id: str = "tests", map_index: int = -1) -> None:
        """Start the DAG run.

        :param variant: The DAG's variant, see ``dags/matrix.py``.
        :param script: The emulator's script that the Stably run follows.
        """
        conf = {"project_id": self.project_id, "script": script}
        self.dag_run = self.airflow.trigger(f"matrix_{variant}_{self.mode}", conf)
        self.task = self.dag_run.task(task_id, map_index=map_index)

    def inject(self, fault: Fault, *, call: str | None = None, times: float = 1) -> None:
        """Make the emulator fail the next requests about this cell's project.

        :param call: Only ``start``, ``get`` or ``cancel`` requests; None means any.
        """
        self.emulator.inject(fault, call=call, project_id=self.project_id, times=times)

    def runs(self) -> list[EmulatedRun]:
        """Return the cell's runs, oldest first."""
        runs = [run for run in list(self.emulator.runs.values()) if run.project_id == self.project_id]
        return sorted(runs, key=lambda run: run.created_at)

    def live_runs(self) -> list[EmulatedRun]:
        """Return the cell's runs that have not ended, oldest first."""
        live = set(self.emulator.live_runs())
        return [run for run in self.runs() if run.run_id in live]

    def wait_for_start(self) -> EmulatedRun:
        """Wait until the emulator has got a start request, answered or not, and return its run."""
        return self.airflow.wait_until(self.runs, what=f"a start in {self.project_id}")[0]

    def wait_until_watched(self, number: int = 1) -> EmulatedRun:
        """Wait until a run is started and its status is requested, and return it.

        :param number: Which of the cell's runs, from 1.
        """
        self.airflow.wait_until(
            lambda: len(self.runs()) >= number, what=f"{number} start(s) in {self.project_id}", timeout=90
        )
        run = self.runs()[number - 1]
        self.wait_for_polls(run)
        return run

    def wait_for_next_try(self, run: EmulatedRun, *, timeout: float = 90) -> EmulatedRun:
        """Wait until the task's next try watches a run, and return that run.

        :param run: The run of the lost try. Airflow 3.3 lets the next try resume it; earlier ones do not.
        """
        polls_before = self._polls(run)
        self.airflow.wait_until(
            lambda: len(self.runs()) > 1 or (self._polls(run) > polls_before and run in self.live_runs()),
            what=f"the next try of {self.project_id}",
            timeout=timeout,
        )
        return run if len(self.runs()) == 1 else self.wait_until_watched(2)

    def wait_for_valid_key(self, run: EmulatedRun) -> None:
        """Wait until a run's status is requested with the API key that is valid now."""
        valid = f"Bearer {self.emulator.api_key}"
        self.airflow.wait_until(
            lambda: any(
                request.headers["authorization"] == valid
                for request in self.emulator.requests("get", run_id=run.run_id)
            ),
            what=f"a status request about {run.run_id} with the new key",
        )

    def wait_for_cancel(self, run: EmulatedRun, *, timeout: float = 120) -> None:
        """Wait until the emulator has got a request to cancel a run, whatever it answers."""
        self.airflow.wait_until(
            lambda: self.emulator.requests("cancel", run_id=run.run_id),
            what=f"a request to cancel {run.run_id}",
            timeout=timeout,
        )

    def wait_for_callback(self) -> None:
        """Wait until Airflow has called the DAG's own callback, see ``dags/matrix.py``."""
        self.airflow.wait_until(
            lambda: self.emulator.requests("get", run_id=f"callback-of-{self.project_id}"), what="a callback"
        )

    def wait_for_polls(self, run: EmulatedRun, *, count: int = 1, timeout: float = 60) -> None:
        """Wait until the emulator has got more status requests about a run.

        :param count: How many more.
        """
        wanted = self._polls(run) + count
        self.airflow.wait_until(
            lambda: self._polls(run) >= wanted, what=f"status requests about {run.run_id}", timeout=timeout
        )

    def end_run(self, run: EmulatedRun, script: str = "passes") -> None:
        """End a run that hangs now, as another script of the emulator ends."""
        run.run_seconds = (datetime.now(UTC) - run.created_at).total_seconds()
        run.script = script

    def wait_for_end(self) -> None:
        """Wait until the DAG run and the task have ended, then give live runs time to be cancelled."""
        self.dag_run.wait_for("success", "failed", timeout=120)
        self.task.wait_for(*_FINAL, timeout=30)
        with suppress(NotInTimeError):  # the verdict reports a run that is still live
            self.airflow.wait_until(
                lambda: not self.live_runs(), what="the runs' end", timeout=_SETTLING_SECONDS
            )

    def _polls(self, run: EmulatedRun) -> int:
        return len(self.emulator.requests("get", run_id=run.run_id))

"""DAG runs and task instances of a real Airflow: read their state, act on them as a user, kill them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from tests.system.processes import family, is_gone, kill
from tests.system.rest import RestError

if TYPE_CHECKING:
    from tests.system.airflow_under_test import AirflowUnderTest

PATIENCE_SECONDS = 60.0
"""How long a step of Airflow may take on a busy machine."""

DAG_RUN_ID = "dag_run_id"
"""The test property that names a DAG run: a failed test's report then shows that run's task logs in full."""


@dataclass(frozen=True)
class DagRun:
    """A DAG run of a real Airflow."""

    airflow: AirflowUnderTest
    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        """The path in the REST API."""
        return f"/dags/{self.dag_id}/dagRuns/{self.run_id}"

    @property
    def state(self) -> str:
        """The current state."""
        return self.airflow.rest.get(self.path)["state"]

    def task(self, task_id: str, *, map_index: int = -1) -> TaskInstance:
        """Return a task instance of the DAG run.

        :param map_index: -1 if the task is not mapped.
        """
        return TaskInstance(self, task_id, map_index)

    def task_states(self) -> dict[tuple[str, int], str | None]:
        """Return the state of each task instance, by task id and map index."""
        task_instances = self.airflow.rest.get(f"{self.path}/taskInstances", limit=100)["task_instances"]
        return {(each["task_id"], each["map_index"]): each["state"] for each in task_instances}

    def wait_for(self, *states: str, timeout: float = PATIENCE_SECONDS) -> str:
        """Wait until the DAG run is in one of the given states, and return that state."""
        what = f"{self.dag_id} {self.run_id} to be {' or '.join(states)}"
        seen = ["none"]

        def reached() -> str | None:
            seen[0] = self.state
            return seen[0] if seen[0] in states else None

        return self.airflow.wait_until(reached, what=what, timeout=timeout)

    def set_state(self, state: str) -> None:
        """Set the DAG run's state, as a user does: ``failed``, ``success`` or ``queued``."""
        self.airflow.rest.patch(self.path, {"state": state})

    def clear(self, *task_ids: str | tuple[str, int]) -> None:
        """Clear some tasks of the DAG run, or all of them if none is given.

        If the tasks have ended, first wait until the DAG run has: a scheduler that is about to end the DAG
        run does not notice that one of its tasks was cleared, and never runs the task.

        :param task_ids: Task ids; for a mapped task instance, its task id and map index.
        """
        body = self.airflow.body_of_clear(self.run_id, list(task_ids) or None)
        self.airflow.rest.post(f"/dags/{self.dag_id}/clearTaskInstances", body)


@dataclass(frozen=True)
class TaskInstance:
    """A task instance of a real Airflow."""

    dag_run: DagRun
    task_id: str
    map_index: int = -1

    @property
    def path(self) -> str:
        """The path in the REST API."""
        mapped = f"/{self.map_index}" if self.map_index >= 0 else ""
        return f"{self.dag_run.path}/taskInstances/{self.task_id}{mapped}"

    @property
    def airflow(self) -> AirflowUnderTest:
        """The Airflow that runs the task."""
        return self.dag_run.airflow

    def describe(self) -> dict[str, Any]:
        """Return the REST API's fields of it: ``state``, ``try_number``, ``pid``, ``trigger`` ..."""
        return self.airflow.rest.get(self.path)

    @property
    def state(self) -> str | None:
        """The current state; None before the task is scheduled."""
        return self.describe()["state"]

    @property
    def try_number(self) -> int:
        """The number of the current or last try, from 1."""
        return self.describe()["try_number"]

    def wait_for(
        self,
        *states: str | None,
        try_number: int | None = None,
        timeout: float = PATIENCE_SECONDS,
    ) -> dict[str, Any]:
        """Wait until the task instance is in one of the given states.

        :param try_number: The try that must be in that state; None means any.
        :returns: The fields of :meth:`describe`.
        """
        wanted = " or ".join(str(state) for state in states)
        what = f"{self.path} to be {wanted}" + (f" in try {try_number}" if try_number else "")
        last = {}

        def reached() -> dict[str, Any] | None:
            last.update(self.describe())
            right_try = try_number in {None, last["try_number"]}
            return last if right_try and last["state"] in states else None

        try:
            return self.airflow.wait_until(reached, what=what, timeout=timeout)
        except AssertionError as error:
            error.add_note(f"It is {last['state']}, try {last['try_number']}.")
            raise

    def wait_until_gone(self, processes: list[psutil.Process], timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until some of the task's processes have ended."""
        self.airflow.wait_until(
            lambda: all(is_gone(process) for process in processes),
            what=f"the processes {[process.pid for process in processes]} of {self.path} to end",
            timeout=timeout,
        )

    def set_state(self, state: str) -> None:
        """Mark the task, as a user does: ``failed``, ``success`` or ``skipped``."""
        self.airflow.rest.patch(self.path, self.airflow.body_of_state(state))

    def clear(self) -> None:
        """Clear the task, as a user does."""
        self.dag_run.clear(self.task_id if self.map_index < 0 else (self.task_id, self.map_index))

    def xcom(self, key: str = "return_value") -> Any:
        """Return one of the task's XComs; None if it has none of that key."""
        path = f"{self.dag_run.path}/taskInstances/{self.task_id}/xcomEntries/{key}"
        try:
            return self.airflow.rest.get(path, map_index=self.map_index, stringify=False)["value"]
        except RestError as error:
            if error.status == 404:
                return None
            raise

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the running try: its supervisors, outermost first, then the task's own.

        :raises NotInTimeError: If they have not started in time.
        """
        return self.airflow.wait_until(self._processes, what=f"the process of {self.path}", timeout=20)

    def kill_process(self) -> psutil.Process:
        """Kill the task's own process with SIGKILL, as the OOM killer does, but not its supervisor."""
        victim = self.processes()[-1]
        kill([victim])
        return victim

    def terminate_process(self) -> None:
        """Send the task's own process SIGTERM, as its supervisor does when the worker shuts down."""
        self.processes()[-1].terminate()

    def kill_worker(self) -> list[psutil.Process]:
        """Kill the task's process and its supervisors with SIGKILL, as the loss of a machine does."""
        *supervisors, process = self.processes()
        victims = [*supervisors, *family(process.pid)]
        kill(victims)
        return victims

    def _processes(self) -> list[psutil.Process]:
        """Return the processes from the scheduler's child to the task's own; [] if one is missing."""
        facts = self.describe()
        pid, scheduler = facts["pid"], self.airflow.scheduler.process
        if facts["state"] != "running" or not pid or not psutil.pid_exists(pid):
            return []
        process = psutil.Process(pid)
        ancestors = process.parents()
        if scheduler not in ancestors:
            return []
        return [*reversed(ancestors[: ancestors.index(scheduler)]), process]

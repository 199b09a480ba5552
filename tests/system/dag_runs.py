"""DAG runs and task instances of a real Airflow: to look at, to act on as a user would, and to kill."""

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
"""The property of a test that names a DAG run of its own, whose tasks' logs its report then shows whole."""


@dataclass(frozen=True)
class DagRun:
    """A DAG run, to look at and to act on."""

    airflow: AirflowUnderTest
    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        """Its place in the REST API."""
        return f"/dags/{self.dag_id}/dagRuns/{self.run_id}"

    @property
    def state(self) -> str:
        """Its state now."""
        return self.airflow.rest.get(self.path)["state"]

    def task(self, task_id: str, *, map_index: int = -1) -> TaskInstance:
        """Return one of its task instances.

        :param map_index: -1 if the task is not mapped.
        """
        return TaskInstance(self, task_id, map_index)

    def task_states(self) -> dict[tuple[str, int], str | None]:
        """Return the states of all its task instances, by task id and map index."""
        task_instances = self.airflow.rest.get(f"{self.path}/taskInstances", limit=100)["task_instances"]
        return {(each["task_id"], each["map_index"]): each["state"] for each in task_instances}

    def wait_for(self, *states: str, timeout: float = PATIENCE_SECONDS) -> str:
        """Wait until it is in one of some states, and return which."""
        what = f"{self.dag_id} {self.run_id} to be {' or '.join(states)}"
        seen = ["none"]

        def arrived() -> str | None:
            seen[0] = self.state
            return seen[0] if seen[0] in states else None

        return self.airflow.wait_until(arrived, what=what, timeout=timeout)

    def set_state(self, state: str) -> None:
        """Set it, as a user would: ``failed``, ``success`` or ``queued``."""
        self.airflow.rest.patch(self.path, {"state": state})

    def clear(self, *task_ids: str | tuple[str, int]) -> None:
        """Clear tasks of it, or all of them if none is named.

        After a task's end wait for the DAG run's end, too: a scheduler that is about to end the DAG run does
        not see that one of its tasks is cleared, and the task is never run.

        :param task_ids: A mapped task instance is named by its task id and its map index.
        """
        body = self.airflow.body_of_clear(self.run_id, list(task_ids) or None)
        self.airflow.rest.post(f"/dags/{self.dag_id}/clearTaskInstances", body)


@dataclass(frozen=True)
class TaskInstance:
    """A task instance, to look at, to act on and to kill."""

    dag_run: DagRun
    task_id: str
    map_index: int = -1

    @property
    def path(self) -> str:
        """Its place in the REST API."""
        mapped = f"/{self.map_index}" if self.map_index >= 0 else ""
        return f"{self.dag_run.path}/taskInstances/{self.task_id}{mapped}"

    @property
    def airflow(self) -> AirflowUnderTest:
        """The Airflow that runs it."""
        return self.dag_run.airflow

    def describe(self) -> dict[str, Any]:
        """Return all that the REST API has about it: ``state``, ``try_number``, ``pid``, ``trigger`` ..."""
        return self.airflow.rest.get(self.path)

    @property
    def state(self) -> str | None:
        """Its state now; None before it is scheduled."""
        return self.describe()["state"]

    @property
    def try_number(self) -> int:
        """The number of its current or last try, from 1."""
        return self.describe()["try_number"]

    def wait_for(
        self,
        *states: str | None,
        try_number: int | None = None,
        timeout: float = PATIENCE_SECONDS,
    ) -> dict[str, Any]:
        """Wait until it is in one of some states.

        :param try_number: Also wait for this try; None means any.
        :returns: As :meth:`describe`.
        """
        wanted = " or ".join(str(state) for state in states)
        what = f"{self.path} to be {wanted}" + (f" in try {try_number}" if try_number else "")
        last = {}

        def arrived() -> dict[str, Any] | None:
            last.update(self.describe())
            right_try = try_number in {None, last["try_number"]}
            return last if right_try and last["state"] in states else None

        try:
            return self.airflow.wait_until(arrived, what=what, timeout=timeout)
        except AssertionError as error:
            error.add_note(f"It is {last['state']}, try {last['try_number']}.")
            raise

    def wait_until_gone(self, processes: list[psutil.Process], timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until some processes of it have ended."""
        self.airflow.wait_until(
            lambda: all(is_gone(process) for process in processes),
            what=f"the processes {[process.pid for process in processes]} of {self.path} to end",
            timeout=timeout,
        )

    def set_state(self, state: str) -> None:
        """Mark it, as a user would: ``failed``, ``success`` or ``skipped``."""
        self.airflow.rest.patch(self.path, self.airflow.body_of_state(state))

    def clear(self) -> None:
        """Clear it, as a user would."""
        self.dag_run.clear(self.task_id if self.map_index < 0 else (self.task_id, self.map_index))

    def xcom(self, key: str = "return_value") -> Any:
        """Return one of its XComs; None if there is none."""
        path = f"{self.dag_run.path}/taskInstances/{self.task_id}/xcomEntries/{key}"
        try:
            return self.airflow.rest.get(path, map_index=self.map_index, stringify=False)["value"]
        except RestError as error:
            if error.status == 404:
                return None
            raise

    def processes(self) -> list[psutil.Process]:
        """Return the processes of its running try: those that supervise it, outermost first, then its own.

        :raises NotInTimeError: If they do not show up soon.
        """
        return self.airflow.wait_until(self._processes, what=f"the process of {self.path}", timeout=20)

    def kill_process(self) -> psutil.Process:
        """Kill the task's own process with SIGKILL, as the OOM killer does; its supervisor lives on."""
        victim = self.processes()[-1]
        kill([victim])
        return victim

    def terminate_process(self) -> None:
        """Send the task's own process SIGTERM, as its supervisor does on a worker that shuts down."""
        self.processes()[-1].terminate()

    def kill_worker(self) -> list[psutil.Process]:
        """Kill the task's process and all that supervise it with SIGKILL, as the loss of the machine does."""
        *supervisors, process = self.processes()
        victims = [*supervisors, *family(process.pid)]
        kill(victims)
        return victims

    def _processes(self) -> list[psutil.Process]:
        """Return the chain from below the scheduler down to the task's own process; nothing if incomplete."""
        facts = self.describe()
        pid, scheduler = facts["pid"], self.airflow.scheduler.process
        if facts["state"] != "running" or not pid or not psutil.pid_exists(pid):
            return []
        process = psutil.Process(pid)
        ancestors = process.parents()
        if scheduler not in ancestors:
            return []
        return [*reversed(ancestors[: ancestors.index(scheduler)]), process]

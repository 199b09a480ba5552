"""A real Airflow of separate processes, driven through its REST API as by a user."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import requests

from tests.constants import ROOT
from tests.system import component_name
from tests.system.dag_runs import PATIENCE_SECONDS, DagRun, TaskInstance
from tests.system.processes import Program
from tests.system.rest import RestClient, RestError
from tests.system.versions import CELERY_WORKERS, Site, airflow_of_this_python, celery_settings
from tests.waiting import wait_until

T = TypeVar("T")

_START_SECONDS = 180
_LONGEST_PAUSE_SECONDS = 0.5
"""Between two looks at Airflow: each takes CPU time that what is tested beside it needs."""


class AirflowUnderTest:
    """An Airflow that runs while the context lasts.

    :param site: Its folders, database and addresses.
    :param environment: Environment variables besides Airflow's configuration, such as connections.
    :param worker_environment: Environment variables of the workers alone; of the LocalExecutor's, and then
        of the scheduler that they descend from.
    """

    def __init__(
        self,
        site: Site,
        *,
        environment: Mapping[str, str] | None = None,
        worker_environment: Mapping[str, str] | None = None,
    ) -> None:
        self.site = site
        self.programs: dict[str, Program] = {}
        self._airflow = airflow_of_this_python()
        self._environment = self._inherited() | self._configuration() | dict(environment or {})
        self._worker_environment = dict(worker_environment or {})
        self.rest = RestClient(site.url + self._airflow.api, log_in=self._log_in)

    def __enter__(self) -> Self:
        self._airflow.prepare(self.site)
        self._migrate()
        try:
            for name, arguments in self._airflow.commands(self.site).items():
                self._start(name, arguments)
            self.wait_until(self._is_healthy, what="all of Airflow to be up", timeout=_START_SECONDS)
        except BaseException:
            self._kill_all()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._kill_all()

    @property
    def scheduler(self) -> Program:
        """The scheduler; with the LocalExecutor, all workers are its descendants."""
        return self.programs["scheduler"]

    @property
    def triggerer(self) -> Program:
        """The first triggerer."""
        return self.programs["triggerer"]

    def start_triggerer(self, name: str) -> Program:
        """Start another triggerer.

        :param name: Its name; no other program has it.
        """
        self._start(name, self._airflow.commands(self.site)["triggerer"])
        return self.programs[name]

    def triggerer_of(self, task: TaskInstance) -> Program | None:
        """Return the triggerer that runs a deferred task's trigger; None if none does yet."""
        name = self._airflow.triggerer_name(task.describe(), self.rest)
        return self.programs[name] if name is not None else None

    def worker_of(self, task: TaskInstance) -> Program | None:
        """Return the Celery worker that runs a task; None if none does."""
        facts = task.describe()
        return self.programs[facts["hostname"]] if facts["state"] == "running" and facts["hostname"] else None

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> DagRun:
        """Start a DAG run as soon as its DAG is parsed.

        :param conf: Values that override the DAG's params.
        """
        self.wait_until(lambda: self._is_parsed(dag_id), what=f"the DAG {dag_id} to be parsed")
        run_id = f"test-{uuid.uuid4().hex[:12]}"
        self.rest.post(f"/dags/{dag_id}/dagRuns", self._airflow.dag_run_body(run_id, conf or {}))
        return DagRun(self, dag_id, run_id)

    def add_connection(self, conn_id: str, **fields: Any) -> None:
        """Store a connection in Airflow's database.

        :param fields: The REST API's fields: ``conn_type``, ``host``, ``login``, ``password`` ...
        """
        self.rest.post("/connections", {"connection_id": conn_id, **fields})

    def change_connection(self, conn_id: str, **fields: Any) -> None:
        """Change fields of a connection in Airflow's database."""
        connection = {"connection_id": conn_id, "conn_type": "stably", **fields}
        mask = "&".join(f"update_mask={name}" for name in fields)
        self.rest.patch(f"/connections/{conn_id}?{mask}", connection)

    def wait_until(self, condition: Callable[[], T], *, what: str, timeout: float = PATIENCE_SECONDS) -> T:
        """Wait until a condition holds, but fail at once if one of Airflow's programs ends by itself.

        Parameters and errors are those of :func:`tests.waiting.wait_until`.
        """

        def condition_unless_ended() -> T:
            ended = [name for name, program in self.programs.items() if program.ended_by_itself()]
            if ended:
                raise RuntimeError(f"Ended by itself while waiting for {what}: {', '.join(ended)}")
            return condition()

        return wait_until(
            condition_unless_ended, what=what, timeout=timeout, longest_pause=_LONGEST_PAUSE_SECONDS
        )

    def task_logs(self) -> Iterator[Path]:
        """Yield the log of each try of each task."""
        yield from self.site.home.glob("logs/dag_id=*/**/*.log*")

    def body_of_clear(self, run_id: str, task_ids: list[str | tuple[str, int]] | None) -> dict[str, Any]:
        """Return the request body that clears tasks of a DAG run; None means all of its tasks."""
        return self._airflow.clear_body(run_id, task_ids)

    def body_of_state(self, state: str) -> dict[str, Any]:
        """Return the request body that sets a task instance's state."""
        return self._airflow.state_body(state)

    def _log_in(self, session: requests.Session) -> None:
        self._airflow.log_in(session, self.site)

    def _inherited(self) -> dict[str, str]:
        ours = ("AIRFLOW", "PYTEST", "COV", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
        return {name: value for name, value in os.environ.items() if not name.startswith(ours)}

    def _configuration(self) -> dict[str, str]:
        settings = self._airflow.settings(self.site)
        if self.site.broker is not None:
            settings |= celery_settings(self.site.broker)
        return {f"AIRFLOW__{key.replace('.', '__').upper()}": value for key, value in settings.items()} | {
            "AIRFLOW_HOME": str(self.site.home),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "NO_PROXY": "*",
        }

    def _program(self, name: str, arguments: list[str]) -> Program:
        own = self._worker_environment if name in {"scheduler", *CELERY_WORKERS} else {}
        return Program(
            name,
            [sys.executable, "-m", "airflow", *arguments],
            environment=self._environment | own | {component_name.VARIABLE: name},
            log=self.site.home / f"{name}.log",
        )

    def _start(self, name: str, arguments: list[str]) -> None:
        self.programs[name] = self._program(name, arguments)
        self.programs[name].start()

    def _migrate(self) -> None:
        program = self._program("db-migrate", ["db", "migrate"])
        finished = subprocess.run(
            program.command,
            env=program.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=_START_SECONDS,
        )
        if finished.returncode != 0:
            raise RuntimeError(f"airflow db migrate failed:\n{(finished.stdout + finished.stderr)[-5000:]}")

    def _is_healthy(self) -> bool:
        try:
            health = self.rest.get(self._airflow.health)
            self._airflow.warm_up(self.site)
        except (requests.RequestException, RestError):
            return False
        return all(part["status"] == "healthy" for part in health.values())

    def _is_parsed(self, dag_id: str) -> bool:
        if broken := self.rest.get("/importErrors")["import_errors"]:
            raise RuntimeError(f"A DAG file does not import:\n{broken[0]['stack_trace']}")
        try:
            self.rest.get(f"/dags/{dag_id}/details")
        except RestError as error:
            if error.status == 404:
                return False
            raise
        return True

    def _kill_all(self) -> None:
        for program in self.programs.values():
            program.kill()

"""What differs between Airflow's versions, as seen by its administrator and by a client of its REST API.

Everything else in this folder is the same for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import requests
from packaging.specifiers import SpecifierSet

from tests.system.rest import RestClient

_ADMIN = "admin"
_SIMPLE_AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"

TASK_HEARTBEAT_TIMEOUT_SECONDS = 10
"""A task whose worker has been silent for so long is given up by the scheduler."""

TRIGGERER_TIMEOUT_SECONDS = 6
"""A triggerer that has been silent for so long loses its triggers to another one."""

CELERY_WORKERS = ("worker-1", "worker-2")

DETECTION_SECONDS = TASK_HEARTBEAT_TIMEOUT_SECONDS + 10
"""A lost task is given up within this time, on a busy machine too."""


@dataclass(frozen=True)
class Site:
    """Where one Airflow lives.

    :param home: Its ``AIRFLOW_HOME``.
    :param database: User, host, port and name of its PostgreSQL database, as in a URL.
    :param port: Port of its REST API.
    :param key: A Fernet key; also what its components sign requests to each other with.
    :param broker: Address of the Redis server that hands tasks to Celery workers; None: there are none, and
        the LocalExecutor runs tasks below the scheduler.
    """

    home: Path
    dags: Path
    database: str
    port: int
    key: str
    broker: str | None = None

    @property
    def url(self) -> str:
        """The address of its REST API."""
        return f"http://127.0.0.1:{self.port}"


class Airflow3:
    """Airflow from 3.0 on."""

    api = "/api/v2"
    health = "/monitor/health"

    def commands(self, site: Site) -> dict[str, list[str]]:
        """Return what to run, name to arguments of ``airflow``."""
        return {
            "api-server": ["api-server", "--host=127.0.0.1", f"--port={site.port}"],
            "scheduler": ["scheduler", "--skip-serve-logs"],
            "dag-processor": ["dag-processor"],
            "triggerer": ["triggerer", "--skip-serve-logs"],
        } | ({name: _celery_worker(site, name) for name in CELERY_WORKERS} if site.broker else {})

    def settings(self, site: Site) -> dict[str, str]:
        """Return the configuration, ``section.key`` to value."""
        return _common_settings(site) | {
            "core.auth_manager": _SIMPLE_AUTH_MANAGER,
            "core.simple_auth_manager_users": f"{_ADMIN}:admin",
            "core.simple_auth_manager_passwords_file": str(site.home / "passwords.json"),
            "core.execution_api_server_url": f"{site.url}/execution/",
            "core.parallelism": "16",
            "api.base_url": site.url,
            "api.secret_key": site.key,
            "api.workers": "1",
            "api_auth.jwt_secret": site.key * 2,  # shorter ones make it warn
            "dag_processor.refresh_interval": "3600",
            "dag_processor.min_file_process_interval": "15",
            "logging.namespace_levels": "http.access=WARNING uvicorn.access=WARNING",
            "scheduler.task_instance_heartbeat_timeout": str(TASK_HEARTBEAT_TIMEOUT_SECONDS),
            "scheduler.task_instance_heartbeat_timeout_detection_interval": "1",
            "workers.min_heartbeat_interval": "1",
            "workers.max_failed_heartbeats": "10",
        }

    def prepare(self, site: Site) -> None:
        """Write the files that this Airflow wants to find in its home."""
        (site.home / "passwords.json").write_text(json.dumps({_ADMIN: site.key}))

    def log_in(self, session: requests.Session, site: Site) -> None:
        """Give a session what it needs to be an administrator's."""
        credentials = {"username": _ADMIN, "password": site.key}
        answer = session.post(f"{site.url}/auth/token", json=credentials, timeout=30)
        answer.raise_for_status()
        session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def warm_up(self, site: Site) -> None:
        """Let the API do what takes it seconds at the first request of a task, with all else standing still.

        :raises requests.RequestException: If it is not there yet.
        """
        requests.get(f"{site.url}/execution/health", timeout=60).raise_for_status()

    def dag_run_body(self, run_id: str, conf: Mapping[str, Any]) -> dict[str, Any]:
        """Return what to post to start a DAG run."""
        return {"dag_run_id": run_id, "conf": dict(conf), "logical_date": None}

    def state_body(self, state: str) -> dict[str, Any]:
        """Return how to patch a task instance's state."""
        return {"new_state": state}

    def clear_body(self, run_id: str, task_ids: list[str | tuple[str, int]] | None) -> dict[str, Any]:
        """Return what to post to clear tasks of a DAG run, all of them or those named.

        :param task_ids: A mapped task instance is named by its task id and its map index.
        """
        named = {} if task_ids is None else {"task_ids": task_ids}
        return {"dry_run": False, "only_failed": False, "reset_dag_runs": True, "dag_run_id": run_id, **named}

    def triggerer_name(self, task_instance: Mapping[str, Any], rest: RestClient) -> str | None:
        """Return which triggerer has a task instance's trigger; None if none has.

        Not ``triggerer_job``: on Airflow 3 that is the job of the scheduler that queued the task.
        """
        job_id = (task_instance["trigger"] or {}).get("triggerer_id")
        jobs = rest.get("/jobs", job_type="TriggererJob")["jobs"]
        return next((job["hostname"] for job in jobs if job["id"] == job_id), None)


class Airflow2(Airflow3):
    """Airflow 2.11."""

    api = "/api/v1"
    health = "/health"

    def commands(self, site: Site) -> dict[str, list[str]]:
        return super().commands(site) | {
            "api-server": ["webserver", "--hostname=127.0.0.1", f"--port={site.port}", "--workers=2"],
        }

    def settings(self, site: Site) -> dict[str, str]:
        return _common_settings(site) | {
            "core.parallelism": "32",  # killed workers stay missing; 0 ends the scheduler's connections
            "api.auth_backends": "airflow.providers.fab.auth_manager.api.auth.backend.basic_auth",
            "api.enable_xcom_deserialize_support": "True",
            "scheduler.standalone_dag_processor": "True",
            "scheduler.min_file_process_interval": "15",
            "scheduler.dag_dir_list_interval": "3600",
            "scheduler.local_task_job_heartbeat_sec": "1",
            "scheduler.scheduler_zombie_task_threshold": str(TASK_HEARTBEAT_TIMEOUT_SECONDS),
            "scheduler.zombie_detection_interval": "1",
            "webserver.base_url": site.url,
            "webserver.secret_key": site.key,
        }

    def prepare(self, site: Site) -> None:
        (site.home / "webserver_config.py").write_text(
            'AUTH_ROLE_PUBLIC = "Admin"\nWTF_CSRF_ENABLED = False\n'
        )

    def log_in(self, session: requests.Session, site: Site) -> None:
        """Do nothing: everybody is an administrator."""

    def warm_up(self, site: Site) -> None:
        """Do nothing: tasks talk to the database."""

    def dag_run_body(self, run_id: str, conf: Mapping[str, Any]) -> dict[str, Any]:
        return {"dag_run_id": run_id, "conf": dict(conf)}

    def state_body(self, state: str) -> dict[str, Any]:
        return {"new_state": state, "dry_run": False}

    def clear_body(self, run_id: str, task_ids: list[str | tuple[str, int]] | None) -> dict[str, Any]:
        """Return what to post to clear tasks; a mapped task only as a whole."""
        if task_ids is not None:
            task_ids = [name if isinstance(name, str) else name[0] for name in task_ids]
        return super().clear_body(run_id, task_ids)

    def triggerer_name(
        self,
        task_instance: Mapping[str, Any],
        rest: RestClient,  # noqa: ARG002 - only Airflow 3 has to ask
    ) -> str | None:
        """Return which triggerer has a task instance's trigger; None if none has."""
        return (task_instance["triggerer_job"] or {}).get("hostname")


def is_airflow(versions: str) -> bool:
    """Tell whether the Airflow that the tests' Python has is one of some.

    :param versions: As pip writes them, such as ``>=3,<3.3``; empty: any.
    """
    return SpecifierSet(versions).contains(version("apache-airflow"), prereleases=True)


def airflow_of_this_python() -> Airflow3:
    """Return the ways of the Airflow that the tests' Python has."""
    return Airflow2() if is_airflow("<3") else Airflow3()


def _common_settings(site: Site) -> dict[str, str]:
    return {
        "core.dags_folder": str(site.dags),
        "core.executor": "LocalExecutor",
        "core.load_examples": "False",
        "core.dags_are_paused_at_creation": "False",
        "core.fernet_key": site.key,
        "core.hostname_callable": "tests.system.component_name.component_name",
        "database.sql_alchemy_conn": f"postgresql+psycopg2://{site.database}",
        "logging.base_log_folder": str(site.home / "logs"),
        "logging.colored_console_log": "False",
        "scheduler.job_heartbeat_sec": "1",
        "scheduler.scheduler_heartbeat_sec": "1",
        "scheduler.scheduler_idle_sleep_time": "0.3",
        "scheduler.trigger_timeout_check_interval": "1",
        "triggerer.job_heartbeat_sec": "1",
        "triggerer.triggerer_health_check_threshold": str(TRIGGERER_TIMEOUT_SECONDS),
        "usage_data_collection.enabled": "False",
    }


def celery_settings(broker: str) -> dict[str, str]:
    """Return what configures Celery, whatever Airflow's version.

    :param broker: As in :class:`Site`.
    """
    return {
        "core.executor": "CeleryExecutor",
        "celery.broker_url": f"{broker}/0",
        "celery.result_backend": f"{broker}/1",
        "celery.worker_concurrency": "8",
        # Dozens of tasks that start one after the other keep two cores busy, and heartbeats waiting.
        "scheduler.task_instance_heartbeat_timeout": "20",
    }


def _celery_worker(site: Site, name: str) -> list[str]:
    pid_file = site.home / f"{name}.pid"
    return [
        "celery",
        "worker",
        f"--celery-hostname={name}",
        f"--pid={pid_file}",
        "--skip-serve-logs",
    ]

"""The differences between Airflow's versions, for its administrator and for a client of its REST API.

The rest of this folder is the same for all versions.
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
"""The scheduler fails a task whose worker has sent no heartbeat for so long."""

TRIGGERER_TIMEOUT_SECONDS = 6
"""A triggerer that has sent no heartbeat for so long loses its triggers to another one."""

CELERY_WORKERS = ("worker-1", "worker-2")

DETECTION_SECONDS = TASK_HEARTBEAT_TIMEOUT_SECONDS + 10
"""The scheduler fails a lost task within this time, even on a busy machine."""


@dataclass(frozen=True)
class Site:
    """The folders, database and addresses of one Airflow.

    :param home: The ``AIRFLOW_HOME``.
    :param dags: The folder with the DAGs.
    :param database: User, host, port and name of the PostgreSQL database, as in a URL.
    :param port: The port of the REST API.
    :param key: A Fernet key; its components also sign requests to each other with it.
    :param broker: The URL of the Redis server that is the Celery broker; None means the LocalExecutor.
    """

    home: Path
    dags: Path
    database: str
    port: int
    key: str
    broker: str | None = None

    @property
    def url(self) -> str:
        """The URL of the REST API's server."""
        return f"http://127.0.0.1:{self.port}"


class Airflow3:
    """Airflow 3."""

    api = "/api/v2"
    health = "/monitor/health"

    def commands(self, site: Site) -> dict[str, list[str]]:
        """Return the programs to run: name to arguments of the ``airflow`` command."""
        return {
            "api-server": ["api-server", "--host=127.0.0.1", f"--port={site.port}"],
            "scheduler": ["scheduler", "--skip-serve-logs"],
            "dag-processor": ["dag-processor"],
            "triggerer": ["triggerer", "--skip-serve-logs"],
        } | ({name: _celery_worker(site, name) for name in CELERY_WORKERS} if site.broker else {})

    def settings(self, site: Site) -> dict[str, str]:
        """Return the configuration: ``section.key`` to value."""
        return _common_settings(site) | {
            "core.auth_manager": _SIMPLE_AUTH_MANAGER,
            "core.simple_auth_manager_users": f"{_ADMIN}:admin",
            "core.simple_auth_manager_passwords_file": str(site.home / "passwords.json"),
            "core.execution_api_server_url": f"{site.url}/execution/",
            "core.parallelism": "16",
            "api.base_url": site.url,
            "api.secret_key": site.key,
            "api.workers": "1",
            "api_auth.jwt_secret": site.key * 2,  # a shorter secret makes Airflow warn
            "dag_processor.refresh_interval": "3600",
            # A callback that comes while another one of its file is made waits for the file's next turn.
            "dag_processor.min_file_process_interval": "15",
            # Airflow 3.0 finds no DAGs in a file while it makes callbacks of its tasks, and drops them.
            "dag_processor.stale_dag_threshold": "3600",
            "logging.logging_config_class": "tests.system.slow_log_upload.LOGGING_CONFIG",
            "logging.namespace_levels": "http.access=WARNING uvicorn.access=WARNING",
            "scheduler.task_instance_heartbeat_timeout": str(TASK_HEARTBEAT_TIMEOUT_SECONDS),
            "scheduler.task_instance_heartbeat_timeout_detection_interval": "1",
            "workers.min_heartbeat_interval": "1",
            "workers.max_failed_heartbeats": "10",
        }

    def prepare(self, site: Site) -> None:
        """Write the files that Airflow reads from its home."""
        (site.home / "passwords.json").write_text(json.dumps({_ADMIN: site.key}))

    def log_in(self, session: requests.Session, site: Site) -> None:
        """Add an administrator's credentials to a session."""
        credentials = {"username": _ADMIN, "password": site.key}
        answer = session.post(f"{site.url}/auth/token", json=credentials, timeout=30)
        answer.raise_for_status()
        session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def warm_up(self, site: Site) -> None:
        """Send the execution API its first request, which blocks it for seconds, before a task does.

        :raises requests.RequestException: If it is not up yet.
        """
        requests.get(f"{site.url}/execution/health", timeout=60).raise_for_status()

    def dag_run_body(self, run_id: str, conf: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request body that starts a DAG run."""
        return {"dag_run_id": run_id, "conf": dict(conf), "logical_date": None}

    def state_body(self, state: str) -> dict[str, Any]:
        """Return the request body that sets a task instance's state."""
        return {"new_state": state}

    def clear_body(self, run_id: str, task_ids: list[str | tuple[str, int]] | None) -> dict[str, Any]:
        """Return the request body that clears tasks of a DAG run.

        :param task_ids: Task ids; for a mapped task instance, its task id and map index. None: all tasks.
        """
        tasks = {} if task_ids is None else {"task_ids": task_ids}
        return {"dry_run": False, "only_failed": False, "reset_dag_runs": True, "dag_run_id": run_id, **tasks}

    def triggerer_name(self, task_instance: Mapping[str, Any], rest: RestClient) -> str | None:
        """Return the name of the triggerer that runs a task instance's trigger; None if none does.

        Not from ``triggerer_job``: on Airflow 3 that is the job of the scheduler that queued the task.
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
            "core.parallelism": "32",  # killed workers are not replaced; 0 ends the scheduler's connections
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
        """Do nothing: tasks use the database, not an API."""

    def dag_run_body(self, run_id: str, conf: Mapping[str, Any]) -> dict[str, Any]:
        return {"dag_run_id": run_id, "conf": dict(conf)}

    def state_body(self, state: str) -> dict[str, Any]:
        return {"new_state": state, "dry_run": False}

    def clear_body(self, run_id: str, task_ids: list[str | tuple[str, int]] | None) -> dict[str, Any]:
        """Return the request body that clears tasks; a mapped task can only be cleared as a whole."""
        if task_ids is not None:
            task_ids = [name if isinstance(name, str) else name[0] for name in task_ids]
        return super().clear_body(run_id, task_ids)

    def triggerer_name(
        self,
        task_instance: Mapping[str, Any],
        rest: RestClient,  # noqa: ARG002 - only Airflow 3 needs it
    ) -> str | None:
        """Return the name of the triggerer that runs a task instance's trigger; None if none does."""
        return (task_instance["triggerer_job"] or {}).get("hostname")


def is_airflow(versions: str) -> bool:
    """Whether the installed Airflow is one of some versions.

    :param versions: A pip specifier, such as ``>=3,<3.3``; empty means all versions.
    """
    return SpecifierSet(versions).contains(version("apache-airflow"), prereleases=True)


def airflow_of_this_python() -> Airflow3:
    """Return the differences of the installed Airflow."""
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
        "scheduler.scheduler_idle_sleep_time": "0.5",
        "scheduler.trigger_timeout_check_interval": "1",
        "triggerer.job_heartbeat_sec": "1",
        "triggerer.triggerer_health_check_threshold": str(TRIGGERER_TIMEOUT_SECONDS),
        "usage_data_collection.enabled": "False",
    }


def celery_settings(broker: str) -> dict[str, str]:
    """Return the configuration for Celery, the same for all versions.

    :param broker: As in :class:`Site`.
    """
    return {
        "core.executor": "CeleryExecutor",
        "celery.broker_url": f"{broker}/0",
        "celery.result_backend": f"{broker}/1",
        "celery.worker_concurrency": "8",
        # Starting dozens of tasks keeps two CPU cores busy, and delays heartbeats.
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

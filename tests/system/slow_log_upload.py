"""A logging configuration that uploads the logs of some tasks slowly, as to a remote storage.

A worker's process ends only after the upload, seconds after its task has deferred. Airflow 3 and later; the
task's DAG is one whose id begins with ``PREFIX``.
"""

from __future__ import annotations

import time
from typing import Any

from airflow.config_templates import airflow_local_settings

PREFIX = "matrix_slow_exit"
UPLOAD_SECONDS = 2.5

LOGGING_CONFIG = airflow_local_settings.DEFAULT_LOGGING_CONFIG
"""The setting ``[logging] logging_config_class`` names this; Airflow then reads ``REMOTE_TASK_LOG`` here."""


class _SlowUpload:
    """Airflow's ``RemoteLogIO``: an upload that only takes time."""

    processors = ()

    def upload(self, path: object, ti: Any = None) -> None:  # noqa: ARG002 - Airflow's interface
        """Wait, if the log is that of a task's worker; a triggerer uploads logs as well."""
        if f"dag_id={PREFIX}" in str(path) and ".trigger." not in str(path):
            time.sleep(UPLOAD_SECONDS)

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str] | None]:  # noqa: ARG002 - Airflow's interface
        """Return nothing: the logs are in their folder."""
        return [], None


REMOTE_TASK_LOG = _SlowUpload()

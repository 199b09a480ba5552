"""How tasks of a DAG run tell one another which Stably runs they started: the XCom ``stably_run``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_stably.api.protocol import check_id, run_url

STABLY_RUN_KEY = "stably_run"
"""Our own key: other providers push ``run_id`` too."""


@dataclass(frozen=True, slots=True)
class RunReference:
    """A Stably run and the project that it belongs to."""

    run_id: str
    project_id: str

    @property
    def run_url(self) -> str:
        """The run's page in Stably's dashboard."""
        return run_url(self.project_id, self.run_id)

    def to_xcom(self, *, try_number: int, stably_conn_id: str) -> dict[str, str | int]:
        """Write the XCom ``stably_run``.

        :param try_number: The task's try that started the run: callbacks of other tries leave it alone.
        :param stably_conn_id: The connection it was started with.
        """
        return {
            "run_id": self.run_id,
            "project_id": self.project_id,
            "run_url": self.run_url,
            "try_number": try_number,
            "stably_conn_id": stably_conn_id,
        }

    @classmethod
    def from_xcom(cls, value: object) -> RunReference:
        """Read the XCom ``stably_run``.

        :raises ValueError: if it is not an object with a run id and a project id.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"expected an object, got {type(value).__name__}")
        return cls(
            run_id=check_id("run", value.get("run_id")),
            project_id=check_id("project", value.get("project_id")),
        )


def started_by(ti: Any, task_id: str) -> list[RunReference]:
    """Return the runs that a task of the same DAG run started, one per map index; none is an empty list.

    :param ti: The running task's task instance.
    :param task_id: The task that started them, with its task groups' prefix.
    :raises ValueError: if an XCom of that key is not ours.
    """
    pulled = ti.xcom_pull(task_ids=task_id, key=STABLY_RUN_KEY)
    if pulled is None:
        return []
    # One value for a plain task; for a mapped one a list, or on 2.11 a lazy sequence.
    values = [pulled] if isinstance(pulled, Mapping | str) else list(pulled)
    return [RunReference.from_xcom(value) for value in values if value is not None]

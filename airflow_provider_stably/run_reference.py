"""How tasks of a DAG run tell one another which Stably runs they started: the XCom ``stably_run``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_stably.api.protocol import check_id, run_url

STABLY_RUN_KEY = "stably_run"
"""Our own key: other providers push ``run_id`` too."""


@dataclass(frozen=True, slots=True)
class RunReference:
    """A Stably run, the project that it belongs to, and how to reach it.

    :param stably_conn_id: The connection it was started with; None if not told.
    """

    run_id: str
    project_id: str
    stably_conn_id: str | None = None

    @property
    def run_url(self) -> str:
        """The run's page in Stably's dashboard."""
        return run_url(self.project_id, self.run_id)

    def to_xcom(self, *, try_number: int, cancel_on_kill: bool) -> dict[str, str | int | bool | None]:
        """Write the XCom ``stably_run``.

        :param try_number: The task's try that started the run: callbacks of other tries leave it alone.
        :param cancel_on_kill: Whether callbacks are to cancel it.
        """
        return {
            "run_id": self.run_id,
            "project_id": self.project_id,
            "run_url": self.run_url,
            "try_number": try_number,
            "stably_conn_id": self.stably_conn_id,
            "cancel_on_kill": cancel_on_kill,
        }

    @classmethod
    def from_xcom(cls, value: object) -> RunReference:
        """Read the XCom ``stably_run``.

        :raises ValueError: if it is not an object with a run id and a project id.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"expected an object, got {type(value).__name__}")
        stably_conn_id = value.get("stably_conn_id")
        return cls(
            run_id=check_id("run", value.get("run_id")),
            project_id=check_id("project", value.get("project_id")),
            stably_conn_id=stably_conn_id if isinstance(stably_conn_id, str) else None,
        )

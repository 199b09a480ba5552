"""A Stably run as tasks name it: id, project and connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from airflow_provider_stably.api.calls import check_id, run_url

_LATEST = 253_402_300_799
"""The end of the year 9999: a later start, or none that is a number, would end whoever counts from it."""


@dataclass(frozen=True, slots=True)
class RunReference:
    """A Stably run, its project, and the connection that reaches it.

    :param stably_conn_id: The connection it was started with; None if not known.
    :param started_at: When it was started, in seconds since the epoch; None if not known.
    """

    run_id: str
    project_id: str
    stably_conn_id: str | None = None
    started_at: float | None = field(default=None, compare=False)

    @property
    def run_url(self) -> str:
        """The run's page in Stably's dashboard."""
        return run_url(self.project_id, self.run_id)

    @classmethod
    def from_json(cls, value: object) -> RunReference:
        """Read a reference out of an XCom or a start record.

        :raises ValueError: if it is not an object with a run id and a project id.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"expected an object, got {type(value).__name__}")
        stably_conn_id = value.get("stably_conn_id")
        return cls(
            run_id=check_id("run", value.get("run_id")),
            project_id=check_id("project", value.get("project_id")),
            stably_conn_id=stably_conn_id if isinstance(stably_conn_id, str) else None,
            started_at=_seconds(value.get("started_at")),
        )


def _seconds(value: object) -> float | None:
    if isinstance(value, int | float) and 0 < value <= _LATEST:  # not so if it is nan
        return float(value)
    return None


def by_connection(runs: Iterable[RunReference], default_conn_id: str) -> dict[str, list[RunReference]]:
    """Group runs, each once, by the connection that they were started with.

    :param default_conn_id: For runs whose connection is not known.
    """
    groups: dict[str, list[RunReference]] = {}
    for run in dict.fromkeys(runs):
        groups.setdefault(run.stably_conn_id or default_conn_id, []).append(run)
    return groups

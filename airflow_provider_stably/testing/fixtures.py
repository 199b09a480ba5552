"""pytest fixtures for tests of your own DAGs.

Opt in with one line in a test module or the top conftest::

    pytest_plugins = ["airflow_provider_stably.testing.fixtures"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from airflow_provider_stably.exceptions import StablyConfigError
from airflow_provider_stably.hooks import connection
from airflow_provider_stably.testing.emulator import Request
from airflow_provider_stably.testing.server import StablyEmulator


class StablyDagRun(NamedTuple):
    """A DAG run that is over, and what it asked Stably for.

    :param dag_run: Airflow's DAG run.
    :param journal: The requests, in order.
    """

    dag_run: Any
    journal: list[Request]


@pytest.fixture
def stably_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[StablyEmulator]:
    """Give a fresh emulator whose runs take a tenth of a second; any connection has to lead to 127.0.0.1."""
    read = connection.read_connection

    def read_connection(airflow_connection: Any, **options: Any) -> connection.ConnectionSettings:
        settings = read(airflow_connection, **options)
        base_url = settings.endpoint.base_url
        if urlsplit(base_url).hostname != "127.0.0.1":  # a test must not start paid runs
            problem = f"{base_url} is not an emulator; a test that uses stably_emulator reaches nothing else"
            raise StablyConfigError(problem, conn_id=airflow_connection.conn_id, field="host")
        return settings

    monkeypatch.setattr(connection, "read_connection", read_connection)
    with StablyEmulator(run_seconds=0.1) as emulator:
        yield emulator


@pytest.fixture
def stably_connection(stably_emulator: StablyEmulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the connection ``stably_default`` to the emulator, with a default project, and give its id."""
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", stably_emulator.connection(login="project-1"))
    return "stably_default"


@pytest.fixture
def run_stably_dag(
    stably_emulator: StablyEmulator,
    stably_connection: str,  # noqa: ARG001 - for its effect
) -> Callable[..., StablyDagRun]:
    """Give a function that runs a DAG to its end with ``dag.test()`` against the emulator.

    The function takes the DAG and, as ``conf``, its parameters. It needs a migrated metadata database and,
    from Airflow 3.1 on, the DAG's file in the DAGs folder.
    """

    def run(dag: Any, conf: Mapping[str, Any] | None = None) -> StablyDagRun:
        seen = len(stably_emulator.journal)
        try:
            dag_run = dag.test(run_conf=dict(conf or {}))
        except Exception as error:  # raised again as it is, with advice, whichever database driver's it is
            if advice := hint(error):
                error.add_note(advice)
            raise
        return StablyDagRun(dag_run, stably_emulator.journal[seen:])

    return run


def hint(error: Exception) -> str:
    """Return what to do about an Airflow that is not set up; empty for any other error."""
    text = str(error)
    if "no such table" in text or "does not exist" in text or "doesn't exist" in text:
        return (
            "Airflow's metadata database has to be migrated: run 'airflow db migrate' with this AIRFLOW_HOME"
        )
    if "not serialized" in text:
        return (
            "The DAG's file has to be in the DAGs folder: set AIRFLOW__CORE__DAGS_FOLDER before the tests run"
        )
    return ""

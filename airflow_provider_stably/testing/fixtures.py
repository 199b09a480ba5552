"""pytest fixtures for tests of your own DAGs.

Opt in with one line in a test module or the top conftest::

pytest_plugins = ["airflow_provider_stably.testing.fixtures"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

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
def stably_emulator() -> Iterator[StablyEmulator]:
    """Give a fresh emulator whose runs take a tenth of a second."""
    with StablyEmulator(run_seconds=0.1) as emulator:
        yield emulator


@pytest.fixture
def stably_connection(stably_emulator: StablyEmulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the connection ``stably_default`` to the emulator, with a default project, and give its id."""
    connection = stably_emulator.connection(login="project-1")
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", connection)
    return "stably_default"


@pytest.fixture
def run_stably_dag(
    stably_emulator: StablyEmulator,
    stably_connection: str,  # noqa: ARG001 - for its effect
) -> Callable[..., StablyDagRun]:
    """Give a function that runs a DAG to its end with ``dag.test()`` against the emulator.

    The function takes the DAG and, as ``conf``, its parameters, and needs a migrated metadata database.
    """

    def run(dag: Any, conf: Mapping[str, Any] | None = None) -> StablyDagRun:
        seen = len(stably_emulator.journal)
        dag_run = dag.test(run_conf=dict(conf or {}))
        return StablyDagRun(dag_run, stably_emulator.journal[seen:])

    return run

"""Fixtures of the system tests: an emulator, an Airflow, one with Celery; and logs in failure reports."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trustme

from airflow_provider_stably.testing import StablyEmulator
from tests.constants import KEY, PROJECT, ROOT
from tests.system.airflow_under_test import AirflowUnderTest
from tests.system.dag_runs import DAG_RUN_ID
from tests.system.mechanisms import MECHANISMS, SHORT_WINDOWS
from tests.system.postgres import PostgresServer
from tests.system.processes import adopt_orphans, family, free_port, kill_descendants
from tests.system.redis import RedisServer
from tests.system.versions import Site

T = TypeVar("T")

_HERE = Path(__file__).parent
# Only the matrix says what a mechanism that is switched off must change.
collect_ignore = [
    path.name for path in _HERE.glob("test_*.py") if "MUTATE" in os.environ and path.stem != "test_matrix"
]

RUN_SECONDS = 5.0
"""How long a run of the emulator takes, unless its script says otherwise."""

_MUTATIONS = _HERE / "mutations"
_LINES_IN_REPORT = 40
_airflow: AirflowUnderTest | None = None
_log_sizes = pytest.StashKey[dict[Path, int]]()


def pytest_configure(config):
    """Refuse a ``MUTATE`` that names no mechanism."""
    mechanism = os.environ.get("MUTATE")
    if mechanism is not None and mechanism not in MECHANISMS:
        raise pytest.UsageError(f"MUTATE={mechanism}: name one of {', '.join(MECHANISMS)}")


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """The folder for Airflow's home and all logs; kept if STABLY_SYSTEM_HOME names it."""
    if kept := os.environ.get("STABLY_SYSTEM_HOME"):
        folder = Path(kept).resolve()
        folder.mkdir(parents=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="stably-system-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def _no_process_left() -> Iterator[None]:
    """Kill every process that the tests started and that is still alive at their end."""
    adopt_orphans()
    others = family(os.getpid())
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that fixtures are torn down
    yield
    signal.signal(signal.SIGTERM, before)
    kill_descendants(besides=others)


@pytest.fixture(scope="session")
def emulator() -> Iterator[StablyEmulator]:
    """The emulator of the session."""
    with StablyEmulator(api_key=KEY, run_seconds=RUN_SECONDS) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def dags() -> Path:
    """The folder with Airflow's DAGs."""
    return _HERE / "dags"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that only the workers trust."""
    return trustme.CA()


@pytest.fixture(scope="session")
def tls_emulator(authority) -> Iterator[StablyEmulator]:
    """An emulator with a certificate of that authority."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with StablyEmulator(api_key=KEY, run_seconds=RUN_SECONDS, tls=tls) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def environment(emulator, tls_emulator) -> dict[str, str]:
    """Environment variables of Airflow's processes besides its configuration, such as connections."""
    return {
        "AIRFLOW_CONN_STABLY_DEFAULT": emulator.connection(login=PROJECT),
        "AIRFLOW_CONN_STABLY_UNTRUSTED": tls_emulator.connection(login=PROJECT),
        **_changes(),
    }


@pytest.fixture(scope="session")
def worker_environment(home, emulator, authority) -> dict[str, str]:
    """Environment variables that only workers have: what a user forgot to give the triggerer."""
    bundle = home / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    return {
        "AIRFLOW_CONN_STABLY_UNKNOWN": emulator.connection(login=PROJECT),
        "REQUESTS_CA_BUNDLE": str(bundle),
    }


@pytest.fixture(scope="session")
def airflow(home, dags, environment, worker_environment, _no_process_left) -> Iterator[AirflowUnderTest]:
    """A running Airflow with the LocalExecutor."""
    with _running(home / "local", dags, environment, worker_environment=worker_environment) as airflow:
        yield airflow


@pytest.fixture(scope="module")
def celery_airflow(home, dags, environment, _no_process_left) -> Iterator[AirflowUnderTest]:
    """An Airflow with two Celery workers and two triggerers; large, so it runs for one module only."""
    folder = home / "celery"
    folder.mkdir()
    with (
        _installed(RedisServer, folder) as redis,
        _running(folder, dags, environment, broker=redis.url) as airflow,
    ):
        airflow.start_triggerer("triggerer-2")
        yield airflow


@contextmanager
def _running(
    folder: Path,
    dags: Path,
    environment: Mapping[str, str],
    *,
    worker_environment: Mapping[str, str] | None = None,
    broker: str | None = None,
) -> Iterator[AirflowUnderTest]:
    """Run an Airflow with a database of its own.

    :param folder: The folder for its home and all logs.
    :param worker_environment: As in :class:`AirflowUnderTest`.
    :param broker: As in :class:`tests.system.versions.Site`.
    """
    global _airflow  # noqa: PLW0603 - pytest_runtest_makereport cannot use fixtures
    folder.mkdir(exist_ok=True)
    with _installed(PostgresServer, folder) as postgres:
        site = Site(
            home=folder,
            dags=dags,
            database=postgres.address,
            port=free_port(),
            key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            broker=broker,
        )
        _airflow = AirflowUnderTest(site, environment=environment, worker_environment=worker_environment)
        with _airflow:
            yield _airflow
        _airflow = None


def _installed(server: Callable[[Path], T], logs: Path) -> T:
    """Make a server, or end the test session if its program is not installed."""
    try:
        return server(logs)
    except FileNotFoundError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.TESTS_FAILED)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Remember the size of each log, to report only what the test adds."""
    item.stash[_log_sizes] = {path: path.stat().st_size for path in _logs()}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show what a failed test added to the logs of Airflow and of its tasks."""
    report = yield
    if report.failed:
        sizes = item.stash.get(_log_sizes, {})
        own = [value for name, value in item.user_properties if name == DAG_RUN_ID]
        for path in _logs():
            is_own = any(dag_run_id in str(path) for dag_run_id in own)  # may have started earlier
            if added := _tail(path, since=0 if is_own else sizes.get(path, 0)):
                report.sections.append((f"end of {path.relative_to(_airflow.site.home)}", added))
    return report


def _changes() -> dict[str, str]:
    """Return the environment that changes the package in a test Airflow, see ``sitecustomize.py``."""
    mutation = {name: value for name, value in os.environ.items() if name == "MUTATE"}
    return mutation | {
        "STABLY_TEST_CONSTANTS": json.dumps(SHORT_WINDOWS),
        "PYTHONPATH": f"{_MUTATIONS}{os.pathsep}{ROOT}",
    }


def _logs() -> list[Path]:
    if _airflow is None:
        return []
    programs = [program.log for program in _airflow.programs.values() if program.log.exists()]
    return [*programs, *sorted(_airflow.task_logs())]


def _tail(path: Path, *, since: int) -> str:
    with path.open("rb") as log:
        log.seek(since)
        lines = log.read().decode(errors="replace").splitlines()
    lines = [line for line in lines if '"GET /' not in line]  # the harness's own requests
    return "\n".join(lines[-_LINES_IN_REPORT:])

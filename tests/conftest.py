"""What every test stands on: an Airflow of its own, an emulator, and a connection between them."""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
from coverage import Coverage
from filelock import FileLock
from xdist import is_xdist_controller

import airflow_provider_stably
from tests import cheap_dag_test
from tests.constants import KEY, PROJECT, ROOT
from tests.unmeasured import without_coverage

# Airflow is big: at its usual pace, the garbage collection takes a tenth of the time.
gc.set_threshold(50_000)

# Airflow reads these when it is first imported, so they are set before any test module is.
_HOME = tempfile.TemporaryDirectory(prefix="stably-airflow-")
_DAGS = Path(_HOME.name, "dags")
_DAGS.mkdir()
for _folder in ("example_dags", "tests/dags"):
    (_DAGS / _folder.replace("/", "_")).symlink_to(ROOT / _folder)
os.environ.update(
    AIRFLOW_HOME=_HOME.name,
    AIRFLOW__CORE__DAGS_FOLDER=str(_DAGS),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    # Else a process that imports Airflow and one that runs its command line would have different ones.
    AIRFLOW__CORE__FERNET_KEY="c3RhYmx5LXRlc3RzLW1hZGUtdXAta2V5LTMyLWJ5dGU=",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
)
for _name in (
    "NETRC",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
):
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)


def pytest_sessionstart(session):
    """Import what is big while no coverage is measured, which would double the time."""
    if is_xdist_controller(session):  # it runs no test
        while coverage := Coverage.current():
            coverage.stop()
        return
    with without_coverage():
        import airflow.models.dagrun

        with suppress(ImportError):  # Airflow 2.11
            import airflow.sdk.execution_time.task_runner  # noqa: F401


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Measure how the package is imported, but not how tests are collected: that takes twice as long."""
    if is_xdist_controller(session):
        return (yield)
    for module in pkgutil.walk_packages(airflow_provider_stably.__path__, "airflow_provider_stably."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    with without_coverage():
        return (yield)


def pytest_collection_finish():
    """Keep all that is loaded now out of garbage collection."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Measure no coverage where a test runs DAGs: to trace all of Airflow takes as long as the test.

    Nor where a test is marked ``unmeasured``.
    """
    is_unmeasured = "airflow_db" in item.fixturenames or item.get_closest_marker("unmeasured")
    with without_coverage() if is_unmeasured else nullcontext():
        return (yield)


@pytest.fixture
def emulator(monkeypatch):
    """A fresh emulator, and the connection ``stably_default`` to it."""
    from airflow_provider_stably.testing import StablyEmulator

    with StablyEmulator(api_key=KEY) as emulator:
        monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT))
        yield emulator


@pytest.fixture
def hide_connection(monkeypatch):
    """Hide the connection for the next look-ups, as a secrets backend that fails for a moment does."""
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    from airflow_provider_stably.hooks.stably import StablyHook

    def hide(*, times, error=None):
        genuine, left = StablyHook.get_connection, [error or AirflowNotFoundException("not defined")] * times

        def get_connection(conn_id):
            if left:
                raise left.pop()
            return genuine(conn_id)

        monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))

    return hide


@pytest.fixture
def clock():
    """The clock of the emulator in memory; it shows noon."""
    from tests.in_memory import Clock

    return Clock()


@pytest.fixture
def in_memory(clock):
    """An emulator without sockets."""
    from airflow_provider_stably.testing import Emulator
    from tests.in_memory import RUN_SECONDS

    return Emulator(api_key=KEY, run_seconds=RUN_SECONDS, clock=clock)


@pytest.fixture
def hook(emulator):
    """A hook on the connection to the emulator."""
    from airflow_provider_stably.hooks.stably import StablyHook

    return StablyHook(timeout=5)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Let replays and second attempts follow at once; the waits themselves are tested as values."""
    from airflow_provider_stably.api import retries
    from airflow_provider_stably.execution import callback_budget, clients
    from airflow_provider_stably.runs import belief, cancel, watch
    from airflow_provider_stably.triggers import stably as trigger

    monkeypatch.setattr(retries, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(watch, "SHORTEST_DELAY_SECONDS", 0.05)
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(cancel, "SECONDS_BETWEEN_ATTEMPTS", 0.001)
    monkeypatch.setattr(belief, "MISSING_SECONDS", 0.2)
    monkeypatch.setattr(belief, "REFUSED_SECONDS", 0.4)
    monkeypatch.setattr(belief, "NEVER_ACCEPTED_SECONDS", 0.2)
    monkeypatch.setattr(belief, "REMINDER_SECONDS", 0.05)
    monkeypatch.setattr(trigger, "FIRST_EVENT_SECONDS", 0.0)
    monkeypatch.setattr(trigger, "HAND_BACK_SECONDS", 0.3)
    monkeypatch.setattr(callback_budget, "LOOK_UP_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(clients, "LOOK_UP_SECONDS", 0.05)
    callback_budget._budgets.clear()


@pytest.fixture(autouse=True)
def _secrets_of_other_tests_are_forgotten():
    """Let a test hide only what it has sent itself."""
    from airflow_provider_stably.api import redaction

    redaction._sent.clear()
    redaction._keys.clear()


@pytest.fixture(autouse=True)
def _callbacks_hear_of_exceptions(monkeypatch):
    """Let ``dag.test()`` tell callbacks what went wrong, as task processes do. Delete with Airflow 3.1."""
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:
        return  # Airflow 2.11 does
    finalize = task_runner.finalize

    def finalize_with_exception(ti, state, context, log, error=None):
        context["exception"] = error
        finalize(ti, state, context, log, error)

    monkeypatch.setattr(task_runner, "finalize", finalize_with_exception)


@pytest.fixture(scope="session")
def airflow_db(tmp_path_factory, worker_id):
    """The metadata database of this test session's Airflow, migrated; and ``dag.test()`` made cheap."""
    folder = tmp_path_factory.getbasetemp()
    made = (folder if worker_id == "master" else folder.parent) / "airflow.db"
    with FileLock(f"{made}.lock"):  # all workers copy what the first one makes
        if not made.exists():
            # In a process of its own: on 2.11 it sends this one's log elsewhere.
            environ = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{made}"}
            airflow = Path(sys.executable).with_name("airflow")
            subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True, env=environ)
    shutil.copy(made, Path(_HOME.name, "airflow.db"))
    cheap_dag_test.install()


@pytest.fixture
def context():
    """A task's context whose task instance keeps XComs in ``context["xcom"]``."""
    from airflow.providers.common.compat.sdk import DAG

    from airflow_provider_stably.operators.stably import StablyRunTestsOperator

    try:
        from airflow.sdk.types import RuntimeTaskInstanceProtocol as TaskInstance
    except ImportError:  # Airflow 2.11
        from airflow.models import TaskInstance

    with DAG("dag", schedule=None) as dag:
        StablyRunTestsOperator(task_id="start")
        StablyRunTestsOperator.partial(task_id="start_many").expand(
            stably_conn_id=["stably_default", "another"]
        )
    xcom = {}

    def pull(task_ids, key, **_):
        if isinstance(task_ids, str):
            return xcom.get((task_ids, key), xcom.get(key))
        pushed = pull(task_ids[0], key)
        return pushed if task_ids == ["start_many"] and isinstance(pushed, list) else [pushed]

    ti = create_autospec(TaskInstance, instance=True)
    ti.task_id, ti.map_index, ti.try_number, ti.max_tries = "run", -1, 1, 0
    ti.xcom_push.side_effect = lambda key, value: xcom.update({key: value})
    ti.xcom_pull.side_effect = pull
    dag_run = SimpleNamespace(clear_number=0)
    return {"ti": ti, "task": dag.get_task("start"), "dag": dag, "dag_run": dag_run, "xcom": xcom}

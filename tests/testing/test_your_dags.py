"""The fixtures for users' own DAG tests, in a project as the docs show it and in this one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import airflow
import pytest
from airflow.providers.common.compat.sdk import DAG
from packaging.version import Version

from airflow_provider_stably.exceptions import StablyConfigError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.operators.stably import StablyRunTestsOperator
from airflow_provider_stably.testing import StablyEmulator
from airflow_provider_stably.testing.fixtures import hint
from tests.constants import ROOT
from tests.dag_files import load_dag_file

pytest_plugins = ["airflow_provider_stably.testing.fixtures"]


def _pytest(folder, *arguments, **variables):
    """Run the tests of a folder as their owner would, who does not have the plugins of our tests."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, folder],
        env={**environ, **variables, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path):
    """A project of somebody else's: its conftest, its tests, and a DAG in its folder."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "tests/testing/your_dags", folder)
    (folder / "pytest.ini").touch()  # else ours counts where the temporary folder lies in the checkout
    (folder / "dags").mkdir()
    shutil.copy(ROOT / "example_dags/example_stably_gate_deployment.py", folder / "dags/deployment.py")
    return folder


def test_the_documented_project_passes(project, airflow_db):
    """The conftest and the tests that the docs show work as they stand."""
    # There is less to migrate in ours, which takes seconds.
    database = shutil.copy(Path(os.environ["AIRFLOW_HOME"], "airflow.db"), project)
    url = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}"}
    result = _pytest(project, "-p", "tests.cheap_dag_test", **url)

    assert result.returncode == 0, result.stdout
    assert "3 passed" in result.stdout


@pytest.fixture
def deployment_dag(airflow_db):
    """The DAG under test: an example of ours in place of yours."""
    return load_dag_file("example_dags", "example_stably_gate_deployment").dag


def test_the_journal_is_of_one_dag_run_only(run_stably_dag, stably_emulator, deployment_dag):
    """A second DAG run's journal does not repeat the first's."""
    first = run_stably_dag(deployment_dag, {"suite": "passes"}).journal
    second = run_stably_dag(deployment_dag, {"suite": "passes"}).journal

    assert [request.call for request in first].count("start") == 1
    assert [request.call for request in second].count("start") == 1
    assert len(stably_emulator.journal) == len(first) + len(second)


async def test_no_connection_leads_to_the_live_service(stably_emulator, monkeypatch):
    """A DAG that names another connection cannot start paid runs in a test."""
    monkeypatch.setenv("AIRFLOW_CONN_PRODUCTION", '{"conn_type": "stably", "password": "key"}')

    with pytest.raises(
        StablyConfigError, match=r"'production', field 'host': https://api\.stably\.ai is not"
    ):
        StablyHook("production").get_conn()
    with pytest.raises(StablyConfigError, match="'production'"):
        await StablyHook("production").get_async_client()


def test_another_emulator_may_be_used(stably_emulator, monkeypatch):
    """A DAG of two connections is tested with two emulators."""
    with StablyEmulator() as another:
        monkeypatch.setenv("AIRFLOW_CONN_ANOTHER", another.connection(login="p"))

        assert StablyHook("another").start_run() in another.runs


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("(sqlite3.OperationalError) no such table: task_instance", "airflow db migrate"),
        ('(psycopg2.errors.UndefinedTable) relation "dag" does not exist', "airflow db migrate"),
        ("Cannot create DagRun for DAG x because the dag is not serialized", "AIRFLOW__CORE__DAGS_FOLDER"),
        ("something else", ""),
    ],
)
def test_an_airflow_that_is_not_set_up_gets_a_hint(message, advice):
    """Airflow's own error does not say what to do."""
    assert advice in hint(RuntimeError(message))
    assert bool(hint(RuntimeError(message))) is bool(advice)


@pytest.mark.skipif(
    Version(airflow.__version__) < Version("3.1"), reason="Airflow 2.11 and 3.0 take a DAG from anywhere"
)
def test_a_dag_outside_the_folder_gets_the_hint(airflow_db, run_stably_dag):
    """The hint stands below Airflow's own error."""
    with DAG("not_in_the_folder", schedule=None) as dag:
        StablyRunTestsOperator(task_id="run_tests")

    with pytest.raises(Exception, match="not serialized") as caught:
        run_stably_dag(dag)

    [note] = caught.value.__notes__
    assert "The DAG's file has to be in the DAGs folder" in note

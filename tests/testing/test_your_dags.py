"""The fixtures for users' own DAG tests, used as the docs show them."""

import pytest

from tests.dag_files import load_dag_file

# [START test_your_dags]
pytest_plugins = ["airflow_provider_stably.testing.fixtures"]


def test_a_red_suite_stops_the_deployment(run_stably_dag, deployment_dag):
    """Nothing is deployed if the Stably run fails."""
    dag_run, journal = run_stably_dag(deployment_dag, {"suite": "fails"})

    assert dag_run.state == "failed"
    assert journal[0].call == "start"
    assert journal[0].json()["environment"] == "staging"


def test_a_run_that_takes_too_long_is_cancelled(run_stably_dag, stably_emulator, deployment_dag):
    """No run is left behind when the task gives up."""
    deployment_dag.get_task("run_tests").timeout = 0.2

    run_stably_dag(deployment_dag, {"suite": "hangs"})

    assert stably_emulator.live_runs() == []


# [END test_your_dags]


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

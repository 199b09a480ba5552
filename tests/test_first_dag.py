"""The DAG that README begins with: it starts a run, waits, cancels on failure, and cancels by XCom."""

import pytest

from airflow_provider_stably.testing import check_dag
from tests.dag_files import load_dag_file

pytest_plugins = ["airflow_provider_stably.testing.fixtures"]


@pytest.mark.parametrize(
    ("conf", "state", "cancelled"),
    [
        ({}, "success", 0),
        ({"suite": "fails"}, "failed", 0),
        ({"suite": "hangs", "healthy": False}, "failed", 1),
    ],
    ids=["all goes well", "the suite fails", "the work fails"],
)
def test_the_first_dag(airflow_db, run_stably_dag, stably_emulator, conf, state, cancelled):
    """Whatever fails, the DAG run is red, no run is left, and XCom has the ids that were cancelled."""
    dag = load_dag_file("tests/dags", "first").dag

    dag_run, _ = run_stably_dag(dag, conf)

    assert dag_run.state == state
    assert stably_emulator.live_runs() == []
    assert len(dag_run.get_task_instance("stop").xcom_pull(task_ids="stop")) == cancelled
    check_dag(dag)

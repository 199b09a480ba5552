"""The sensor in reschedule mode, on a real Airflow."""

import airflow
import pytest

from tests.constants import PROJECT
from tests.dag_files import load_dag_file
from tests.shown import shown


@pytest.mark.skipif(
    airflow.__version__.startswith("3.0."),
    reason="dag.test() of Airflow 3.0 cannot poke twice: it gets the first poke's time as text",
)
@pytest.mark.parametrize(
    ("name", "state"), [("lost_later", "success"), ("lost_at_first", "failed")], ids=["later", "at_first"]
)
def test_a_connection_lost_between_pokes_may_come_back(emulator, airflow_db, capfd, name, state):
    """Only at its first poke a missing connection, mistyped maybe, fails a rescheduled sensor."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["RUNNING", "RUNNING", "PASSED"])
    dag = getattr(load_dag_file("tests/dags", "pokes"), name)

    dag_run = dag.test(run_conf={"run_id": run_id})

    assert dag_run.state == state
    assert "Airflow connection 'stably_default' is not defined" in shown(capfd.readouterr())

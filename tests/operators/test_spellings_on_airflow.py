"""What people write for a run, on a real Airflow: outputs, templates, mapped tasks, native rendering."""

import pytest

from tests.dag_files import load_dag_file
from tests.shown import shown


@pytest.fixture
def dags(airflow_db):
    """The module of DAGs that name runs in many ways."""
    return load_dag_file("tests/dags", "spellings")


@pytest.mark.parametrize("rendering", ["as_text", "native"])
def test_runs_are_found_however_they_are_named(emulator, dags, rendering, capfd):
    """Each spelling names its runs, in their own project and not in the connection's."""
    emulator.run_seconds = 0  # the sensors see runs that passed, the cancel operators runs that are over

    dag_run = getattr(dags, rendering).test()

    one = dag_run.get_task_instance("start").xcom_pull(task_ids="start", key="run_id")
    two = set(emulator.runs) - {one}
    expected = {"one": {one}, "many": two, "all": {one, *two}, "each": two}
    for ti in dag_run.get_task_instances():
        kind = ti.task_id.partition("_")[0]
        if kind == "wait":
            assert str(ti.state) == "success", ti.task_id
        elif kind in expected:
            outcomes = ti.xcom_pull(task_ids=ti.task_id, key="outcomes", map_indexes=ti.map_index)
            assert str(ti.state) == "success", ti.task_id
            assert set(outcomes) <= expected[kind], ti.task_id
            assert len(outcomes) == (1 if kind == "each" else len(expected[kind])), ti.task_id
    assert {run.project_id for run in emulator.runs.values()} == {"another-project"}
    assert "XCom not found" not in shown(capfd.readouterr())

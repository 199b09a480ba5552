"""The cancel operator on a real Airflow: rendering, XCom and task states."""

import pytest

from tests.constants import KEY, PROJECT
from tests.dag_files import load_dag_file
from tests.shown import shown


@pytest.fixture
def dags(airflow_db):
    """The module of DAGs that cancel."""
    return load_dag_file("tests/dags", "cancel")


def _states(dag_run):
    return {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}


def _xcom(dag_run, task_id, key="return_value"):
    return dag_run.get_task_instance(task_id, map_index=-1).xcom_pull(task_ids=task_id, key=key)


def test_runs_of_plain_mapped_and_skipped_tasks(emulator, dags):
    """task_ids finds the runs of plain and mapped tasks, and copes with tasks that started none."""
    projects = ["p0", "p1", "p2", "p3"]
    runs = [{"run_id": emulator.add_run(project_id=p), "project_id": p} for p in projects]

    dag_run = dags.runs_of_tasks.test(run_conf={"runs": runs})

    assert _xcom(dag_run, "cancel") == [runs[0]["run_id"], runs[2]["run_id"], runs[3]["run_id"]]
    assert emulator.live_runs() == [runs[1]["run_id"]]
    states = _states(dag_run)
    assert (states["cancel"], states["cancel_none"], states["cancel_rendered_none"]) == (
        "success",
        "skipped",
        "skipped",
    )
    assert _xcom(dag_run, "cancel_none") == []


def test_a_mapped_tasks_instance_has_one_run(emulator, dags):
    """A list in the XCom of the only one, or of the one that is asked for, could name hundreds of runs."""
    runs = [{"run_id": emulator.add_run(project_id=PROJECT), "project_id": PROJECT} for _ in range(3)]

    dag_run = dags.lists_in_xcoms.test(run_conf={"runs": runs})

    states = {(ti.task_id, ti.map_index): str(ti.state) for ti in dag_run.get_task_instances()}
    assert states["cancel", -1] == states["each.cancel", 0] == states["each.cancel", 1] == "failed"
    assert emulator.requests() == []


def test_runs_named_by_another_task(emulator, dags):
    """run_ids takes another task's output, whole or one mapped task for each."""
    run_ids = [emulator.add_run(project_id=PROJECT) for _ in range(3)]

    dag_run = dags.runs_named.test(run_conf={"run_ids": run_ids})

    assert dag_run.state == "success"
    assert emulator.live_runs() == []
    assert sorted(_xcom(dag_run, "cancel_xcom_arg")) == sorted(run_ids)
    mapped = [dag_run.get_task_instance("cancel_mapped", map_index=index) for index in range(3)]
    assert [str(ti.state) for ti in mapped] == ["success"] * 3


def test_a_final_failure_is_not_retried_and_has_xcoms(emulator, dags):
    """The task fails at its first try although it has retries, and what was cancelled can be read."""
    run_id = emulator.add_run(project_id=PROJECT)

    dag_run = dags.fails.test(run_conf={"run_ids": [run_id, "no/pe"]})

    ti = dag_run.get_task_instance("cancel")
    assert (str(ti.state), ti.try_number) == ("failed", 1)
    assert _xcom(dag_run, "cancel") == [run_id]
    assert _xcom(dag_run, "cancel", "outcomes") == {
        run_id: {"outcome": "cancelled", "status": "CANCELLED"},
        "no/pe": {"outcome": "malformed", "status": None},
    }


def test_the_key_shows_up_nowhere_in_a_task(emulator, dags, capfd, caplog):
    """Neither the log nor the rendered templates of a failing task have the key in them."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    emulator.api_key = "another-key"

    with caplog.at_level("DEBUG"):
        dag_run = dags.fails.test(run_conf={"run_ids": ["run-1"]})

    rendered = RenderedTaskInstanceFields.get_templated_fields(dag_run.get_task_instance("cancel"))
    printed = shown(capfd.readouterr()) + caplog.text
    assert "API key was refused" in printed
    assert KEY not in printed + repr(rendered)

"""What a finished task leaves on a real Airflow: operator and sensor, on the worker and deferred."""

import json
from datetime import timedelta

import pytest
from airflow.models import DagRun
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from tests.constants import PROJECT
from tests.dag_files import load_dag_file

EACH_TASK = pytest.mark.parametrize("kind", ["operator", "sensor"])
BOTH_MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["on the worker", "deferred"])


@pytest.fixture
def dags(airflow_db):
    """The module that makes DAGs; nothing was told to its callbacks yet."""
    module = load_dag_file("tests/dags", "results")
    module.TOLD.clear()
    return module


@pytest.fixture
def run(emulator, dags):
    """Run a DAG of one task whose Stably run goes by a script; return the task."""
    emulator.run_seconds = 0.2

    def run(kind, *, script="passes", **arguments):
        run_id = emulator.add_run(project_id=PROJECT, script=script) if kind == "sensor" else ""
        dag = getattr(dags, kind)
        vars(dag.get_task("task")).update(arguments)
        return _test(dag, {"script": script, "run_id": run_id}).get_task_instance("task")

    return run


def _test(dag, conf):
    """Run ``dag.test()``, out of which Airflow 2.11 lets what interrupts a task at its execution_timeout."""
    try:
        return dag.test(run_conf=conf)
    except AirflowTaskTimeout:
        return DagRun.find(dag_id=dag.dag_id)[-1]


def pulled(ti, key="summary"):
    """Return what a task has pushed."""
    return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)


@EACH_TASK
@BOTH_MODES
@pytest.mark.parametrize(
    ("script", "state", "status", "failed_tests"),
    [
        ("passes", "success", "PASSED", []),
        ("fails", "failed", "FAILED", ["check out a basket"]),
        ("is-cancelled", "failed", "CANCELLED", []),
    ],
)
def test_the_summary_is_there_however_the_run_ended(
    run, dags, emulator, kind, deferrable, script, state, status, failed_tests
):
    """The XCom says which tests failed, and a callback's exception leads to the same."""
    ti = run(kind, script=script, deferrable=deferrable)

    [run_id] = emulator.runs
    summary = pulled(ti)
    assert str(ti.state) == state
    assert (summary["run_id"], summary["status"], summary["total"]) == (run_id, status, 3)
    assert summary["failed_tests"] == failed_tests
    assert summary["message"].startswith(f"Run {run_id} {status}: ")
    assert ([] if state == "success" else [summary]) == dags.TOLD
    returned = pulled(ti, "return_value") or {}
    assert returned.items() <= summary.items()


@EACH_TASK
@BOTH_MODES
def test_a_wait_that_timed_out_leaves_a_summary(run, kind, deferrable):
    """It says that the run was not over, and what became of it."""
    ti = run(kind, script="hangs", deferrable=deferrable, timeout=0.4)

    became_of_it = {"operator": "now cancelled", "sensor": "left alone"}[kind]
    expected = "end not seen" if (kind, deferrable) == ("sensor", False) else became_of_it
    assert str(ti.state) == "failed"
    assert expected in pulled(ti)["message"]


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_an_execution_timeout_leaves_a_summary(run, cancel_on_kill):
    """What interrupts the task anywhere leaves the run's id, its page, and what became of it."""
    timeout = timedelta(seconds=2)
    ti = run(
        "operator", script="hangs", deferrable=False, execution_timeout=timeout, cancel_on_kill=cancel_on_kill
    )

    expected = "cancel result: cancelled" if cancel_on_kill else "end not seen"
    assert expected in pulled(ti)["message"]
    assert pulled(ti)["run_url"] in pulled(ti)["message"]


def test_what_is_not_watched_has_a_summary(run, emulator):
    """A run that is started and left has its id and page there, too."""
    ti = run("operator", wait_for_completion=False)

    [run_id] = emulator.runs
    assert (pulled(ti)["run_id"], pulled(ti)["status"]) == (run_id, None)
    assert json.loads(json.dumps(pulled(ti))) == pulled(ti)


@EACH_TASK
@BOTH_MODES
def test_a_run_without_tests_is_not_green_if_some_are_due(run, kind, deferrable, capfd):
    """With min_tests=1 the task fails, and says what may be wrong."""
    ti = run(kind, script="finds-no-tests", deferrable=deferrable, min_tests=1)

    assert (str(ti.state), pulled(ti)["status"], pulled(ti)["total"]) == ("failed", "PASSED", 0)
    assert "min_tests is 1" in pulled(ti)["message"]
    assert "Playwright project's name" in capfd.readouterr().out


@EACH_TASK
def test_a_run_without_tests_is_warned_of(run, kind, caplog):
    """By default the task is green, and its log has a WARNING."""
    ti = run(kind, script="finds-no-tests", deferrable=False)

    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(ti.state) == "success"
    assert [text for text in warnings if "passed without a test case" in text]

"""What a finished task leaves on a real Airflow: operator and sensor, on the worker and deferred."""

import json
import math
from datetime import timedelta

import fsspec
import pytest
from airflow.models import DagRun
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_stably.execution.publish_junit import publish_junit
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.dag_files import load_dag_file
from tests.runs.read_junit import outcomes, read_junit

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2.11
    from airflow.io.store import attach

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
    expected = "end was not seen" if (kind, deferrable) == ("sensor", False) else became_of_it
    assert str(ti.state) == "failed"
    assert expected in pulled(ti)["message"]


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_an_execution_timeout_leaves_a_summary(run, cancel_on_kill):
    """What interrupts the task anywhere leaves the run's id, its page, and what became of it."""
    timeout = timedelta(seconds=2)
    ti = run(
        "operator", script="hangs", deferrable=False, execution_timeout=timeout, cancel_on_kill=cancel_on_kill
    )

    expected = "cancel result: cancelled" if cancel_on_kill else "end was not seen"
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


@BOTH_MODES
def test_a_run_that_stays_queued_is_given_up(run, emulator, deferrable):
    """At its queue_timeout the run is cancelled, and the summary says that it never began."""
    ti = run("operator", script="stays-queued", deferrable=deferrable, queue_timeout=0.4)

    assert (str(ti.state), emulator.live_runs()) == ("failed", [])
    assert "never left the queue" in pulled(ti)["message"]
    assert "queue_timeout" in pulled(ti)["message"]


@BOTH_MODES
def test_another_branch_is_warned_of(run, emulator, deferrable, caplog):
    """A run that was associated with another branch than asked for logs a WARNING; its verdict stays."""
    answer = {
        "status": "PASSED",
        "branchName": "main",
        "results": {"testCases": [{"title": "a", "status": "PASSED"}]},
    }
    emulator.inject(Fault(body=answer), call="get", times=math.inf)

    ti = run("operator", deferrable=deferrable, branch="feature/basket")

    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert (str(ti.state), pulled(ti)["branch"], pulled(ti)["total"]) == ("success", "main", 1)
    assert [text for text in warnings if text.endswith("was on branch main, not on 'feature/basket'")]


def test_a_rendered_none_is_warned_of_once(run, caplog, tmp_path):
    """What the start has ignored is not warned of again at the end."""
    run("operator", deferrable=False, branch="{{ None }}", environment="", junit_xml=f"{tmp_path}/x.xml")

    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["Ignored branch='None': that is None, rendered by a template"]


@pytest.fixture(params=["local", "file", "memory"])
def storage(request, tmp_path):
    """An address in a storage, and what reads it."""
    if request.param == "memory":
        memory = fsspec.filesystem("memory")
        attach("memory", fs=memory)  # Airflow knows the storages of its providers only
        return "memory://bucket/{{ ti.task_id }}.xml", lambda: memory.cat("/bucket/task.xml")
    prefix = "file://" if request.param == "file" else ""
    return f"{prefix}{tmp_path}/new/{{{{ ti.task_id }}}}.xml", (tmp_path / "new/task.xml").read_bytes


@EACH_TASK
@BOTH_MODES
@pytest.mark.parametrize(("script", "last"), [("passes", "passed"), ("fails", "failure")])
def test_junit_xml_is_written_wherever_it_is_wanted(run, storage, kind, deferrable, script, last):
    """Green or red, to a path or to an object storage, the address rendered."""
    address, read = storage

    ti = run(kind, script=script, deferrable=deferrable, junit_xml=address)

    suite = read_junit(read())
    assert outcomes(suite) == {
        "sign in": "passed",
        "search the catalogue": "skipped",
        "check out a basket": last,
    }
    assert suite.get("name") == (script if kind == "operator" else PROJECT)
    assert str(ti.state) == {"passes": "success", "fails": "failed"}[script]


def test_no_bucket_is_made_for_a_file():
    """In an object storage a mistyped address makes none."""
    memory = fsspec.filesystem("memory")
    attach("memory", fs=memory)

    publish_junit("memory://mistyped/x.xml", bytes, is_killed=lambda: False)

    assert not any("mistyped" in folder for folder in memory.pseudo_dirs)


@BOTH_MODES
@pytest.mark.parametrize("address", ["nowhere://bucket/x.xml", "/proc/x/y.xml"])
def test_a_file_that_cannot_be_written_is_a_warning(run, deferrable, address, caplog):
    """The verdict stays, and the log says what went wrong."""
    ti = run("operator", deferrable=deferrable, junit_xml=address)

    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert (str(ti.state), pulled(ti)["status"]) == ("success", "PASSED")
    assert [text for text in warnings if f"The JUnit XML was not written to {address}: " in text]


def test_a_run_cancelled_at_its_timeout_has_a_red_suite(run, tmp_path):
    """What was not over in time is an error there, with what became of it."""
    run("operator", script="hangs", deferrable=False, timeout=0.3, junit_xml=str(tmp_path / "x.xml"))

    suite = read_junit((tmp_path / "x.xml").read_bytes())
    assert outcomes(suite)["Stably run"] == "error"
    assert "in time; last seen" in suite.find("testcase/error").get("message")

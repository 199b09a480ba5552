"""Every example DAG parses without warnings and runs on a real Airflow: all well, and with a failure."""

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import airflow
import pytest
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.utils.session import create_session
from packaging.version import Version

from airflow_provider_stably.testing import Fault, check_dag
from tests.constants import PROJECT, ROOT
from tests.dag_files import load_dag_file
from tests.runs.read_junit import read_junit

pytest_plugins = ["airflow_provider_stably.testing.fixtures"]

EXAMPLES = sorted(path.stem for path in ROOT.glob("example_dags/*.py"))
IS_AIRFLOW_3_1 = Version(airflow.__version__) >= Version("3.1")
NEEDS_DEADLINES = pytest.mark.skipif(not IS_AIRFLOW_3_1, reason="Airflow 3.1 brought deadlines")
STARTERS = {"StablyRunTestsOperator"}
FREE_TO_RETRY = {"StablyCancelRunOperator", "StablyRunSensor"}
BOTH_MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["on the worker", "deferred"])
PASSES_OR_FAILS = pytest.mark.parametrize(("suite", "state"), [("passes", "success"), ("fails", "failed")])
HEALTHY_OR_NOT = pytest.mark.parametrize("healthy", [True, False], ids=["all goes well", "a task fails"])

each_example = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[NEEDS_DEADLINES] if name.endswith("deadline") else []) for name in EXAMPLES],
)


def _load_example(name, *, deferrable=None):
    """Load an example, with its waiting tasks switched to a mode and made impatient."""
    dag = load_dag_file("example_dags", name).dag
    for task in dag.tasks:
        arguments = task.partial_kwargs if getattr(task, "partial_kwargs", None) else vars(task)
        for argument, value in {"deferrable": deferrable, "poke_interval": 0.05}.items():
            if argument in arguments and value is not None:
                arguments[argument] = value
    return dag


def _run(run_stably_dag, stably_emulator, name, *, healthy, deferrable=None, **conf):
    """Run an example; if a task is to fail, Stably's runs go on until they are cancelled."""
    stably_emulator.run_seconds = 0.1 if healthy else 600
    dag = _load_example(name, deferrable=deferrable)
    for task in dag.tasks:
        task.retries = 0  # dag.test() waits for the delay
    dag_run, journal = run_stably_dag(dag, {"healthy": healthy, **conf})
    assert stably_emulator.live_runs() == []
    assert dag_run.state == ("success" if healthy else "failed")
    return dag_run, journal


def _states(dag_run):
    return {(ti.task_id, ti.map_index): str(ti.state) for ti in dag_run.get_task_instances()}


def _calls(journal):
    return [request.call for request in journal]


def _cancelled(emulator):
    return [run_id for run_id in emulator.runs if emulator.status(run_id) == "CANCELLED"]


@each_example
def test_an_example_parses_without_warnings(name):
    """What people copy brings no warning into their log."""
    with warnings.catch_warnings(action="ignore"):  # those of what Airflow imports only now
        load_dag_file("example_dags", name)

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load_dag_file("example_dags", name)

    assert [str(warning.message) for warning in seen] == []


@pytest.mark.skipif(IS_AIRFLOW_3_1, reason="before Airflow 3.1 only")
def test_an_old_airflow_says_what_the_deadline_needs():
    """Where Airflow has no deadlines, the example says so, and raises no ImportError of Airflow's."""
    with pytest.raises(RuntimeError, match=r"needs Airflow 3\.1 or later"):
        load_dag_file("example_dags", "example_stably_cancel_on_deadline")


@each_example
def test_an_example_is_safe_to_copy(name):
    """It does not catch up, bounds each wait, retries what is free, and is not green without tests."""
    dag = load_dag_file("example_dags", name).dag

    assert dag.catchup is False
    assert dag.max_active_runs <= 10
    assert dag.doc_md.startswith("How do I ")
    for task in dag.tasks:
        arguments = task.partial_kwargs if getattr(task, "partial_kwargs", None) else vars(task)
        kind = getattr(task, "operator_class", type(task)).__name__
        leaves = arguments.get("wait_for_completion") is False
        waits = kind in {*STARTERS, "StablyRunSensor"} and not leaves
        is_bounded = arguments.get("execution_timeout") or arguments.get("timeout", 1e9) <= 2 * 60 * 60
        assert leaves or is_bounded, task.task_id
        if waits:
            assert arguments["min_tests"] >= 1
        if kind in STARTERS:
            assert arguments["retries"] == 0
        if kind in FREE_TO_RETRY:
            assert arguments["retries"] >= 2
    for schema in (dag.params.get_param(param).schema for param in dag.params):
        assert schema["type"] != "array" or schema["minItems"] >= 1  # mapped over nothing, it would be green
    check_dag(dag)


@pytest.mark.parametrize(
    ("conf", "project_id"),
    [({}, PROJECT), ({"project_id": "another-project"}, "another-project")],
    ids=["the connection's project", "another project"],
)
def test_example_stably_cancel_run(emulator, airflow_db, capfd, conf, project_id):
    """The kill switch cancels the runs it is triggered with and hands their ids to the next task."""
    run_ids = [emulator.add_run(project_id=project_id) for _ in range(2)]
    dag = _load_example("example_stably_cancel_run")

    dag_run = dag.test(run_conf={"run_ids": run_ids, **conf})

    assert dag_run.state == "success"
    assert [emulator.status(run_id) for run_id in run_ids] == ["CANCELLED", "CANCELLED"]
    assert dag_run.get_task_instance("cancel").xcom_pull(task_ids="cancel") == run_ids
    assert re.findall(r"^Cancelled Stably run (\S+)$", capfd.readouterr().out, re.MULTILINE) == run_ids


def test_the_kill_switch_reports_despite_a_wrong_id(emulator, airflow_db, capfd):
    """A wrong id leaves the DAG run red, the others are cancelled and reported; a blank line is no id."""
    run_id = emulator.add_run(project_id=PROJECT)
    dag = _load_example("example_stably_cancel_run")
    dag.get_task("cancel").retries = 0

    dag_run = dag.test(run_conf={"run_ids": [run_id, "nope", ""]})

    assert dag_run.state == "failed"
    assert _states(dag_run) == {("cancel", -1): "failed", ("report", -1): "success"}
    printed = capfd.readouterr().out
    assert re.findall(r"^Cancelled Stably run (\S+)$", printed, re.MULTILINE) == [run_id]
    assert "Ignored None" not in printed


@BOTH_MODES
@pytest.mark.parametrize(("suite", "deployed"), [("passes", "success"), ("fails", "upstream_failed")])
def test_example_stably_gate_deployment(
    airflow_db, run_stably_dag, stably_emulator, deferrable, suite, deployed
):
    """Production is deployed only if the run passed, and the run gets the arguments of the task."""
    dag = _load_example("example_stably_gate_deployment", deferrable=deferrable)

    dag_run, journal = run_stably_dag(dag, {"suite": suite})

    assert _states(dag_run)["deploy_to_production", -1] == deployed
    assert _calls(journal).count("start") == 1
    assert "cancel" not in _calls(journal)
    assert stably_emulator.live_runs() == []
    assert journal[0].json() == {
        "playwrightProjectName": suite,
        "environment": "staging",
        "envOverrides": {"BASE_URL": "https://staging.example.com"},
    }


@PASSES_OR_FAILS
def test_example_stably_nightly(airflow_db, run_stably_dag, stably_emulator, suite, state):
    """The night is green if the run passed and red if not, at the cost of one run."""
    dag_run, journal = run_stably_dag(_load_example("example_stably_nightly"), {"suite": suite})

    assert dag_run.state == state
    assert _calls(journal).count("start") == 1
    assert stably_emulator.live_runs() == []


@BOTH_MODES
@PASSES_OR_FAILS
def test_example_stably_run_mapped(
    airflow_db, run_stably_dag, stably_emulator, capfd, deferrable, suite, state
):
    """Each environment gets a run, and the report has them all, if all passed."""
    dag = _load_example("example_stably_run_mapped", deferrable=deferrable)

    dag_run, journal = run_stably_dag(dag, {"environments": ["staging", "preview", "eu"], "suite": suite})

    assert dag_run.state == state
    environments = [request.json()["environment"] for request in journal if request.call == "start"]
    assert sorted(environments) == ["eu", "preview", "staging"]
    assert stably_emulator.live_runs() == []
    reported = re.findall(r"^Run (\S+): 2 of 3 tests passed$", capfd.readouterr().out, re.MULTILINE)
    assert sorted(reported) == (sorted(stably_emulator.runs) if state == "success" else [])


@BOTH_MODES
@HEALTHY_OR_NOT
def test_example_stably_safe_pair(airflow_db, run_stably_dag, stably_emulator, deferrable, healthy):
    """The run is over in the end, the deployment needs it to pass, and a failed DAG run stays red."""
    dag_run, _ = _run(
        run_stably_dag, stably_emulator, "example_stably_safe_pair", healthy=healthy, deferrable=deferrable
    )

    assert _states(dag_run)["deploy", -1] == ("success" if healthy else "upstream_failed")
    assert _states(dag_run)["stop", -1] == "success"
    assert len(_cancelled(stably_emulator)) == (0 if healthy else 1)
    assert dag_run.get_task_instance("stop").xcom_pull(task_ids="stop") == _cancelled(stably_emulator)


def test_the_safe_pair_is_red_if_its_suite_fails(airflow_db, run_stably_dag, stably_emulator):
    """A run that fails by itself leaves the DAG run red: the success of the teardown does not count."""
    dag = _load_example("example_stably_safe_pair")
    dag.get_task("wait").retries = 0

    dag_run, _ = run_stably_dag(dag, {"suite": "fails"})

    assert dag_run.state == "failed"
    assert [stably_emulator.status(run_id) for run_id in stably_emulator.runs] == ["FAILED"]


@HEALTHY_OR_NOT
def test_example_stably_cancel_on_failure(airflow_db, run_stably_dag, stably_emulator, healthy):
    """A task that fails cancels the run that another one started; without a failure nothing is cancelled."""
    _run(run_stably_dag, stably_emulator, "example_stably_cancel_on_failure", healthy=healthy)

    assert len(_cancelled(stably_emulator)) == (0 if healthy else 1)


@HEALTHY_OR_NOT
def test_example_stably_cancel_dag_callback(airflow_db, run_stably_dag, stably_emulator, capfd, healthy):
    """Both runs are waited for; if the deployment fails, both are cancelled, and people are told."""
    _run(run_stably_dag, stably_emulator, "example_stably_cancel_dag_callback", healthy=healthy)

    assert len(_cancelled(stably_emulator)) == (0 if healthy else 2)
    assert bool(re.search(r"DAG run \S+ failed", capfd.readouterr().out)) is not healthy


@BOTH_MODES
@PASSES_OR_FAILS
def test_example_stably_cancel_lost_run(
    airflow_db, run_stably_dag, stably_emulator, deferrable, suite, state
):
    """The teardown leaves a run that is over as it is, and the task decides whether the DAG run is green."""
    dag = _load_example("example_stably_cancel_lost_run", deferrable=deferrable)

    dag_run, _ = run_stably_dag(dag, {"suite": suite})

    assert dag_run.state == state
    assert _states(dag_run)["stop", -1] == "success"
    assert _cancelled(stably_emulator) == []


def test_a_teardown_cancels_what_a_lost_task_left(airflow_db, run_stably_dag, stably_emulator):
    """Without setups the teardown runs whatever became of the task, and the DAG run stays red."""
    dag = _load_example("example_stably_cancel_lost_run")
    run_tests = dag.get_task("run_tests")
    run_tests.cancel_on_kill, run_tests.timeout = False, 0.1  # stands for a process that nobody could warn

    dag_run, _ = run_stably_dag(dag, {"suite": "hangs"})

    assert dag_run.state == "failed"
    assert _states(dag_run) == {("run_tests", -1): "failed", ("stop", -1): "success"}
    assert len(_cancelled(stably_emulator)) == 1


@HEALTHY_OR_NOT
def test_example_stably_two_tenants(airflow_db, run_stably_dag, stably_emulator, monkeypatch, healthy):
    """Each tenant's run is started, watched and cancelled in its project, with its connection."""
    for tenant in ("acme", "globex"):
        monkeypatch.setenv(f"AIRFLOW_CONN_STABLY_{tenant.upper()}", stably_emulator.connection())
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", stably_emulator.connection(password="not-this-key"))

    _, journal = _run(run_stably_dag, stably_emulator, "example_stably_two_tenants", healthy=healthy)

    assert {request.project_id for request in journal} == {"acme-web", "globex-web"}
    assert len(_cancelled(stably_emulator)) == (0 if healthy else 2)


@HEALTHY_OR_NOT
def test_example_stably_wait_for_ci(airflow_db, run_stably_dag, stably_emulator, healthy):
    """A run that something else started is waited for, and cancelled if the deployment fails."""
    stably_emulator.run_seconds = 0.1 if healthy else 600
    run_id = stably_emulator.add_run(project_id="project-1", script="passes")

    _run(run_stably_dag, stably_emulator, "example_stably_wait_for_ci", healthy=healthy, run_id=run_id)

    assert stably_emulator.status(run_id) == ("PASSED" if healthy else "CANCELLED")


@pytest.mark.parametrize("accepted", [True, False], ids=["the key is accepted", "the key is refused"])
def test_example_stably_check_key(airflow_db, run_stably_dag, stably_emulator, accepted):
    """The check is red if the key is refused, and starts nothing."""
    dag = _load_example("example_stably_check_key")
    dag.get_task("check_key").retries = 0
    if not accepted:
        stably_emulator.api_key = "another-key"

    dag_run, journal = run_stably_dag(dag)

    assert dag_run.state == ("success" if accepted else "failed")
    assert _calls(journal) == ["get"]


@HEALTHY_OR_NOT
def test_example_stably_cancel_parallel(airflow_db, run_stably_dag, stably_emulator, capfd, healthy):
    """The task beside the waiting one cancels its run when it fails."""
    dag = _load_example("example_stably_cancel_parallel")
    stably_emulator.run_seconds = 0.1

    dag_run, _ = run_stably_dag(dag, {"healthy": healthy})

    assert dag_run.state == ("success" if healthy else "failed")
    assert stably_emulator.live_runs() == []
    assert bool(re.search(r"Task migrate failed", capfd.readouterr().out)) is not healthy


@NEEDS_DEADLINES
@BOTH_MODES
@PASSES_OR_FAILS
def test_example_stably_cancel_on_deadline(
    airflow_db, run_stably_dag, stably_emulator, deferrable, suite, state
):
    """Within its time the run is left alone; Airflow can store the callback, with its arguments."""
    dag = _load_example("example_stably_cancel_on_deadline", deferrable=deferrable)
    stored = _stored_callback(dag)
    dag.deadline = None  # dag.test() of Airflow 3.3.2 fails with one after the end, apache/airflow#73428

    dag_run, journal = run_stably_dag(dag, {"suite": suite})

    assert dag_run.state == state
    assert "cancel" not in _calls(journal)
    assert stably_emulator.live_runs() == []
    assert stored == {
        "path": "airflow_provider_stably.notifications.stably.StablyCancelRunNotifier",
        "kwargs": {"task_ids": ["run_tests"]},
    }


@BOTH_MODES
@PASSES_OR_FAILS
def test_example_stably_publish_junit(airflow_db, run_stably_dag, tmp_path, deferrable, suite, state):
    """Green or red, the file is there, under the DAG run's id."""
    dag = _load_example("example_stably_publish_junit", deferrable=deferrable)

    dag_run, _ = run_stably_dag(dag, {"suite": suite, "folder": f"file://{tmp_path}"})

    tree = read_junit((tmp_path / dag_run.run_id / "try-1.xml").read_bytes())
    assert str(dag_run.state) == state
    assert (tree.get("tests"), tree.get("failures")) == ("3", "0" if suite == "passes" else "1")


@BOTH_MODES
def test_example_stably_schedule_on_passed_tests(airflow_db, run_stably_dag, capfd, deferrable):
    """A run that passed updates the asset, whose event tells the next DAG what was tested."""
    dag = _load_example("example_stably_schedule_on_passed_tests", deferrable=deferrable)
    deploy_dag = load_dag_file("example_dags", "example_stably_schedule_on_passed_tests").deploy_dag
    if not IS_AIRFLOW_3_1:  # dag.test() does not make assets known, as a DAG processor would
        airflow_command = Path(sys.executable).with_name("airflow")
        subprocess.run([airflow_command, "dags", "reserialize"], check=True, capture_output=True)

    before = len(_asset_events(deploy_dag))
    failed, _ = run_stably_dag(dag, {"suite": "fails"})
    passed, _ = run_stably_dag(dag, {"suite": "passes"})
    deploy_dag.test()

    [event] = _asset_events(deploy_dag)[before:]
    summary = passed.get_task_instance("run_tests").xcom_pull(task_ids="run_tests", key="summary")
    assert (str(failed.state), str(passed.state)) == ("failed", "success")
    assert event.extra.items() <= summary.items()
    assert event.extra.keys() >= {"run_id", "project_id", "run_url", "status", "total", "passed", "failed"}
    assert f"Deploying what run {event.extra['run_id']} tested: 2 tests" in capfd.readouterr().out


@BOTH_MODES
@pytest.mark.parametrize("suite", ["passes", "fails"])
def test_example_stably_report_failed_tests(
    airflow_db, run_stably_dag, monkeypatch, capfd, deferrable, suite
):
    """The report is made either way; a mail names the tests that failed, and the run's page."""
    mails = []
    monkeypatch.setattr(SmtpHook, "get_conn", lambda hook: hook)
    monkeypatch.setattr(SmtpHook, "send_email_smtp", lambda _, **mail: mails.append(mail))
    dag = _load_example("example_stably_report_failed_tests", deferrable=deferrable)

    dag_run, _ = run_stably_dag(dag, {"suite": suite})

    summary = dag_run.get_task_instance("run_tests").xcom_pull(task_ids="run_tests", key="summary")
    assert _states(dag_run)["report", -1] == "success"
    assert dag_run.state == ("success" if suite == "passes" else "failed")
    assert summary["message"] in capfd.readouterr().out
    subjects = [] if suite == "passes" else ["Stably tests: FAILED"]
    assert [mail["subject"] for mail in mails] == subjects
    for mail in mails:
        assert "<li>check out a basket</li>" in mail["html_content"]
        assert summary["run_url"] in mail["html_content"]


def test_a_failure_before_the_start_is_mailed(airflow_db, run_stably_dag, stably_emulator, monkeypatch):
    """A task that started no run has no summary: the mail says so, and the report, too."""
    mails = []
    monkeypatch.setattr(SmtpHook, "get_conn", lambda hook: hook)
    monkeypatch.setattr(SmtpHook, "send_email_smtp", lambda _, **mail: mails.append(mail))
    stably_emulator.inject(Fault(status=400, body={"error": "?"}), call="start")

    dag_run, _ = run_stably_dag(_load_example("example_stably_report_failed_tests"), {"suite": "passes"})

    assert (dag_run.state, _states(dag_run)["report", -1]) == ("failed", "success")
    assert [mail["subject"] for mail in mails] == ["Stably tests: no run was started"]


@BOTH_MODES
def test_example_stably_fan_out(airflow_db, run_stably_dag, capfd, deferrable):
    """Each Playwright project has its run, against the preview; the report has the failed one too."""
    dag = _load_example("example_stably_fan_out", deferrable=deferrable)

    dag_run, journal = run_stably_dag(dag, {"suites": ["passes", "fails"]})

    assert dag_run.state == "failed"
    printed = re.findall(r"^Run \S+ (\w+): . of 3 tests", capfd.readouterr().out, re.MULTILINE)
    started = [request.json() for request in journal if request.call == "start"]
    assert _states(dag_run)["report", -1] == "success"
    assert sorted(printed) == ["FAILED", "PASSED"]
    assert {body["playwrightProjectName"] for body in started} == {"passes", "fails"}
    assert {body["envOverrides"]["BASE_URL"] for body in started} == {"https://pr-42.preview.example.com"}


def _asset_events(dag):
    """Return the events so far of the asset that a DAG's only task reads."""
    try:
        from airflow.models.asset import AssetEvent, AssetModel
    except ImportError:  # Airflow 2.11
        from airflow.models.dataset import DatasetEvent as AssetEvent
        from airflow.models.dataset import DatasetModel as AssetModel
    [uri] = [asset.uri for asset in dag.get_task("deploy").inlets]
    with create_session() as session:
        asset_id = session.query(AssetModel.id).filter_by(uri=uri).scalar()
        name = "asset_id" if hasattr(AssetEvent, "asset_id") else "dataset_id"
        events = session.query(AssetEvent).filter_by(**{name: asset_id}).order_by(AssetEvent.id).all()
        session.expunge_all()
    return events


def _stored_callback(dag):
    """Return what Airflow writes into its database of a DAG's only deadline."""
    (alert,) = dag.deadline if isinstance(dag.deadline, list) else [dag.deadline]
    return json.loads(json.dumps({"path": alert.callback.path, "kwargs": alert.callback.kwargs}))


def test_every_example_has_a_test():
    """Each file in example_dags is run by the test above that has its name."""
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_example_")}

    assert tested == set(EXAMPLES)

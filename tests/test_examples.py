"""Every example DAG runs to its end on a real Airflow; its requests to Stably are checked."""

import json
import re

import airflow
import pytest
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.utils.session import create_session
from packaging.version import Version

from tests.constants import PROJECT, ROOT
from tests.dag_files import load_dag_file
from tests.runs.read_junit import read_junit

pytest_plugins = ["airflow_provider_stably.testing.fixtures"]

NEEDS_DEADLINES = pytest.mark.skipif(
    Version(airflow.__version__) < Version("3.1"), reason="Airflow 3.1 brought deadlines"
)
BOTH_MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["on the worker", "deferred"])


def _load_example(name, *, deferrable=None):
    """Load an example, with its waiting tasks switched to a mode and made impatient."""
    dag = load_dag_file("example_dags", name).dag
    for task in dag.tasks:
        arguments = task.partial_kwargs if getattr(task, "partial_kwargs", None) else vars(task)
        for argument, value in {"deferrable": deferrable, "poke_interval": 0.05}.items():
            if argument in arguments and value is not None:
                arguments[argument] = value
    return dag


def _states(dag_run):
    return {(ti.task_id, ti.map_index): str(ti.state) for ti in dag_run.get_task_instances()}


def _calls(journal):
    return [request.call for request in journal]


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

    dag_run = dag.test(run_conf={"run_ids": [run_id, "nope", ""]})

    assert dag_run.state == "failed"
    assert _states(dag_run) == {("cancel", -1): "failed", ("report", -1): "success"}
    printed = capfd.readouterr().out
    assert re.findall(r"^Cancelled Stably run (\S+)$", printed, re.MULTILINE) == [run_id]
    assert "Ignored None" not in printed


@BOTH_MODES
@pytest.mark.parametrize(("suite", "deployed"), [("passes", "success"), ("fails", "upstream_failed")])
def test_example_stably_gate_deployment(airflow_db, run_stably_dag, deferrable, suite, deployed):
    """Production is deployed only if the run passed, and the run gets the arguments of the task."""
    dag = _load_example("example_stably_gate_deployment", deferrable=deferrable)

    dag_run, journal = run_stably_dag(dag, {"suite": suite})

    assert _states(dag_run)["deploy_to_production", -1] == deployed
    assert _calls(journal).count("start") == 1
    assert "cancel" not in _calls(journal)
    assert journal[0].json() == {
        "playwrightProjectName": suite,
        "environment": "staging",
        "envOverrides": {"BASE_URL": "https://staging.example.com"},
    }


@BOTH_MODES
def test_example_stably_run_mapped(airflow_db, run_stably_dag, stably_emulator, capfd, deferrable):
    """Each environment gets a run, and the report has them all."""
    dag = _load_example("example_stably_run_mapped", deferrable=deferrable)

    dag_run, journal = run_stably_dag(dag, {"environments": ["staging", "preview", "eu"]})

    assert dag_run.state == "success"
    environments = [request.json()["environment"] for request in journal if request.call == "start"]
    assert sorted(environments) == ["eu", "preview", "staging"]
    reported = re.findall(r"^Run (\S+): 2 of 3 tests passed$", capfd.readouterr().out, re.MULTILINE)
    assert sorted(reported) == sorted(stably_emulator.runs)


@BOTH_MODES
def test_example_stably_start_and_wait_later(airflow_db, run_stably_dag, stably_emulator, deferrable):
    """The run goes on while other work is done, the sensor waits for it, the teardown finds it over."""
    dag = _load_example("example_stably_start_and_wait_later", deferrable=deferrable)

    dag_run, journal = run_stably_dag(dag)

    assert dag_run.state == "success"
    assert set(_states(dag_run).values()) == {"success"}
    assert (_calls(journal)[0], _calls(journal)[-1], len(stably_emulator.runs)) == ("start", "get", 1)
    assert dag_run.get_task_instance("stop").xcom_pull(task_ids="stop") == []


@pytest.mark.parametrize("healthy", [True, False], ids=["all goes well", "the migration fails"])
def test_example_stably_cancel_on_failure(airflow_db, run_stably_dag, stably_emulator, healthy):
    """A task that fails cancels the run that another one started; without a failure nothing is cancelled."""
    dag = _load_example("example_stably_cancel_on_failure")

    dag_run, journal = _run_healthy_or_not(run_stably_dag, stably_emulator, dag, healthy=healthy)

    assert dag_run.state == ("success" if healthy else "failed")
    assert _calls(journal).count("cancel") == (0 if healthy else 1)
    assert stably_emulator.live_runs() == []


@pytest.mark.parametrize("healthy", [True, False], ids=["all goes well", "the deployment fails"])
def test_example_stably_cancel_dag_callback(airflow_db, run_stably_dag, stably_emulator, healthy):
    """A DAG run that fails cancels the runs of the tasks it names, although nobody watches them."""
    dag = _load_example("example_stably_cancel_dag_callback")

    dag_run, journal = _run_healthy_or_not(run_stably_dag, stably_emulator, dag, healthy=healthy)

    assert dag_run.state == ("success" if healthy else "failed")
    assert _calls(journal) == ["start", "start"] + ([] if healthy else ["cancel", "cancel"])


@pytest.mark.parametrize("healthy", [True, False], ids=["all goes well", "the seeding fails"])
def test_example_stably_cancel_teardown(airflow_db, run_stably_dag, stably_emulator, healthy):
    """The teardown cancels the run if it still goes on, and a failed DAG run stays red."""
    dag = _load_example("example_stably_cancel_teardown")

    dag_run, _ = _run_healthy_or_not(run_stably_dag, stably_emulator, dag, healthy=healthy)

    assert dag_run.state == ("success" if healthy else "failed")
    assert _states(dag_run)["stop", -1] == "success"
    assert dag_run.get_task_instance("stop").xcom_pull(task_ids="stop") == _cancelled(stably_emulator)
    assert len(_cancelled(stably_emulator)) == (0 if healthy else 1)


@pytest.mark.parametrize("healthy", [True, False], ids=["all goes well", "the seeding fails"])
def test_example_stably_cancel_one_failed(airflow_db, run_stably_dag, stably_emulator, healthy):
    """The task runs only if another failed, and its own success does not turn the DAG run green."""
    dag = _load_example("example_stably_cancel_one_failed")

    dag_run, _ = _run_healthy_or_not(run_stably_dag, stably_emulator, dag, healthy=healthy)

    assert dag_run.state == ("success" if healthy else "failed")
    assert _states(dag_run)["stop", -1] == ("skipped" if healthy else "success")
    assert len(_cancelled(stably_emulator)) == (0 if healthy else 1)


@NEEDS_DEADLINES
@BOTH_MODES
def test_example_stably_cancel_on_deadline(airflow_db, run_stably_dag, deferrable):
    """Within its time the run is left alone; Airflow can store the callback, with its arguments."""
    dag = _load_example("example_stably_cancel_on_deadline", deferrable=deferrable)
    stored = _stored_callback(dag)
    dag.deadline = None  # dag.test() of Airflow 3.3.2 fails with one after the end, apache/airflow#73428

    dag_run, journal = run_stably_dag(dag, {"suite": "passes"})

    assert dag_run.state == "success"
    assert "cancel" not in _calls(journal)
    assert stored == {
        "path": "airflow_provider_stably.notifications.stably.StablyCancelRunNotifier",
        "kwargs": {"task_ids": ["run_tests"]},
    }


@BOTH_MODES
@pytest.mark.parametrize(("suite", "state"), [("passes", "success"), ("fails", "failed")])
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
    if hasattr(dag, "bulk_write_to_db"):  # Airflow 2.11 has no events of datasets that no DAG processor saw
        type(dag).bulk_write_to_db([dag, deploy_dag])

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
    assert summary["message"] in capfd.readouterr().out
    subjects = [] if suite == "passes" else ["Stably: 1 of 3 tests failed"]
    assert [mail["subject"] for mail in mails] == subjects
    for mail in mails:
        assert "<li>check out a basket</li>" in mail["html_content"]
        assert summary["run_url"] in mail["html_content"]


@BOTH_MODES
def test_example_stably_fan_out(airflow_db, run_stably_dag, capfd, deferrable):
    """Each Playwright project has its run, against the preview; the report has the failed one too."""
    dag = _load_example("example_stably_fan_out", deferrable=deferrable)

    dag_run, journal = run_stably_dag(dag, {"suites": ["passes", "fails"]})

    printed = re.findall(r"^Run \S+ (\w+): . of 3 tests", capfd.readouterr().out, re.MULTILINE)
    started = [request.json() for request in journal if request.call == "start"]
    assert _states(dag_run)["report", -1] == "success"
    assert sorted(printed) == ["FAILED", "PASSED"]
    assert {body["playwrightProjectName"] for body in started} == {"passes", "fails"}
    assert {body["envOverrides"]["BASE_URL"] for body in started} == {"https://pr-42.preview.example.com"}


def _run_healthy_or_not(run_stably_dag, stably_emulator, dag, *, healthy):
    """Run a recipe; if something is to fail, the Stably run goes on until it is cancelled."""
    stably_emulator.run_seconds = 0.1 if healthy else 600
    return run_stably_dag(dag, {"healthy": healthy})


def _cancelled(emulator):
    return [run_id for run_id in emulator.runs if emulator.status(run_id) == "CANCELLED"]


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
    examples = {path.stem for path in ROOT.glob("example_dags/*.py")}

    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_example_")}

    assert tested == examples

"""Every example DAG runs to its end on a real Airflow; what it asked of Stably is looked at."""

import re

import pytest

from tests.constants import PROJECT, ROOT
from tests.dag_files import load_dag_file

pytest_plugins = ["airflow_provider_stably.testing.fixtures"]

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


def test_every_example_has_a_test():
    """Each file in example_dags is run by the test above that has its name."""
    examples = {path.stem for path in ROOT.glob("example_dags/*.py")}

    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_example_")}

    assert tested == examples

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_stably.api.calls import run_url
from airflow_provider_stably.links.stably import StablyRunLink
from airflow_provider_stably.operators.stably import StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor
from tests.constants import PROJECT, ROOT
from tests.dag_files import load_dag_file

MAPPED = SimpleNamespace(map_index=0)


@pytest.mark.parametrize("script", ["passes", "fails"])
def test_the_button_leads_to_the_run(emulator, airflow_db, script):
    """What the UI reads for the button is the run's page, also for a task that failed."""
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    except ImportError:  # before Airflow 3.2
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization

    emulator.run_seconds = 0.1
    dag = load_dag_file("tests/dags", "run").run_deferred
    ti = dag.test(run_conf={"script": script}).get_task_instance("run")

    task = Serialization.from_dict(Serialization.to_dict(dag)).task_dict["run"]
    [link] = task.operator_extra_links
    [run_id] = emulator.runs
    assert link.name == "Open in Stably"
    assert run_id in link.get_link(task, ti_key=ti.key)


@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_the_button_works_from_the_start(emulator, context, kind):
    """The address is there while the task is deferred, under the key that Airflow 3 derives from the link."""
    if kind == "operator":
        task = StablyRunTestsOperator(task_id="run", playwright_project_name="hangs", deferrable=True)
    else:
        run_id = emulator.add_run(project_id=PROJECT)
        task = StablyRunSensor(task_id="wait", run_id=run_id, deferrable=True)

    with pytest.raises(TaskDeferred):
        task.execute(context)

    [run_id] = emulator.runs
    assert run_id in context["xcom"]["_link_StablyRunLink"]
    assert context["xcom"]["_link_StablyRunLink"] == context["xcom"]["run_url"]


def test_the_button_has_no_address_before_the_run(monkeypatch):
    """A task that has started no run gives no link, and no error."""
    from airflow.providers.common.compat.sdk import XCom

    monkeypatch.setattr(XCom, "get_value", lambda **_: None)

    assert StablyRunLink().get_link(None, ti_key=MAPPED) == ""


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "http://app.stably.ai/",
        "//app.stably.ai/",
        " https://app.stably.ai/",
        "https://x.example/login",
        "https://app.stably.ai@x.example/",
        "https://app.stably.ai.x.example/",
        ["https://app.stably.ai/"],
        {},
        7,
    ],
    ids=repr,
)
def test_the_button_leads_to_the_dashboard_only(monkeypatch, url):
    """Whoever may write XComs cannot make the button run a script, or lead elsewhere."""
    from airflow.providers.common.compat.sdk import XCom

    monkeypatch.setattr(XCom, "get_value", lambda **_: url)

    assert StablyRunLink().get_link(None, ti_key=MAPPED) == ""


def test_the_button_works_with_a_custom_xcom_backend(emulator, airflow_db):
    """Airflow 3 reads the button's XCom from the database, where such a backend has only a reference."""
    pytest.importorskip("airflow.sdk.bases.xcom", reason="Airflow 2.11 reads it through the backend")
    emulator.run_seconds = 0.1
    backend = {"AIRFLOW__CORE__XCOM_BACKEND": "tests.links.custom_backend.References"}

    done = subprocess.run(
        [sys.executable, "-m", "tests.links.custom_backend"],
        cwd=ROOT,
        env={**os.environ, **backend},
        capture_output=True,
        text=True,
        check=True,
    )

    rows = json.loads(done.stdout.partition("ROWS ")[2].partition("\n")[0])
    [run_id] = emulator.runs
    assert "file:///elsewhere" in rows["run_url"]
    assert rows["_link_StablyRunLink"] == run_url(PROJECT, run_id)

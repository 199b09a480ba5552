"""The notifier as callback of a deadline: the class, in the triggerer."""

import asyncio
from unittest.mock import create_autospec

import airflow
import pytest
from airflow.providers.common.compat.sdk import XCom
from packaging.version import Version

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from tests.constants import PROJECT
from tests.notifications.started import started


def _deadline(**arguments):
    """Call the notifier as Airflow's triggerer does: the class, awaited, with a deadline's context."""
    context = {
        "dag_run": {"dag_id": "dag", "dag_run_id": "manual__1"},
        "deadline": {"id": "1", "deadline_time": "2026-01-01T00:00:00Z"},
    }

    async def call():
        return await StablyCancelRunNotifier(**arguments, context=context)

    return asyncio.run(call())


@pytest.fixture
def triggerer(monkeypatch):
    """What a triggerer can ask Airflow: instances by name, XComs by task and map index."""
    if Version(airflow.__version__) < Version("3.1"):
        pytest.skip("Airflow 3.1 brought deadlines")
    from airflow.sdk.execution_time import task_runner

    instances, groups, xcoms = {}, {}, {}

    def get_task_states(dag_id, run_ids, task_ids=None, task_group_id=None):
        found = instances.get(task_ids[0], []) if task_ids else groups[task_group_id]
        return {run_ids[0]: dict.fromkeys(found, "success")} if found else {}

    def get_one(*, key, dag_id, run_id, task_id, map_index):
        return xcoms.get((task_id, map_index))

    runtime = task_runner.RuntimeTaskInstance
    states = create_autospec(runtime.get_task_states, side_effect=get_task_states)
    monkeypatch.setattr(runtime, "get_task_states", staticmethod(states))
    monkeypatch.setattr(XCom, "get_one", create_autospec(XCom.get_one, side_effect=get_one))
    return instances, groups, xcoms


def test_a_deadline_cancels_the_runs_of_tasks(emulator, triggerer):
    """Plain, mapped and grouped tasks are found without a task instance at hand."""
    instances, groups, xcoms = triggerer
    instances.update({"start": ["start"], "many": ["many_0", "many_1"]})
    groups["suites"] = ["suites.load_2", "suites.smoke_0"]
    for instance in [("start", -1), ("many", 1), ("suites.load_2", -1), ("suites.smoke", 0)]:
        xcoms[instance] = started(emulator)

    result = _deadline(task_ids=["start", "many", "suites"])

    assert result is None
    assert len(emulator.requests("cancel")) == 4
    assert emulator.live_runs() == []


def test_a_deadline_keeps_a_mapped_task_of_like_name(emulator, triggerer):
    """Airflow writes instance 1 of ``start`` as ``start_1``, as it does a plain task of that name."""
    instances, _, xcoms = triggerer
    instances["start_1"] = ["start_1"]
    xcoms["start_1", -1] = started(emulator)
    xcoms["start", 1] = spared = started(emulator)

    _deadline(task_ids="start_1")

    assert emulator.live_runs() == [spared["run_id"]]


def test_a_deadline_cancels_despite_an_unreadable_task(emulator, triggerer, caplog):
    """A problem with one name is logged, and the runs that can be read are cancelled."""
    instances, _, xcoms = triggerer
    instances.update({"broken": ["broken"], "start": ["start"]})
    xcoms.update({("broken", -1): "junk", ("start", -1): started(emulator)})

    _deadline(task_ids=["not_there", "broken", "start"])

    assert emulator.live_runs() == []
    assert "'not_there'" in caplog.text
    assert "'broken'" in caplog.text


def test_a_deadline_cancels_named_runs(emulator, triggerer):
    """Run ids are rendered with a deadline's context: the DAG run, as plain values."""
    run_id = emulator.add_run(project_id=PROJECT)

    _deadline(run_ids=[run_id, "{{ dag_run.conf }}"])

    assert emulator.live_runs() == []


@pytest.mark.parametrize("arguments", [{}, {"task_ids": "not_there"}], ids=["nothing named", "no such task"])
def test_a_deadlines_callback_never_raises(emulator, triggerer, arguments, caplog):
    """A deadline that cannot cancel says so in the log."""
    _deadline(**arguments)

    assert emulator.requests() == []
    assert "This callback could not cancel Stably runs" in caplog.text

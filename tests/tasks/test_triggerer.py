"""Airflow is asked, in a way that its triggerer can bear, whether a deferred task still waits."""

import asyncio
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
from asgiref.sync import async_to_sync

from airflow_provider_stably.tasks import triggerer
from airflow_provider_stably.tasks.triggerer import is_still_deferred, started_by


@pytest.fixture
def ti():
    """A trigger's task instance."""
    return SimpleNamespace(key="its key")


@pytest.fixture
def airflow_knows(monkeypatch):
    """Let Airflow know a task instance's state and its XCom."""

    def know(state, pushed):
        monkeypatch.setattr(
            triggerer, "state_of_task", create_autospec(triggerer.state_of_task, return_value=state)
        )
        get_value = create_autospec(triggerer.XCom.get_value, return_value=pushed)
        monkeypatch.setattr(triggerer.XCom, "get_value", get_value)

    return know


@pytest.mark.parametrize(
    ("state", "pushed", "expected"),
    [
        pytest.param("deferred", {"run_id": "run-1"}, True, id="waits"),
        pytest.param("failed", {"run_id": "run-1"}, False, id="marked"),
        pytest.param(None, {"run_id": "run-1"}, False, id="cleared"),
        pytest.param("deferred", {"run_id": "run-2"}, False, id="another try waits for another run"),
        pytest.param("deferred", None, False, id="another try has not started a run"),
    ],
)
async def test_a_deferred_task_waits_for_the_run_in_its_xcom(ti, airflow_knows, state, pushed, expected):
    """Only a task that is deferred, and for this very run, still waits for it."""
    airflow_knows(state, pushed)

    awaited = await is_still_deferred(ti, "run-1")

    assert awaited is expected


async def test_airflow_is_asked_on_the_loop_of_the_trigger(ti, monkeypatch):
    """Airflow 3.0 and 3.1 read answers by async_to_sync, which must find the triggerer's loop."""
    asked_on = []

    async def ask():
        asked_on.append(asyncio.get_running_loop())
        return True

    question = create_autospec(triggerer._is_still_deferred, side_effect=lambda *_: async_to_sync(ask)())
    monkeypatch.setattr(triggerer, "_is_still_deferred", question)

    awaited = await is_still_deferred(ti, "run-1")

    assert awaited
    assert asked_on == [asyncio.get_running_loop()]


def test_an_xcom_that_cannot_be_read_hides_no_other_run(monkeypatch, caplog):
    """One instance of a mapped task must not keep the others' runs from being cancelled."""
    pushed = {
        0: {"run_id": "a", "project_id": "p"},
        1: {"run_id": "a/b"},
        2: {"run_id": "c", "project_id": "p"},
    }
    states = create_autospec(triggerer.states_by_name, return_value=["start_0", "start_1", "start_2"])
    monkeypatch.setattr(triggerer, "states_by_name", states)
    get_one = create_autospec(triggerer.XCom.get_one, side_effect=lambda *, map_index, **_: pushed[map_index])
    monkeypatch.setattr(triggerer.XCom, "get_one", get_one)

    runs = started_by("dag", "dag run", "start")

    assert [run.run_id for _, run in runs] == ["a", "c"]
    assert "of task 'start' cannot be read" in caplog.text


PLAIN = ("load_1", -1)
MAPPED = {("load", 0), ("load", 1)}


@pytest.mark.parametrize(
    ("in_group", "of_load", "pushed", "expected"),
    [
        pytest.param(["load_0", "load_1"], ["load_0", "load_1"], MAPPED, MAPPED, id="mapped"),
        pytest.param(["load_1"], [], {PLAIN}, {PLAIN}, id="plain"),
        pytest.param(["load_1"], ["load_0", "load_1"], {PLAIN, *MAPPED}, {PLAIN}, id="a mapped one outside"),
        pytest.param(["load_1"], ["load"], {PLAIN, ("load", -1)}, {PLAIN}, id="a plain one outside"),
    ],
)
def test_a_task_groups_runs_are_those_of_its_tasks(monkeypatch, in_group, of_load, pushed, expected):
    """Without the DAG, ``load_1`` may be a task or one of ``load``, which may be outside the group."""

    def states(*_, task_ids=(), task_group_id=None):
        names = in_group if task_group_id else of_load if task_ids == ["load"] else []
        return dict.fromkeys(names, "running")

    def get_one(*, task_id, map_index, **_):
        run = {"run_id": f"{task_id}.{map_index}", "project_id": "p"}
        return run if (task_id, map_index) in pushed else None

    states_by_name = create_autospec(triggerer.states_by_name, side_effect=states)
    monkeypatch.setattr(triggerer, "states_by_name", states_by_name)
    xcom = create_autospec(triggerer.XCom.get_one, side_effect=get_one)
    monkeypatch.setattr(triggerer.XCom, "get_one", xcom)

    runs = started_by("dag", "dag run", "group")

    assert {run.run_id for _, run in runs} == {f"{task_id}.{index}" for task_id, index in expected}

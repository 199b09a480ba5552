"""The notifier as callback of tasks that a real Airflow runs."""

import math

import pytest

from airflow_provider_stably.execution import callback_budget
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.dag_files import load_dag_file


@pytest.fixture(scope="module")
def dags():
    """The DAGs, loaded once."""
    return load_dag_file("tests/dags", "callbacks")


def _runs(emulator):
    return [{"run_id": emulator.add_run(project_id=PROJECT), "project_id": PROJECT} for _ in range(3)]


@pytest.mark.parametrize(
    ("name", "state"), [("failing", "failed"), ("retried", "success"), ("skipped", "success")]
)
def test_one_notifier_cancels_each_tasks_own_run(emulator, airflow_db, dags, name, state):
    """Shared through default_args by plain and mapped tasks that fail, are tried again, or skipped."""
    runs = _runs(emulator)

    dag_run = getattr(dags, name).test(run_conf={"runs": runs})

    assert dag_run.state == state
    assert emulator.live_runs() == []
    assert len(emulator.requests("cancel")) == len(runs)


@pytest.mark.parametrize(("name", "state"), [("failing", "failed"), ("skipped", "success")])
def test_a_dead_api_changes_no_end(emulator, airflow_db, dags, monkeypatch, name, state):
    """With every answer a 500, tasks and DAG run end as they would have without the notifier."""
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 1.0)
    emulator.inject(Fault(status=500), times=math.inf)

    dag_run = getattr(dags, name).test(run_conf={"runs": _runs(emulator)})

    assert dag_run.state == state
    assert emulator.requests("cancel")


@pytest.mark.parametrize("name", ["failing_dag", "failing_dag_by_ids"])
def test_a_dags_callback_reads_xcoms_in_dag_test(emulator, airflow_db, dags, name):
    """By tasks and by templates, of plain and of mapped tasks, although Airflow 3 gives it no supervisor."""
    runs = _runs(emulator)

    dag_run = getattr(dags, name).test(run_conf={"runs": runs})

    assert dag_run.state == "failed"
    assert emulator.live_runs() == []
    assert len(emulator.requests("cancel")) == len(runs)

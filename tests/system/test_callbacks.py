"""StablyCancelRunNotifier in a worker, in the DAG processor and in the triggerer of a real Airflow."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field

import pytest

from airflow_provider_stably.execution.callback_budget import BUDGET_SECONDS
from airflow_provider_stably.testing import Fault
from tests.constants import KEY, PROJECT
from tests.system.matrix_cell import MatrixCell
from tests.system.versions import DETECTION_SECONDS, is_airflow

STARTED = 4
"""How many runs the DAGs start without waiting for them."""

DEADLINE_SECONDS = 120
"""How long a DAG run with a deadline may take."""

BESIDE = {
    "deadline": ">=3.1",
    "deadline_stored": ">=3.1",
    "sync_deadline": ">=3.2",
    "lost_worker": "!=3.0.*",
    "failing_retry": ">=3.3",
}
"""The DAGs that take long, and the versions of Airflow that they are played on."""

READS_XCOMS = pytest.mark.skipif(
    is_airflow("==3.0.*"), reason="The DAG processor of Airflow 3.0 cannot read XComs"
)
"""Marks a test whose callback is called in the DAG processor and reads XComs."""

_EACH = pytest.mark.parametrize(
    "dag_id", ["callbacks_of_task", pytest.param("callbacks_of_dag", marks=READS_XCOMS)]
)


@pytest.fixture
def cell(request, airflow, emulator):
    """A DAG run to be, with a project of the emulator that no other test uses."""
    return MatrixCell(airflow, emulator, "sync", re.sub(r"\W+", "-", request.node.name))


@pytest.fixture(scope="module")
def _stored_connection(airflow, emulator):
    """A connection that is only in the metadata database."""
    airflow.add_connection(
        "stably_in_database", conn_type="stably", host=emulator.url, login=PROJECT, password=KEY
    )


@dataclass(frozen=True)
class Begun:
    """A DAG run that goes on while other tests run, and when it began."""

    cell: MatrixCell
    at: float = field(default_factory=time.monotonic)


@pytest.fixture(scope="module", autouse=True)
def begun(airflow, emulator, _stored_connection):
    """The DAG runs that take long, by DAG; two have lost their worker."""
    begun = {}
    for name, versions in BESIDE.items():
        if is_airflow(versions):
            begun[name] = Begun(MatrixCell(airflow, emulator, "sync", f"beside-{name}"))
            _trigger(begun[name].cell, f"callbacks_of_{name}")
    for name in ("lost_worker", "failing_retry"):
        if name in begun:
            begun[name].cell.wait_until_watched()
            begun[name].cell.dag_run.task("tests").kill_worker()
    return begun


def _requests(cell, *calls):
    return [
        request
        for request in list(cell.emulator.journal)
        if request.project_id == cell.project_id and request.call in calls
    ]


def _durations(cell):
    """Return the seconds that each callback took, by the requests before and after it; None if it goes on."""
    began, ended = (
        {
            request.run_id.removeprefix(name): request.at
            for request in _requests(cell, "get")
            if request.run_id.startswith(name)
        }
        for name in ("began-", "ended-")
    )
    return [ended[process] - at if process in ended else None for process, at in began.items()]


def _trigger(cell, dag_id):
    cell.dag_run = cell.airflow.trigger(dag_id, {"project_id": cell.project_id})
    return cell.dag_run


def _assert_cancelled_at_deadline(begun):
    cell = begun.cell
    left = max(1, begun.at + DEADLINE_SECONDS - time.monotonic())

    assert cell.dag_run.wait_for("failed", "success", timeout=left) == "failed"
    assert cell.live_runs() == []
    assert [cell.emulator.status(run.run_id) for run in cell.runs()] == ["CANCELLED"] * (STARTED + 1)


def _assert_cancelled_after_loss(begun):
    cell = begun.cell

    assert cell.dag_run.wait_for("failed", "success", timeout=DETECTION_SECONDS + 30) == "failed"
    cell.airflow.wait_until(lambda: not cell.live_runs(), what="the run to be cancelled")
    assert [cell.emulator.status(run.run_id) for run in cell.runs()] == ["CANCELLED"]


@_EACH
@pytest.mark.parametrize("suffix", ["", pytest.param("_stored", id="connection-in-database")])
@pytest.mark.usefixtures("_stored_connection")
def test_failure_cancels_the_runs_of_all_tasks(cell, dag_id, suffix):
    """When a task or the DAG run fails, the runs of plain, mapped and grouped tasks are cancelled."""
    dag_run = _trigger(cell, dag_id + suffix)

    assert dag_run.wait_for("failed", "success") == "failed"
    cell.airflow.wait_until(lambda: not cell.live_runs(), what="the runs to be cancelled")
    assert len(cell.runs()) == STARTED
    assert len(_requests(cell, "cancel")) == STARTED


@pytest.mark.skipif(is_airflow("<3.3"), reason="Before 3.3 the dag processor fails if a task is gone")
def test_callback_without_ti_cancels_the_runs(cell):
    """When the task that failed is gone from its DAG, the DAG's callback gets no ``ti``, and cancels."""
    gone = cell.airflow.site.home / "task-is-gone"
    dag_run = _trigger(cell, "callbacks_of_dag_without_ti")
    cell.airflow.wait_until(
        lambda: any(request.run_id.startswith("waits") for request in _requests(cell, "get")),
        what="the task that vanishes to wait",
    )

    with cell.airflow.programs["dag-processor"].paused():  # Airflow must not learn of it before the failure
        gone.touch()
        ended = dag_run.wait_for("failed", "success")
    try:
        assert ended == "failed"
        cell.airflow.wait_until(lambda: not cell.live_runs(), what="the runs to be cancelled")
    finally:
        gone.unlink()
    assert len(cell.runs()) == STARTED


@_EACH
def test_broken_api_does_not_delay_the_dag_run(cell, dag_id):
    """When Stably answers 500 to every request, the DAG run fails as usual, and callbacks end in time."""
    for call in ("cancel", "get"):
        cell.inject(Fault(status=500), call=call, times=math.inf)
    dag_run = _trigger(cell, dag_id)

    assert dag_run.wait_for("failed", "success") == "failed"
    cell.airflow.wait_until(
        lambda: _durations(cell) and None not in _durations(cell), what="the callback's end"
    )
    assert max(_durations(cell)) < BUDGET_SECONDS + 1
    assert len(_requests(cell, "cancel")) > STARTED
    assert len(cell.live_runs()) == STARTED


def test_silent_api_leaves_time_for_other_callbacks(cell):
    """When Stably never answers, the next callback runs before Airflow 3 kills the process, after 20 s."""
    cell.inject(Fault(delay=math.inf), call="cancel", times=math.inf)
    dag_run = _trigger(cell, "callbacks_of_task")

    assert dag_run.wait_for("failed", "success") == "failed"
    # The first process is the task's. The DAG processor may also call back, if heartbeats are missing.
    cell.airflow.wait_until(lambda: _durations(cell)[0] is not None, what="the next callback")
    assert _durations(cell)[0] < 18


@pytest.mark.skipif(is_airflow("<3.1"), reason="Airflow 3.1 brought deadlines")
@pytest.mark.parametrize("kind", ["deadline", pytest.param("deadline_stored", id="connection-in-database")])
def test_missed_deadline_cancels_the_runs(begun, kind):
    """A missed deadline cancels the runs of all tasks, in the triggerer."""
    _assert_cancelled_at_deadline(begun[kind])


@pytest.mark.skipif(is_airflow("<3.2"), reason="Airflow 3.2 calls SyncCallback")
@pytest.mark.xfail(
    strict=True, reason="A SyncCallback of Airflow 3.3 can read connections and variables, but no XCom"
)
def test_missed_deadline_cancels_the_runs_from_a_worker(begun):
    """A missed deadline cancels the runs of all tasks, on a worker if so declared."""
    _assert_cancelled_at_deadline(begun["sync_deadline"])


@READS_XCOMS
def test_run_of_a_lost_worker_is_cancelled(begun):
    """After the loss of a worker, the notifier cancels its run, where the operator itself would not."""
    _assert_cancelled_after_loss(begun["lost_worker"])


@pytest.mark.skipif(is_airflow("<3.3"), reason="Before Airflow 3.3 no retry goes on with a run")
def test_run_that_no_retry_takes_up_is_cancelled(begun):
    """After the loss of a worker, the run is cancelled if the last retry fails before it can take it up."""
    _assert_cancelled_after_loss(begun["failing_retry"])

    assert begun["failing_retry"].cell.dag_run.task("tests").try_number == 2

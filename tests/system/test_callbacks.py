"""StablyCancelRunNotifier in a worker, in the dag processor and in the triggerer of a real Airflow."""

from __future__ import annotations

import math
import re

import pytest

from airflow_provider_stably.callback_cancelling import BUDGET_SECONDS
from airflow_provider_stably.testing import Fault
from tests.system.matrix_cell import MatrixCell
from tests.system.versions import DETECTION_SECONDS, is_airflow

STARTED = 4
"""How many runs the DAGs start that nobody watches."""

NEEDS_DEADLINES = pytest.mark.skipif(is_airflow("<3.1"), reason="Airflow 3.1 brought deadlines")


READS_XCOMS = pytest.mark.skipif(
    is_airflow("==3.0.*"), reason="The dag processor of Airflow 3.0 cannot read XComs"
)
"""On a test of a callback that is made there."""

_EACH = pytest.mark.parametrize(
    "dag_id", ["callbacks_of_task", pytest.param("callbacks_of_dag", marks=READS_XCOMS)]
)


@pytest.fixture
def cell(request, airflow, emulator):
    """A project of the emulator for this test alone."""
    return MatrixCell(airflow, emulator, "sync", re.sub(r"\W+", "-", request.node.name))


def _requests(cell, *calls):
    return [
        request
        for request in list(cell.emulator.journal)
        if request.project_id == cell.project_id and request.call in calls
    ]


def _durations(cell):
    """Return how long each callback took, by the marks around it; None for those that have not ended."""
    began, ended = (
        {
            request.run_id.removeprefix(name): request.at
            for request in _requests(cell, "get")
            if request.run_id.startswith(name)
        }
        for name in ("began-", "ended-")
    )
    return [ended[process] - at if process in ended else None for process, at in began.items()]


def _begin(cell, dag_id):
    cell.dag_run = cell.airflow.trigger(dag_id, {"project_id": cell.project_id})
    return cell.dag_run


@_EACH
def test_what_a_failure_leaves_is_cancelled(cell, dag_id):
    """A plain, a mapped and a grouped task's runs go when another task or the DAG run has failed."""
    dag_run = _begin(cell, dag_id)

    assert dag_run.wait_for("failed", "success") == "failed"
    cell.airflow.wait_until(lambda: not cell.live_runs(), what="the runs to be cancelled")
    assert len(cell.runs()) == STARTED
    assert len(_requests(cell, "cancel")) == STARTED


@NEEDS_DEADLINES
def test_a_missed_deadline_cancels(cell):
    """The triggerer finds the runs of plain, mapped and grouped tasks, and that of a deferred one."""
    dag_run = _begin(cell, "callbacks_of_deadline")
    cell.airflow.wait_until(lambda: len(cell.live_runs()) == STARTED + 1, what="all runs to go on")

    assert dag_run.wait_for("failed", "success", timeout=90) == "failed"
    assert cell.live_runs() == []
    assert [cell.emulator.status(run.run_id) for run in cell.runs()] == ["CANCELLED"] * (STARTED + 1)


@READS_XCOMS
def test_a_lost_workers_run_is_cancelled_once(cell):
    """Notifier and operator each cancel it in the dag processor; what comes second finds it over."""
    dag_run = _begin(cell, "callbacks_of_lost_worker")
    cell.wait_until_watched()

    dag_run.task("tests").kill_worker()

    assert dag_run.wait_for("failed", "success", timeout=DETECTION_SECONDS + 30) == "failed"
    cell.airflow.wait_until(lambda: not cell.live_runs(), what="the run to be cancelled")
    cell.airflow.wait_until(lambda: len(_requests(cell, "cancel")) > 1, what="the other callback")
    assert [cell.emulator.status(run.run_id) for run in cell.runs()] == ["CANCELLED"]


@_EACH
def test_a_dead_api_changes_no_end_and_is_given_up_on(cell, dag_id):
    """With 500 for every request the DAG run fails as it would have, and the callback ends in its time."""
    for call in ("cancel", "get"):
        cell.inject(Fault(status=500), call=call, times=math.inf)
    dag_run = _begin(cell, dag_id)

    assert dag_run.wait_for("failed", "success") == "failed"
    cell.airflow.wait_until(
        lambda: _durations(cell) and None not in _durations(cell), what="the callback's end"
    )
    assert max(_durations(cell)) < BUDGET_SECONDS + 1
    assert len(_requests(cell, "cancel")) > STARTED
    assert len(cell.live_runs()) == STARTED


def test_a_silent_api_leaves_time_for_other_callbacks(cell):
    """Airflow 3 begins to kill a task's process 20 s after its end; the next callback comes before."""
    cell.inject(Fault(delay=math.inf), call="cancel", times=math.inf)
    dag_run = _begin(cell, "callbacks_of_task")

    assert dag_run.wait_for("failed", "success") == "failed"
    # The first process is the task's; the dag processor may call as well, for want of heartbeats by then.
    cell.airflow.wait_until(lambda: _durations(cell)[0] is not None, what="the next callback")
    assert _durations(cell)[0] < 18

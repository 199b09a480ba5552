"""The recipe that the docs lead with, example_stably_safe_pair, on a real Airflow."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from airflow_provider_stably.testing import Fault
from tests.system.matrix_cell import MatrixCell
from tests.system.versions import DETECTION_SECONDS, is_airflow


def _let_it_go_on(cell: MatrixCell) -> None:
    """Do nothing: the DAG run ends by itself."""


def _wait_for_work(cell: MatrixCell) -> None:
    cell.wait_for_start()
    cell.dag_run.task("work").wait_for("running")


def _kill_process(cell: MatrixCell) -> None:
    _wait_for_work(cell)
    cell.dag_run.task("work").kill_process()


def _kill_worker(cell: MatrixCell) -> None:
    _wait_for_work(cell)
    cell.dag_run.task("work").kill_worker()


def _mark_work_failed(cell: MatrixCell) -> None:
    _wait_for_work(cell)
    cell.dag_run.task("work").set_state("failed")


def _mark_wait_failed(cell: MatrixCell) -> None:
    cell.dag_run.task("wait").wait_for("deferred")
    cell.dag_run.task("wait").set_state("failed")


def _fail_dag_run(cell: MatrixCell) -> None:
    cell.dag_run.task("wait").wait_for("deferred")
    cell.dag_run.set_state("failed")


def _refuse_cancel(cell: MatrixCell) -> None:
    cell.inject(Fault(status=403), call="cancel", times=math.inf)


def _refuse_cancel_once(cell: MatrixCell) -> None:
    cell.inject(Fault(status=403), call="cancel", times=1)


def _kill_the_teardown(cell: MatrixCell) -> None:
    cell.inject(Fault(delay=math.inf), call="cancel", times=1)
    stop = cell.dag_run.task("stop")
    cell.wait_for_cancel(cell.wait_for_start())
    stop.kill_process()


@dataclass(frozen=True)
class Failure:
    """Something that goes wrong while the run is live.

    :param do: What is done once the DAG run is triggered.
    :param conf: The DAG run's parameters.
    :param dag_id: The variant of the example.
    :param is_left_live: Whether the run is still live in the end; the DAG run is red then, too.
    :param state: How the DAG run ends.
    """

    do: Callable[[MatrixCell], None] = _let_it_go_on
    conf: dict[str, object] = field(default_factory=dict)
    dag_id: str = "safe_pair"
    is_left_live: bool = False
    state: str = "failed"


_SLOW = {"seconds": 600}
_FAILS = {"healthy": False}
FAILURES = {
    "a task fails": Failure(conf=_FAILS),
    "only a task's process is killed": Failure(_kill_process, _SLOW),
    "the whole worker of a task is killed": Failure(_kill_worker, _SLOW),
    "a task is marked failed": Failure(_mark_work_failed, _SLOW),
    "the sensor is marked failed": Failure(_mark_wait_failed),
    # Airflow skips what is left but for the teardown, whose success is then the DAG run's.
    "the DAG run is set failed": Failure(_fail_dag_run, state="success"),
    "the DAG run runs into dagrun_timeout": Failure(
        dag_id="safe_pair_dagrun_timeout", is_left_live=is_airflow("==3.0.*")
    ),
    "the cancel is refused once": Failure(_refuse_cancel_once, _FAILS),
    "the teardown's process is killed": Failure(_kill_the_teardown, _FAILS),
    "the cancel is refused for good": Failure(_refuse_cancel, _FAILS, is_left_live=True),
}


def _play(name: str, airflow, emulator) -> MatrixCell:
    failure = FAILURES[name]
    cell = MatrixCell(airflow, emulator, "deferrable", f"safe-pair-{list(FAILURES).index(name)}")
    conf = {"project_id": cell.project_id, "suite": "hangs", "healthy": True, "seconds": 0}
    cell.dag_run = airflow.trigger(failure.dag_id, {**conf, **failure.conf})
    failure.do(cell)
    cell.dag_run.wait_for("failed", "success", timeout=DETECTION_SECONDS + 120)
    if not failure.is_left_live:
        airflow.wait_until(lambda: not cell.live_runs(), what=f"the run to be cancelled: {name}")
    return cell


@pytest.fixture(scope="module")
def side_by_side(airflow, emulator):
    """The plays of all failures, at once, as futures."""
    with ThreadPoolExecutor(len(FAILURES)) as pool:
        yield {name: pool.submit(_play, name, airflow, emulator) for name in FAILURES}


@pytest.mark.parametrize("name", FAILURES)
def test_the_safe_pair_leaves_no_live_run(name, side_by_side):
    """Whatever fails, the run is cancelled, or the DAG run is red because it cannot be."""
    cell = side_by_side[name].result(timeout=400)

    assert len(cell.runs()) == 1
    assert bool(cell.live_runs()) is FAILURES[name].is_left_live
    assert cell.dag_run.state == FAILURES[name].state


def test_the_safe_pair_is_green_if_the_run_passes(airflow, emulator):
    """Nothing is cancelled, the deployment runs, and the DAG run is green."""
    cell = MatrixCell(airflow, emulator, "deferrable", "safe-pair-green")

    cell.dag_run = airflow.trigger("safe_pair", {"project_id": cell.project_id, "suite": "passes"})

    assert cell.dag_run.wait_for("failed", "success", timeout=120) == "success"
    assert [emulator.status(run.run_id) for run in cell.runs()] == ["PASSED"]

"""No run left behind by Celery workers and triggerers, one of each killed while Stably runs go on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import pytest

from airflow_provider_stably.testing import StablyEmulator
from tests.constants import PROJECT
from tests.system.airflow_under_test import AirflowUnderTest
from tests.system.dag_runs import DagRun
from tests.system.matrix_cell import MatrixCell
from tests.system.processes import Program
from tests.system.verdicts import CellVerdict, judge
from tests.system.versions import CELERY_WORKERS, is_airflow
from tests.waiting import NotInTimeError

pytestmark = pytest.mark.skipif(
    not is_airflow(">=3.3"), reason="Airflow 3.3 brought the store by which a retry takes a run up"
)

_MAPPED = 50
_AT_ONCE_SECONDS = 240.0
"""How long fifty tasks may take to start: two cores, and two seconds of work each."""


@dataclass(frozen=True)
class Aftermath:
    """All DAG runs, ended, after a worker and a triggerer were killed.

    :param many: One DAG run of fifty mapped tasks that were deferred.
    :param retried: Tasks that were on the killed worker and had a retry left.
    :param lost: Tasks that were on the killed worker and had no retry left.
    :param unaffected: Tasks on the other worker.
    :param failed: A DAG run that failed with one worker left, with a failure callback that cancels its runs.
    :param cancel: A DAG run that cancelled the runs ``to_cancel`` with one worker left.
    """

    many: MatrixCell
    retried: list[MatrixCell]
    lost: list[MatrixCell]
    unaffected: list[MatrixCell]
    failed: MatrixCell
    cancel: DagRun
    to_cancel: list[str]


@pytest.fixture(scope="module")
def aftermath(celery_airflow, emulator):
    """Kill a worker and a triggerer while tasks wait on them, and return how all DAG runs ended."""
    airflow = celery_airflow
    airflow.wait_until(
        lambda: all(_is_ready(airflow.programs[name]) for name in CELERY_WORKERS), what="workers"
    )
    on_workers: list[MatrixCell] = []
    while not (worker := _worker_to_kill(airflow, on_workers)):
        for variant in ("retry", "plain"):
            on_workers.append(_begin(airflow, emulator, variant, "sync", len(on_workers)))
        for cell in on_workers:
            cell.wait_until_watched()
    many = _begin(airflow, emulator, "many", "deferrable", 0)
    airflow.wait_until(lambda: len(many.runs()) == _MAPPED, what="fifty starts", timeout=_AT_ONCE_SECONDS)
    _wait_for_polls(many)
    hit = [cell for cell in on_workers if airflow.worker_of(cell.task) is worker]

    worker.kill()
    airflow.triggerer_of(many.task).kill()

    to_cancel = [emulator.add_run(project_id=PROJECT) for _ in range(3)]
    cancel = airflow.trigger("harness_cancel", {"run_ids": to_cancel})
    failed = MatrixCell(airflow, emulator, "sync", "celery-failed")
    failed.dag_run = airflow.trigger("callbacks_of_task", {"project_id": failed.project_id})
    retried = [cell for cell in hit if "retry" in cell.project_id]
    with suppress(NotInTimeError):  # that is for the tests to say
        for cell in retried:
            cell.wait_for_polls(cell.runs()[0])
        _wait_for_polls(many)
    lost = [cell for cell in hit if cell not in retried]
    unaffected = [cell for cell in on_workers if cell not in hit]
    for cell in [*retried, *unaffected, many]:
        for run in cell.runs():
            cell.end_run(run)
    many.dag_run.wait_for("success", "failed", timeout=_AT_ONCE_SECONDS)
    for cell in [many, *on_workers]:
        cell.wait_for_end()
    for dag_run in (cancel, failed.dag_run):
        dag_run.wait_for("success", "failed")
    with suppress(NotInTimeError):
        airflow.wait_until(lambda: not failed.live_runs(), what="the failure callback")
    return Aftermath(many, retried, lost, unaffected, failed, cancel, to_cancel)


def test_each_of_fifty_mapped_tasks_succeeds_with_its_own_run(aftermath):
    """Fifty deferred waits survive a triggerer: each is green and has seen its own run pass."""
    states = aftermath.many.dag_run.task_states()
    returned = [aftermath.many.dag_run.task("tests", map_index=index).xcom() for index in range(_MAPPED)]

    assert states == {("tests", index): "success" for index in range(_MAPPED)}
    assert {each["run_id"] for each in returned} == {run.run_id for run in aftermath.many.runs()}
    assert {each["status"] for each in returned} == {"PASSED"}
    assert [run.started_with["branch"] for run in _by_map_index(aftermath.many)] == [
        f"tests/{index}" for index in range(_MAPPED)
    ]


def test_next_try_goes_on_with_the_run_of_the_lost_worker(aftermath):
    """What waited on the killed worker with a retry left is green with the run that its first try started."""
    for cell in aftermath.retried:
        assert len(cell.runs()) == 1
        assert (cell.task.state, cell.task.try_number) == ("success", 2)


def test_run_of_the_lost_worker_is_cancelled(aftermath, emulator):
    """What waited on the killed worker without a retry is red, and its callback has cancelled its run."""
    for cell in aftermath.lost:
        assert cell.task.state == "failed"
        assert [emulator.status(run.run_id) for run in cell.runs()] == ["CANCELLED"]


def test_other_worker_is_not_disturbed(aftermath):
    """What waited on the other worker is green in its first try."""
    for cell in aftermath.unaffected:
        assert (cell.task.state, cell.task.try_number) == ("success", 1)


def test_runs_are_cancelled_with_one_worker_left(aftermath, emulator):
    """A cancel operator that is started right after the loss reaches its runs."""
    assert aftermath.cancel.task("cancel").xcom() == aftermath.to_cancel
    assert {emulator.status(run_id) for run_id in aftermath.to_cancel} == {"CANCELLED"}


def test_failure_callback_cancels_with_one_worker_left(aftermath, emulator):
    """A task that fails after the loss cancels the runs that others had started: plain, mapped, grouped."""
    assert aftermath.failed.dag_run.state == "failed"
    assert [emulator.status(run.run_id) for run in aftermath.failed.runs()] == ["CANCELLED"] * 4


def test_nothing_is_lost_and_nothing_doubled(aftermath):
    """Each task started one run, none is left live, and no colour lies."""
    on_workers = [*aftermath.retried, *aftermath.lost, *aftermath.unaffected]

    verdicts = {cell.project_id: judge(cell.runs(), cell.task.state) for cell in on_workers}

    assert set(verdicts.values()) == {CellVerdict.OK}, verdicts
    assert [len(cell.runs()) for cell in on_workers] == [1] * len(on_workers)
    assert len(aftermath.many.runs()) == _MAPPED
    assert not aftermath.many.live_runs()


def _begin(
    airflow: AirflowUnderTest, emulator: StablyEmulator, variant: str, mode: str, number: int
) -> MatrixCell:
    cell = MatrixCell(airflow, emulator, mode, f"celery-{variant}-{number}")
    cell.trigger(variant, script="hangs", map_index=0 if variant == "many" else -1)
    return cell


def _is_ready(worker: Program) -> bool:
    return f"celery@{worker.name} ready" in worker.log.read_text()


def _worker_to_kill(airflow: AirflowUnderTest, cells: list[MatrixCell]) -> Program | None:
    """Return a worker that has a task with a retry left and one without, if another one has some, too."""
    variants: dict[str, set[bool]] = {}
    for cell in cells:
        variants.setdefault(airflow.worker_of(cell.task).name, set()).add("retry" in cell.project_id)
    both = [airflow.programs[name] for name, found in variants.items() if len(found) == 2]
    return both[0] if both and len(variants) == len(CELERY_WORKERS) else None


def _wait_for_polls(cell: MatrixCell) -> None:
    """Wait until each of a cell's runs is looked at, from now on."""
    before = {run.run_id: _polls(cell, run.run_id) for run in cell.runs()}
    cell.airflow.wait_until(
        lambda: all(_polls(cell, run_id) > looks for run_id, looks in before.items()),
        what=f"status requests about all {len(before)} runs of {cell.project_id}",
        timeout=120,
    )


def _polls(cell: MatrixCell, run_id: str) -> int:
    return len(cell.emulator.requests("get", run_id=run_id))


def _by_map_index(cell: MatrixCell) -> list:
    return sorted(cell.runs(), key=lambda run: int(run.started_with["branch"].rpartition("/")[2]))

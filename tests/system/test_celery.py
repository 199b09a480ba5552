"""A Celery worker and a triggerer are killed while tasks wait: no Stably run is left live or doubled."""

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
    not is_airflow(">=3.3"), reason="Only Airflow 3.3 has the store that lets a retry resume a run"
)

_MOST_ON_WORKERS = 12
"""How many tasks may wait on the workers, which take 16: mapped tasks and a cancel need room, too."""
_MAPPED = 50
_MAPPED_START_SECONDS = 240.0
"""How long fifty tasks may take to start: each needs two seconds of two CPU cores."""


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
        assert len(on_workers) < _MOST_ON_WORKERS, "The workers did not get tasks of both variants"
        # Workers that take turns would each get one variant only if the order were always the same.
        for variant in ("retry", "plain") if len(on_workers) % 4 == 0 else ("plain", "retry"):
            on_workers.append(_trigger(airflow, emulator, variant, "sync", len(on_workers)))
            on_workers[-1].wait_until_watched()
    many = _trigger(airflow, emulator, "many", "deferrable", 0)
    airflow.wait_until(
        lambda: len(many.runs()) == _MAPPED, what="fifty starts", timeout=_MAPPED_START_SECONDS
    )
    _wait_for_polls(many)
    hit = [cell for cell in on_workers if airflow.worker_of(cell.task) is worker]

    worker.kill()
    airflow.triggerer_of(many.task).kill()

    to_cancel = [emulator.add_run(project_id=PROJECT) for _ in range(3)]
    cancel = airflow.trigger("harness_cancel", {"run_ids": to_cancel})
    failed = MatrixCell(airflow, emulator, "sync", "celery-failed")
    failed.dag_run = airflow.trigger("callbacks_of_task", {"project_id": failed.project_id})
    retried = [cell for cell in hit if "retry" in cell.project_id]
    with suppress(NotInTimeError):  # the tests report it
        for cell in retried:
            cell.wait_for_polls(cell.runs()[0])
        _wait_for_polls(many)
    lost = [cell for cell in hit if cell not in retried]
    unaffected = [cell for cell in on_workers if cell not in hit]
    for cell in [*retried, *unaffected, many]:
        for run in cell.runs():
            cell.end_run(run)
    many.dag_run.wait_for("success", "failed", timeout=_MAPPED_START_SECONDS)
    for cell in [many, *on_workers]:
        cell.wait_for_end()
    for dag_run in (cancel, failed.dag_run):
        dag_run.wait_for("success", "failed")
    with suppress(NotInTimeError):
        airflow.wait_until(lambda: not failed.live_runs(), what="the failure callback")
    return Aftermath(many, retried, lost, unaffected, failed, cancel, to_cancel)


def test_each_mapped_task_succeeds_with_its_own_run(aftermath):
    """Each of fifty deferred mapped tasks survives its triggerer's loss and returns its own passed run."""
    states = aftermath.many.dag_run.task_states()
    returned = [aftermath.many.dag_run.task("tests", map_index=index).xcom() for index in range(_MAPPED)]

    assert states == {("tests", index): "success" for index in range(_MAPPED)}
    assert {each["run_id"] for each in returned} == {run.run_id for run in aftermath.many.runs()}
    assert {each["status"] for each in returned} == {"PASSED"}
    assert [run.started_with["branch"] for run in _by_map_index(aftermath.many)] == [
        f"tests/{index}" for index in range(_MAPPED)
    ]


def test_retry_resumes_the_run_of_the_killed_worker(aftermath):
    """A task on the killed worker with a retry left succeeds with the run that its first try started."""
    for cell in aftermath.retried:
        assert len(cell.runs()) == 1
        assert (cell.task.state, cell.task.try_number) == ("success", 2)


def test_run_without_a_retry_left_is_cancelled(aftermath, emulator):
    """A task on the killed worker with no retry left fails, and its failure callback cancels its run."""
    for cell in aftermath.lost:
        assert cell.task.state == "failed"
        assert [emulator.status(run.run_id) for run in cell.runs()] == ["CANCELLED"]


def test_other_worker_is_not_affected(aftermath):
    """A task on the worker that was not killed succeeds in its first try."""
    for cell in aftermath.unaffected:
        assert (cell.task.state, cell.task.try_number) == ("success", 1)


def test_cancel_operator_works_with_one_worker_left(aftermath, emulator):
    """A cancel operator that is started right after a worker was killed cancels its runs."""
    assert aftermath.cancel.task("cancel").xcom() == aftermath.to_cancel
    assert {emulator.status(run_id) for run_id in aftermath.to_cancel} == {"CANCELLED"}


def test_failure_callback_cancels_with_one_worker_left(aftermath, emulator):
    """With one worker left, a failed task's callback cancels the runs of plain, mapped and grouped tasks."""
    assert aftermath.failed.dag_run.state == "failed"
    assert [emulator.status(run.run_id) for run in aftermath.failed.runs()] == ["CANCELLED"] * 4


def test_no_run_is_left_live_or_doubled(aftermath):
    """Each task has started one run, no run is left live, and each task's state is that of its run."""
    on_workers = [*aftermath.retried, *aftermath.lost, *aftermath.unaffected]

    verdicts = {cell.project_id: judge(cell.runs(), cell.task.state) for cell in on_workers}

    assert set(verdicts.values()) == {CellVerdict.OK}, verdicts
    assert [len(cell.runs()) for cell in on_workers] == [1] * len(on_workers)
    assert len(aftermath.many.runs()) == _MAPPED
    assert not aftermath.many.live_runs()


def _trigger(
    airflow: AirflowUnderTest, emulator: StablyEmulator, variant: str, mode: str, number: int
) -> MatrixCell:
    cell = MatrixCell(airflow, emulator, mode, f"celery-{variant}-{number}")
    cell.trigger(variant, script="hangs", map_index=0 if variant == "many" else -1)
    return cell


def _is_ready(worker: Program) -> bool:
    return f"celery@{worker.name} ready" in worker.log.read_text()


def _worker_to_kill(airflow: AirflowUnderTest, cells: list[MatrixCell]) -> Program | None:
    """Return a worker with tasks of both variants once both workers have tasks; None before."""
    variants: dict[str, set[bool]] = {}
    for cell in cells:
        variants.setdefault(airflow.worker_of(cell.task).name, set()).add("retry" in cell.project_id)
    both = [airflow.programs[name] for name, found in variants.items() if len(found) == 2]
    return both[0] if both and len(variants) == len(CELERY_WORKERS) else None


def _wait_for_polls(cell: MatrixCell) -> None:
    """Wait until the status of each of a cell's runs has been requested from now on."""
    before = {run.run_id: _polls(cell, run.run_id) for run in cell.runs()}
    cell.airflow.wait_until(
        lambda: all(_polls(cell, run_id) > polls for run_id, polls in before.items()),
        what=f"status requests about all {len(before)} runs of {cell.project_id}",
        timeout=120,
    )


def _polls(cell: MatrixCell, run_id: str) -> int:
    return len(cell.emulator.requests("get", run_id=run_id))


def _by_map_index(cell: MatrixCell) -> list:
    return sorted(cell.runs(), key=lambda run: int(run.started_with["branch"].rpartition("/")[2]))

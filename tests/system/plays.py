"""What is done to the task of a cell while its Stably run goes on."""

from __future__ import annotations

import math
from contextlib import suppress

from airflow_provider_stably.testing import Fault
from airflow_provider_stably.testing.emulator import EmulatedRun
from tests.system.matrix_cell import MatrixCell
from tests.system.versions import DETECTION_SECONDS, TRIGGERER_TIMEOUT_SECONDS
from tests.waiting import NotInTimeError

_FAILURES = 3
_SECOND_TRIGGERER = "triggerer-2"


def just_wait(cell: MatrixCell) -> None:
    """Let the run, the task or the DAG run end by itself."""
    cell.starting()


def mark_failed(cell: MatrixCell) -> None:
    """Mark the task failed while it waits."""
    cell.watched()
    cell.task.set_state("failed")


def mark_success(cell: MatrixCell) -> None:
    """Mark the task a success while it waits."""
    cell.watched()
    cell.task.set_state("success")


def clear_while_waiting(cell: MatrixCell) -> None:
    """Clear the task while it waits; the next run passes."""
    cell.watched()
    cell.task.clear()
    cell.end(cell.watched(2))


def clear_after_the_end(cell: MatrixCell) -> None:
    """Clear the task after its run has passed; the next run passes, too."""
    cell.end(cell.watched())
    cell.dag_run.wait_for("success")
    cell.task.clear()
    cell.end(cell.watched(2))


def fail_dag_run(cell: MatrixCell) -> None:
    """Set the DAG run failed while the task waits."""
    cell.watched()
    cell.dag_run.set_state("failed")


def fail_while_starting(cell: MatrixCell) -> None:
    """Mark the task failed while it waits for the answer to its start."""
    cell.starting()
    cell.task.set_state("failed")


def fail_with_cancel_failing_once(cell: MatrixCell) -> None:
    """Mark the task failed, and let the first cancel call fail."""
    cell.watched()
    cell.inject(Fault(status=503), call="cancel")
    cell.task.set_state("failed")


def give_up_before_retry(cell: MatrixCell) -> None:
    """Mark the task failed while it waits for its retry."""
    cell.task.wait_for("up_for_retry")
    cell.task.set_state("failed")


def kill_process(cell: MatrixCell) -> None:
    """Kill the task's own process."""
    cell.watched()
    cell.task.kill_process()


def kill_worker(cell: MatrixCell) -> None:
    """Kill the task's process and its supervisor."""
    cell.watched()
    cell.task.kill_worker()


def kill_worker_and_give_up(cell: MatrixCell) -> None:
    """Kill the task's process and its supervisor; mark the task failed while it waits for its retry."""
    kill_worker(cell)
    give_up_before_retry(cell)


def kill_process_and_retry(cell: MatrixCell) -> None:
    """Kill the task's own process; the run passes when the next try looks at it, or at its own."""
    run = cell.watched()
    cell.task.kill_process()
    cell.end(cell.watched_again(run))


def terminate_process_and_retry(cell: MatrixCell) -> None:
    """Ask the task's process to stop, as a worker does that shuts down; the next try's run passes."""
    cell.watched()
    cell.task.terminate_process()
    cell.end(cell.watched(2))


def kill_worker_and_retry(cell: MatrixCell) -> None:
    """Kill the task's process and its supervisor; the next try's run passes."""
    run = cell.watched()
    cell.task.kill_worker()
    cell.end(cell.watched_again(run))


def kill_worker_and_delay_callbacks(cell: MatrixCell) -> None:
    """Kill the worker, and let callbacks be called only when the next try watches its run.

    On Airflow 2.11 there is no next try before they were called.
    """
    run = cell.watched()
    with cell.airflow.programs["dag-processor"].paused(), suppress(NotInTimeError):
        cell.task.kill_worker()
        cell.watched_again(run, timeout=2 * DETECTION_SECONDS)
    cell.called_back()
    last = cell.watched_again(run)
    _give_time_for_wrong_cancelling(cell, last)
    cell.end(last)


def kill_worker_while_starting(cell: MatrixCell) -> None:
    """Kill the worker before the answer to the start is there; a run of the next try passes."""
    cell.starting()
    cell.task.kill_worker()
    cell.airflow.wait_until(
        lambda: len(cell.runs()) > 1 or cell.task.state == "failed", what="the next try to start or to fail"
    )
    for run in cell.runs()[1:]:
        cell.end(run)


def refuse_service(cell: MatrixCell) -> None:
    """Let status requests be answered by 503, then pass."""
    _fail_looks(cell, Fault(status=503))


def cut_connections(cell: MatrixCell) -> None:
    """Let status requests lose their connection, then pass."""
    _fail_looks(cell, Fault(drop=True))


def never_answer(cell: MatrixCell) -> None:
    """Let status requests time out, then pass."""
    _fail_looks(cell, Fault(delay=math.inf))


def cancel_in_dashboard(cell: MatrixCell) -> None:
    """Let somebody cancel the run in Stably's dashboard."""
    cell.end(cell.watched(), "is-cancelled")


def rotate_key(cell: MatrixCell) -> None:
    """Put a new key into the connection, then let the old one be refused."""
    run = cell.watched()
    cell.airflow.change_connection(f"stably_rotated_{cell.mode}", password="the-new-key")
    cell.emulator.api_key = "the-new-key"
    cell.looked_at_again(run, times=2)
    cell.end(run)


def revoke_key(cell: MatrixCell) -> None:
    """Let the key be refused, and put the new one into the connection when the task has given up."""
    cell.watched()
    cell.emulator.api_key = "the-new-key"
    cell.task.wait_for("failed")
    cell.airflow.change_connection(f"stably_revoked_{cell.mode}", password="the-new-key")


def mark_without_triggerer(cell: MatrixCell) -> None:
    """Mark the task failed while there is no triggerer."""
    cell.watched()
    cell.airflow.triggerer.kill()
    cell.task.set_state("failed")
    cell.airflow.triggerer.start()


def kill_triggerer(cell: MatrixCell) -> None:
    """Kill the triggerer with SIGKILL and start it again."""
    run = cell.watched()
    cell.airflow.triggerer.kill()
    cell.airflow.triggerer.start()
    cell.looked_at_again(run)
    cell.end(run)


def terminate_triggerer(cell: MatrixCell) -> None:
    """Stop the triggerer in an orderly way and start it again."""
    run = cell.watched()
    cell.airflow.triggerer.terminate()
    cell.airflow.triggerer.start()
    cell.looked_at_again(run)
    cell.end(run)


def take_over(cell: MatrixCell) -> None:
    """Kill the triggerer while another one is there."""
    run = cell.watched()
    second = cell.airflow.start_triggerer(_SECOND_TRIGGERER)
    try:
        cell.airflow.triggerer.kill()
        cell.looked_at_again(run)
        cell.end(run)
        cell.task.wait_for("success")
    finally:
        cell.airflow.triggerer.start()
        second.terminate()


def stall_triggerer(cell: MatrixCell) -> None:
    """Let the triggerer stand still until another one has its work, and go on then."""
    run = cell.watched()
    second = cell.airflow.start_triggerer(_SECOND_TRIGGERER)
    try:
        with cell.airflow.triggerer.paused():
            cell.airflow.wait_until(
                lambda: cell.airflow.triggerer_of(cell.task) is second,
                what="the other triggerer to take over",
                timeout=60 + TRIGGERER_TIMEOUT_SECONDS,
            )
            cell.looked_at_again(run)
        _give_time_for_wrong_cancelling(cell, run)
        cell.end(run)
        cell.task.wait_for("success")
    finally:
        second.terminate()


def _give_time_for_wrong_cancelling(cell: MatrixCell, run: EmulatedRun) -> None:
    """Wait until a stalled triggerer, or a late callback, would have cancelled the run by mistake."""
    with suppress(NotInTimeError):
        cell.airflow.wait_until(lambda: run not in cell.live(), what="a wrong cancelling", timeout=6)


def _fail_looks(cell: MatrixCell, fault: Fault) -> None:
    run = cell.watched()
    cell.inject(fault, call="get", times=_FAILURES)
    cell.looked_at_again(run, times=_FAILURES + 1)
    cell.end(run)

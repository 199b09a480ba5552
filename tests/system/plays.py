"""What each scenario of the matrix does to a task while its Stably run is live."""

from __future__ import annotations

import math
from contextlib import suppress

from airflow_provider_stably.testing import Fault
from airflow_provider_stably.testing.emulated_run import EmulatedRun
from tests.system.matrix_cell import MatrixCell
from tests.system.versions import DETECTION_SECONDS, TRIGGERER_TIMEOUT_SECONDS
from tests.waiting import NotInTimeError

_FAILURES = 3
_NOT_FOUND = Fault(status=404, body={"error": "Run not found"})
_SECOND_TRIGGERER = "triggerer-2"


def just_wait(cell: MatrixCell) -> None:
    """Do nothing but wait for the start: the run, the task or the DAG run ends by itself."""
    cell.wait_for_start()


def end_at_once(cell: MatrixCell) -> None:
    """End the run as soon as it is started; it passes."""
    cell.end_run(cell.wait_for_start())


def mark_failed(cell: MatrixCell) -> None:
    """Mark the task failed while it waits for its run."""
    cell.wait_until_watched()
    cell.task.set_state("failed")


def mark_success(cell: MatrixCell) -> None:
    """Mark the task as success while it waits for its run."""
    cell.wait_until_watched()
    cell.task.set_state("success")


def clear_while_waiting(cell: MatrixCell) -> None:
    """Clear the task while it waits for its run; the next run passes."""
    cell.wait_until_watched()
    cell.task.clear()
    cell.end_run(cell.wait_until_watched(2))


def clear_after_the_end(cell: MatrixCell) -> None:
    """Clear the task after its run has passed; the next run also passes."""
    cell.end_run(cell.wait_until_watched())
    cell.dag_run.wait_for("success")
    cell.task.clear()
    cell.end_run(cell.wait_until_watched(2))


def fail_dag_run(cell: MatrixCell) -> None:
    """Set the DAG run to failed while the task waits for its run."""
    cell.wait_until_watched()
    cell.dag_run.set_state("failed")


def fail_while_starting(cell: MatrixCell) -> None:
    """Mark the task failed while it waits for the answer to its start request."""
    cell.wait_for_start()
    cell.task.set_state("failed")


def fail_with_cancel_failing_once(cell: MatrixCell) -> None:
    """Mark the task failed while a poll has no answer, and make the first cancel call fail."""
    _fail_while_polling(cell, Fault(status=503))


def fail_with_cancel_answering_522_once(cell: MatrixCell) -> None:
    """Mark the task failed while a poll has no answer; the service's front end answers the first cancel."""
    _fail_while_polling(cell, Fault(status=522))


def give_up_before_retry(cell: MatrixCell) -> None:
    """Mark the task failed while it waits for its retry."""
    cell.task.wait_for("up_for_retry")
    cell.task.set_state("failed")


def kill_process(cell: MatrixCell) -> None:
    """Kill the task's own process."""
    cell.wait_until_watched()
    cell.task.kill_process()


def kill_worker(cell: MatrixCell) -> None:
    """Kill the task's process and its supervisor."""
    cell.wait_until_watched()
    cell.task.kill_worker()


def kill_worker_and_give_up(cell: MatrixCell) -> None:
    """Kill the task's process and its supervisor, and mark the task failed while it waits for its retry."""
    kill_worker(cell)
    give_up_before_retry(cell)


def kill_process_and_retry(cell: MatrixCell) -> None:
    """Kill the task's own process; the run that the next try watches passes."""
    run = cell.wait_until_watched()
    cell.task.kill_process()
    cell.end_run(cell.wait_for_next_try(run))


def terminate_process_and_retry(cell: MatrixCell) -> None:
    """Terminate the task's process, as a worker does when it shuts down; the next try's run passes."""
    cell.wait_until_watched()
    cell.task.terminate_process()
    cell.end_run(cell.wait_until_watched(2))


def kill_worker_and_retry(cell: MatrixCell) -> None:
    """Kill the task's process and its supervisor; the run that the next try watches passes."""
    run = cell.wait_until_watched()
    cell.task.kill_worker()
    cell.end_run(cell.wait_for_next_try(run))


def kill_worker_and_hide_run(cell: MatrixCell) -> None:
    """Kill the worker, and let the run answer 404 when the next try asks for it first; the run passes."""
    run = cell.wait_until_watched()
    cell.task.kill_worker()
    cell.inject(_NOT_FOUND, call="get", times=_FAILURES)
    last = cell.wait_for_next_try(run)
    cell.wait_for_polls(last, count=_FAILURES)
    cell.end_run(last)


def kill_worker_and_delay_callbacks(cell: MatrixCell) -> None:
    """Kill the worker, and delay its callbacks until the next try watches its run.

    Airflow 2.11 starts no next try before it has called them, so the delay ends in time there.
    """
    run = cell.wait_until_watched()
    with cell.airflow.programs["dag-processor"].paused(), suppress(NotInTimeError):
        cell.task.kill_worker()
        cell.wait_for_next_try(run, timeout=2 * DETECTION_SECONDS)
    cell.wait_for_callback()
    last = cell.wait_for_next_try(run)
    _allow_time_for_wrong_cancel(cell, last)
    cell.end_run(last)


def kill_worker_while_starting(cell: MatrixCell) -> None:
    """Kill the worker before it has the answer to its start request; a run of the next try passes."""
    cell.wait_for_start()
    cell.task.kill_worker()
    cell.airflow.wait_until(
        lambda: len(cell.runs()) > 1 or cell.task.state == "failed", what="the next try to start or to fail"
    )
    for run in cell.runs()[1:]:
        cell.end_run(run)


def refuse_service(cell: MatrixCell) -> None:
    """Answer some status requests with 503; then the run passes."""
    _fail_status_calls(cell, Fault(status=503))


def cut_connections(cell: MatrixCell) -> None:
    """Drop the connection of some status requests; then the run passes."""
    _fail_status_calls(cell, Fault(drop=True))


def never_answer(cell: MatrixCell) -> None:
    """Leave some status requests unanswered; then the run passes."""
    _fail_status_calls(cell, Fault(delay=math.inf))


def refuse_for_a_while(cell: MatrixCell) -> None:
    """Answer all calls with 403 for some 20 seconds; then the run passes."""
    _fail_status_calls(cell, Fault(status=403), call=None, times=20)


def refuse_for_good(cell: MatrixCell) -> None:
    """Answer all calls with 403 from now on; the run's cancel is tried all the same."""
    run = cell.wait_until_watched()
    cell.inject(Fault(status=403), times=math.inf)
    cell.wait_for_cancel(run)


def hide_at_first(cell: MatrixCell) -> None:
    """Answer the first polls after the start with 404; the run passes."""
    cell.inject(_NOT_FOUND, call="get", times=_FAILURES)
    run = cell.wait_for_start()
    cell.wait_for_polls(run, count=_FAILURES + 1)
    cell.end_run(run)


def hide_for_good(cell: MatrixCell) -> None:
    """Answer every poll with 404; the cancel finds the run, so the retry starts another."""
    cell.inject(_NOT_FOUND, call="get", times=math.inf)
    cell.wait_for_cancel(cell.wait_for_start())


def throttle(cell: MatrixCell) -> None:
    """Answer start and polls several times with 429 and ``Retry-After``; the run passes."""
    later = Fault(status=429, headers={"Retry-After": "1"})
    cell.inject(later, call="start", times=_FAILURES)
    cell.inject(later, call="get", times=2 * _FAILURES)
    run = cell.wait_for_start()
    cell.wait_for_polls(run, count=2 * _FAILURES + 1)
    cell.end_run(run)


def cancel_in_dashboard(cell: MatrixCell) -> None:
    """Cancel the run as a user does in Stably's dashboard."""
    cell.end_run(cell.wait_until_watched(), "is-cancelled")


def rotate_key(cell: MatrixCell) -> None:
    """Put a new key into the connection, then revoke the old one; the run passes."""
    run = cell.wait_until_watched()
    cell.airflow.change_connection(f"stably_rotated_{cell.mode}", password="the-new-key")
    cell.emulator.api_key = "the-new-key"
    cell.wait_for_valid_key(run)
    cell.end_run(run)


def revoke_key(cell: MatrixCell) -> None:
    """Revoke the key, and put a new one into the connection some refusals later; the run passes."""
    run = cell.wait_until_watched()
    cell.emulator.api_key = "the-new-key"
    cell.wait_for_polls(run, count=_FAILURES)
    cell.airflow.change_connection(f"stably_revoked_{cell.mode}", password="the-new-key")
    cell.wait_for_valid_key(run)
    cell.end_run(run)


def hand_back(cell: MatrixCell) -> None:
    """Wait until the worker watches the run, which the triggerer could not; the run passes."""
    run = cell.wait_for_start()
    cell.task.wait_for("deferred")
    cell.task.wait_for("running")
    cell.wait_for_polls(run, count=2)
    cell.end_run(run)


def mark_without_triggerer(cell: MatrixCell) -> None:
    """Mark the task failed while no triggerer is alive."""
    cell.wait_until_watched()
    cell.airflow.triggerer.kill()
    cell.task.set_state("failed")
    cell.airflow.triggerer.start()


def time_out_and_give_up(cell: MatrixCell) -> None:
    """Let the deferral time out while no triggerer is alive, and mark the task failed before its retry."""
    cell.airflow.triggerer.kill()
    try:
        cell.wait_for_start()
        give_up_before_retry(cell)
    finally:
        cell.airflow.triggerer.start()


def kill_triggerer(cell: MatrixCell) -> None:
    """Kill the triggerer with SIGKILL and start it again; the run passes."""
    run = cell.wait_until_watched()
    cell.airflow.triggerer.kill()
    cell.airflow.triggerer.start()
    cell.wait_for_polls(run)
    cell.end_run(run)


def terminate_triggerer(cell: MatrixCell) -> None:
    """Terminate the triggerer with SIGTERM and start it again; the run passes."""
    run = cell.wait_until_watched()
    cell.airflow.triggerer.terminate()
    cell.airflow.triggerer.start()
    cell.wait_for_polls(run)
    cell.end_run(run)


def take_over(cell: MatrixCell) -> None:
    """Kill the triggerer while a second one is up, which takes over; the run passes."""
    run = cell.wait_until_watched()
    second = cell.airflow.start_triggerer(_SECOND_TRIGGERER)
    try:
        cell.airflow.triggerer.kill()
        cell.wait_for_polls(run)
        cell.end_run(run)
        cell.task.wait_for("success")
    finally:
        cell.airflow.triggerer.start()
        second.terminate()


def stall_triggerer(cell: MatrixCell) -> None:
    """Pause the triggerer until a second one has taken over, then resume it; the run passes."""
    run = cell.wait_until_watched()
    second = cell.airflow.start_triggerer(_SECOND_TRIGGERER)
    try:
        with cell.airflow.triggerer.paused():
            cell.airflow.wait_until(
                lambda: cell.airflow.triggerer_of(cell.task) is second,
                what="the other triggerer to take over",
                timeout=60 + TRIGGERER_TIMEOUT_SECONDS,
            )
            cell.wait_for_polls(run)
        _allow_time_for_wrong_cancel(cell, run)
        cell.end_run(run)
        cell.task.wait_for("success")
    finally:
        second.terminate()


def _allow_time_for_wrong_cancel(cell: MatrixCell, run: EmulatedRun) -> None:
    """Wait as long as a resumed triggerer, or a late callback, takes to cancel a run that is not its own."""
    with suppress(NotInTimeError):
        cell.airflow.wait_until(lambda: run not in cell.live_runs(), what="a wrong cancel", timeout=6)


def _fail_while_polling(cell: MatrixCell, fault: Fault) -> None:
    """Mark the task failed while its worker waits for an answer: only ``on_kill`` can repeat the cancel."""
    run = cell.wait_until_watched()
    cell.inject(Fault(delay=math.inf), call="get")
    cell.wait_for_polls(run)
    cell.inject(fault, call="cancel")
    cell.task.set_state("failed")


def _fail_status_calls(
    cell: MatrixCell, fault: Fault, *, call: str | None = "get", times: int = _FAILURES
) -> None:
    run = cell.wait_until_watched()
    cell.inject(fault, call=call, times=times)
    cell.wait_for_polls(run, count=times + 1, timeout=90)
    cell.end_run(run)

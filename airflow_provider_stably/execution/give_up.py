"""What becomes of a task's run when the task stops watching it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_stably.execution.clients import Clients
from airflow_provider_stably.execution.kill import cancel_at_once
from airflow_provider_stably.execution.ownership import Ownership
from airflow_provider_stably.execution.results import push_unfinished
from airflow_provider_stably.execution.start import push_reference
from airflow_provider_stably.runs import watch
from airflow_provider_stably.runs.cancel import CancelResult, cancel
from airflow_provider_stably.runs.driver import BlockingDriver, run_blocking
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.start_record import StartRecords


@dataclass(slots=True, repr=False)
class GiveUp:
    """The ways in which a task parts with the run of its ``ownership``, if that names one."""

    context: Any
    log: Any
    records: StartRecords
    ownership: Ownership
    clients: Clients
    _is_killing: bool = field(default=False, init=False)

    def kill(self) -> None:
        """Cancel the run, in a signal handler, within the five seconds that Airflow 3 leaves."""
        run = self.ownership.run_to_cancel
        if self._is_killing:
            return  # a second signal
        client = self.clients.on_kill
        if run is not None and client is not None:
            self._is_killing = True
            if cancel_at_once(run, client, self.log):
                self.ownership.part()
            self._is_killing = False
        # Only now: execute, which may go on meanwhile, heeds it as soon as it knows its run.
        self.ownership.is_killed = True

    @contextmanager
    def unless_done(self) -> Iterator[None]:
        """Cancel the run if the block raises, and forbid a retry beside it.

        Not if the task defers: then the trigger watches, and until it does, on_kill still can.
        """
        with self.without_retry():
            try:
                yield
            except TaskDeferred:
                raise
            except BaseException:
                self.cancel()
                raise

    @contextmanager
    def without_retry(self) -> Iterator[None]:
        """Forbid a retry beside the run if the block raises, while it cancels, too."""
        try:
            yield
        except TaskDeferred:
            raise
        except BaseException as error:
            self.forbid_retry(error)
            raise

    def cancel(self) -> RunSummary | None:
        """Cancel the run, unless on_kill has already, and record what is known.

        :returns: The run's results if it was over by itself.
        """
        run, summary = self.ownership.run_to_cancel, None
        if run is None:
            return None
        try:
            with best_effort(f"Run {run.run_id} could not be cancelled"):
                summary = self._cancel(run).summary
        finally:
            if self.ownership.run_to_cancel is not None:
                self.records.keep(run)
                if not self.ownership.may_be_pushed:  # the start was interrupted
                    with best_effort("The XCom by which clean-ups find the run could not be pushed"):
                        push_reference(run, self.context, self.ownership)
        return summary

    def _cancel(self, run: RunReference) -> CancelResult:
        clients = self.clients
        if clients.on_kill is None:  # the task stops while its connection is missing
            clients.connect()
        sleep = self.ownership.sleep_less_if_killed
        driver = BlockingDriver(clients.at_last, sleep=sleep, reconnect=lambda: clients.reconnect().at_last)
        result = run_blocking(cancel(run, driver, patience=watch.CANCEL_PATIENCE_SECONDS))
        self.log.info("Run %s is no longer watched; cancel result: %s", run.run_id, result)
        if not self.ownership.is_killed:  # then there is no time left
            push_unfinished(self.context, run, result)
        if result.is_over:
            self.ownership.part()
            self.close_record(run, is_cancelled=True)
        return result

    def forbid_retry(self, cause: BaseException | str) -> None:
        """Fail for good if the run may be live and the next try would start another one beside it.

        :param cause: Why the task ends. Airflow retries it after anything but a keyboard's interruption.
        :raises AirflowFailException: on Airflow before 3.3.
        """
        run = self.ownership.watched
        if run is not None and not isinstance(cause, KeyboardInterrupt) and not self.records.survive_retries:
            raise AirflowFailException(
                f"{cause}; run {run.run_id} may still be running, so this task is not retried: cancel it, "
                f"then clear the task; see {run.run_url}"
            ) from None

    def close_record(self, run: RunReference, *, is_cancelled: bool) -> None:
        """Record that a run is over; but not in a process that was killed.

        A kill may come late, to one that Airflow has replaced: from the record the next try, which has taken
        up the run, knows that nobody cancelled that on purpose.

        :param is_cancelled: Whether this task may have cancelled it, which may come as late; else the record
            is deleted.
        """
        if self.ownership.is_killed:
            return
        if is_cancelled:
            self.records.mark_over(run)
        else:
            self.records.delete_of(run)

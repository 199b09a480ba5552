"""Wait for the end of the run that a task starts, and cancel it if the task stops waiting."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_stably.exceptions import StablyConfigError
from airflow_provider_stably.execution.clients import Clients
from airflow_provider_stably.execution.fail_for_good import not_retried, task_error
from airflow_provider_stably.execution.give_up import GiveUp
from airflow_provider_stably.execution.options import RunTestsOptions
from airflow_provider_stably.execution.ownership import Ownership
from airflow_provider_stably.execution.results import publish, write_junit
from airflow_provider_stably.execution.start import Starter, earlier_run_is_open, push_reference
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs import watch
from airflow_provider_stably.runs.belief import Belief
from airflow_provider_stably.runs.cancel import CancelOutcome, CancelResult
from airflow_provider_stably.runs.driver import run_blocking
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary
from airflow_provider_stably.runs.watch import poll_again, settle
from airflow_provider_stably.runs.watch_result import HANDED_BACK, WatchEnd, WatchResult
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.deadline import deferred_deadline
from airflow_provider_stably.tasks.start_record import StartRecords
from airflow_provider_stably.tasks.xcom import own_run, own_run_of_this_try
from airflow_provider_stably.triggers.stably import wait_in_triggerer

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class RunTests:
    """One execution of the operator, in one process.

    Which run it has to cancel when it stops, ``_ownership.run_to_cancel``:

    ======== ============================================== =====================================
    state    the run                                        if the task is killed or fails now
    ======== ============================================== =====================================
    idle     none                                           nothing to cancel
    starting none yet; the start is on its way              cancelled as soon as its id is known
    owned    set: started, or resumed from an earlier try   cancelled
    released none: over, deferred, or fire-and-forget       left to the trigger, or left alone
    ======== ============================================== =====================================
    """

    def __init__(self, options: RunTestsOptions, context: Context, log: Any) -> None:
        self._options = options
        self._context = context
        self._log = log
        self._records = StartRecords(context)
        self._ownership = Ownership(options.cancel_on_kill)
        self._clients = Clients(options.stably_conn_id, self._ownership)
        self._give_up = GiveUp(context, log, self._records, self._ownership, self._clients)
        self._is_first_part = False

    def execute(self) -> dict[str, Any]:
        """Start the run and, by default, wait for its end; see the operator."""
        self._is_first_part = True
        with self._give_up.unless_done():
            run = self._resume_or_start()
            self._ownership.stop_if_killed()
            if self._options.wait_for_completion and self._options.deferrable:
                self._defer(run)
            deadline = _started_at(run) + self._options.timeout
            result = self._watch(run, deadline) if self._options.wait_for_completion else None
        if result is None:
            self._ownership.part()  # left alone: a late on_kill must not cancel it
            return RunSummary.of(run, None).return_value()
        return self._end(result, run)

    @property
    def knows_no_run(self) -> bool:
        """Whether this process began the task and has pushed no run, so that no XCom needs to be read."""
        return self._is_first_part and not self._ownership.may_be_pushed

    def resumes_another_try(self) -> bool:
        """Whether Airflow resumes this try with the event of the try before it.

        Airflow 3.0 does so after a deferred task's retry: apache/airflow#56704. Remove when the oldest
        supported Airflow is 3.1.
        """
        with best_effort("The XCom of this task could not be read"):
            own = own_run(self._context["ti"])
            return own is not None and own.try_number != self._context["ti"].try_number
        return False

    def complete(self, event: object) -> dict[str, Any]:
        """End the task with the trigger's event; watch or cancel the run where the triggerer could not."""
        try:
            result = WatchResult.from_event(event)
        except (ValueError, TypeError) as error:
            cause = f"The trigger's event cannot be read: {error}"
            ended = self.cancel_pushed_run(cause)
            if ended is not None:
                return ended
            raise AirflowFailException(cause) from None
        with self._give_up.unless_done():
            if not result.is_over and result.end is not WatchEnd.HANDED_BACK:
                result = self._settle(result)
            if result.end is WatchEnd.HANDED_BACK:
                result = self._go_on_watching(result)
            run = self._run_of(result)
        return self._end(result, run)

    def _go_on_watching(self, result: WatchResult) -> WatchResult:
        self._log.warning(HANDED_BACK, result.run.run_id, result.detail)
        run = self._ownership.own(self._run_of(result))
        # The trigger's: Airflow 3 begins an execution_timeout anew, and 3.0 and 3.1 a task's start, too.
        deadline = result.deadline or _started_at(run) + self._options.timeout
        try:
            self._clients.connect_for(run, until=deadline)
        except StablyConfigError as error:
            unknown = CancelOutcome.UNKNOWN if self._options.cancel_on_kill else None
            return replace(result, end=WatchEnd.TIMED_OUT, detail=str(error), cancellation=unknown)
        return self._watch(run, deadline)

    def _settle(self, result: WatchResult) -> WatchResult:
        rule = settle if self._options.cancel_on_kill else poll_again
        with best_effort(f"Run {result.run.run_id} could not be settled"):
            run = self._ownership.own(self._run_of(result))
            self._clients.connect_for(run, until=time.time() + watch.CANCEL_PATIENCE_SECONDS)
            return run_blocking(rule(run, self._clients.driver(), result))
        self._ownership.stop_if_killed()
        return result

    def _run_of(self, result: WatchResult) -> RunReference:
        """Return the run of a trigger's event; its XCom also says when it was started."""
        run = RunReference(result.run.run_id, result.run.project_id, self._options.stably_conn_id)
        with best_effort("The XCom of this task could not be read"):
            own = own_run(self._context["ti"])
            return own.run if own is not None and own.run == run else run
        return run

    def cancel_pushed_run(self, cause: str = "The trigger of this task was lost") -> dict[str, Any] | None:
        """Cancel the run that this task's XCom or start record names: nobody watches it any more.

        One that is not the task's to cancel is polled once.

        :param cause: Why that is so.
        :returns: What the task returns, if the run has passed meanwhile.
        :raises AirflowFailException: before Airflow 3.3, if a retry would start a run beside it.
        """
        own = summary = None
        try:
            with self._give_up.unless_done():
                with best_effort("The run of this task could not be cancelled"):
                    own = own_run_of_this_try(self._context)
                    if own is not None:
                        self._ownership.cancel_on_kill &= own.cancel_on_kill
                        run = self._ownership.own(own.run)
                        until = time.time() + watch.CANCEL_PATIENCE_SECONDS
                        self._clients.connect_for(run, until=until)
                        if not self._ownership.cancel_on_kill:
                            summary = self._poll_at_last(run)
                summary = summary or self._give_up.cancel()
        finally:
            if own is None and not self._records.survive_retries:
                raise AirflowFailException(
                    f"{cause}; no XCom tells which run it watched, so this task is not retried: look for the "
                    "run in the dashboard, cancel it, then clear the task"
                ) from None
        if own is not None and summary is not None:
            return self._end(WatchResult(WatchEnd.FINISHED, summary), own.run)
        self._give_up.forbid_retry(cause)
        return None

    def _poll_at_last(self, run: RunReference) -> RunSummary | None:
        """Return the results of a run that is not the task's to cancel, if it is over."""
        unseen = WatchResult(WatchEnd.TIMED_OUT, RunSummary.of(run, None))
        polled = run_blocking(poll_again(run, self._clients.driver(), unseen))
        return polled.run if polled.is_over else None

    def kill(self) -> None:
        """Cancel the run at once, in a signal handler."""
        self._give_up.kill()

    def _resume_or_start(self) -> RunReference:
        hook = self._connect()
        return Starter(
            self._options,
            self._context,
            self._log,
            self._records,
            self._ownership,
            hook,
            self._clients,
            self._give_up.kill,
        ).resume_or_start()

    def _connect(self) -> StablyHook:
        """Look the connection up; where an earlier try left a run for this one, again until that works."""
        try:
            return self._clients.connect()
        except StablyConfigError as error:
            run = self._earlier_run()
            if run is None:
                raise task_error(error) from None
        self._ownership.own(run)
        push_reference(run, self._context, self._ownership)
        try:
            return self._clients.connect_for(run, until=time.time() + watch.CANCEL_PATIENCE_SECONDS)
        except StablyConfigError as error:
            raise earlier_run_is_open(run, CancelResult(CancelOutcome.UNKNOWN, detail=str(error))) from None

    def _earlier_run(self) -> RunReference | None:
        record, ti = self._records.read(), self._context["ti"]
        if record is None:
            return None
        run = record.run_of(ti.try_number, cancel_on_kill=self._options.cancel_on_kill)
        return run if run is not None and run.stably_conn_id == self._options.stably_conn_id else None

    def _defer(self, run: RunReference) -> None:
        self._log.info("Waiting for run %s in the triggerer", run.run_id)
        try:
            wait_in_triggerer(
                run,
                stably_conn_id=self._options.stably_conn_id,
                deadline=deferred_deadline(
                    self._context, from_time=_started_at(run), timeout=self._options.timeout
                ),
                poll_interval=self._options.poll_interval,
                cancel_on_kill=self._options.cancel_on_kill,
                queue_deadline=self._queue_deadline(run),
            )
        except TaskDeferred:
            self._ownership.stop_if_killed()  # or the trigger would take the run for cancelled on purpose
            raise

    def _watch(self, run: RunReference, deadline: float) -> WatchResult:
        driver = self._clients.driver()
        result = run_blocking(
            watch.watch(
                run,
                driver,
                Belief(key_has_worked=True),
                started_at=_started_at(run),
                deadline=deadline,
                poll_interval=self._options.poll_interval,
                queue_deadline=self._queue_deadline(run),
            )
        )
        return run_blocking(settle(run, driver, result)) if self._options.cancel_on_kill else result

    def _queue_deadline(self, run: RunReference) -> float | None:
        timeout = self._options.queue_timeout
        return None if timeout is None else _started_at(run) + timeout

    def _end(self, result: WatchResult, run: RunReference) -> dict[str, Any]:
        result = replace(result, run=result.run.with_queue_time(run.started_at))
        error = result.error(min_tests=self._options.min_tests)
        if result.is_over:
            self._ownership.part()  # a late on_kill must not cancel it
        else:  # a task that is cleared cancels the run first, and a retry goes on with it
            self._records.keep(run)
        with self._give_up.without_retry():
            publish(self._context, result, error, branch=self._options.branch)
            write_junit(self._options, result, error, is_killed=lambda: self._ownership.is_killed)
        self._ownership.part()
        may_retry = result.may_retry(
            next_try_knows_run=self._records.survive_retries,
            may_be_our_cancel=self._ownership.is_killed or self._is_resumed(),
        )
        if result.is_over:
            self._give_up.close_record(run, is_cancelled=result.end is not WatchEnd.FINISHED)
        if error is None:
            self._log.info("%s", result.run.report)
            return result.run.return_value()
        self._log.error("%s", result.run.report)
        if may_retry:
            raise error
        raise not_retried(error) from None

    def _is_resumed(self) -> bool:
        """Whether an earlier try has started the run."""
        with best_effort("The record of this task's start could not be read"):
            record = self._records.read()
            return record is not None and record.try_number not in {None, self._context["ti"].try_number}
        return False


def _started_at(run: RunReference) -> float:
    """Return when a run was started: never in the future, whatever an XCom or a record says."""
    return min(time.time(), math.inf if run.started_at is None else run.started_at)

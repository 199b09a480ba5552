"""Start a run, wait for its end, account for the results; and leave no run behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_stably.api import protocol
from airflow_provider_stably.best_effort import best_effort
from airflow_provider_stably.cancellation import OVER, CancelOutcome, cancellation
from airflow_provider_stably.conclusion import NOT_RETRYABLE, WatchResult
from airflow_provider_stably.conversation import conduct
from airflow_provider_stably.deadline import deferral_timeout, deferred_deadline
from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyCancelError,
    StablyConfigError,
    StablyError,
    StablyHTTPError,
    StablyInvalidIdError,
    StablyNotFoundError,
)
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.links.stably import RUN_URL_KEY, StablyRunLink
from airflow_provider_stably.pushed_runs import has_run_of_another_try, own_run_to_cancel
from airflow_provider_stably.run_reference import STABLY_RUN_KEY, RunReference
from airflow_provider_stably.run_summary import RunSummary
from airflow_provider_stably.start_arguments import env_overrides_as_text, text_or_none
from airflow_provider_stably.start_record import StartLedger, Unfinished
from airflow_provider_stably.triggers.stably import StablyRunTrigger
from airflow_provider_stably.uninterrupted import finish_despite_interrupt
from airflow_provider_stably.watching import supervision

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_stably.api.client import StablyClient
    from airflow_provider_stably.operators.stably import StablyRunTestsOperator


KILL_REPEAT_SECONDS = 1.0
"""How long on_kill repeats a request that fails at once: one that is slow takes 3 s more, of 5."""

KILL_PAUSE_SECONDS = 0.2
SECOND_LOOK_SECONDS = 1.0

_OVER_OR_GONE = OVER | {CancelOutcome.NOT_FOUND}


class RunTests:
    """One execution of the operator, in one process.

    :param operator: The operator, rendered.
    :param context: The task's context.
    """

    def __init__(self, operator: StablyRunTestsOperator, context: Context) -> None:
        self._operator = operator
        self._context = context
        self.log = operator.log
        self._is_killed = False
        self._own_run: RunReference | None = None
        self._started: RunReference | Unfinished | None = None

    def execute(self) -> dict[str, Any]:
        """Start the run and, unless told otherwise, wait for its end; see the operator."""
        ledger = StartLedger(self._context)
        try:
            run, started_at = self._run_to_watch(ledger)
            self._stop_if_killed()
            if self._operator.wait_for_completion and self._operator.deferrable:
                self._defer(run, started_at)
            conclusion = self._watch(run, started_at) if self._operator.wait_for_completion else None
        except TaskDeferred:
            raise  # the trigger watches from here; on_kill still can, until it does
        except BaseException:
            self._cancel_run_to_cancel(ledger)
            raise
        self._own_run = None  # over, or left to whoever waits later: a late on_kill is none of its business
        if conclusion is not None:
            return self._conclude(conclusion, ledger)
        return RunSummary.of(run, None).return_value()

    def resumes_another_try(self) -> bool:
        """Whether this try is to take up what the one before it waited for.

        Airflow 3.0 resumes the retry of a task that was deferred: apache/airflow#56704. Delete with 3.0.
        """
        with best_effort("The XCom of this task could not be read"):
            return has_run_of_another_try(self._context["ti"])
        return False

    def complete(self, event: object) -> dict[str, Any]:
        """Take up the trigger's event; see the operator."""
        try:
            conclusion = WatchResult.from_json(event)
        except (ValueError, TypeError) as error:
            self.cancel_pushed_run()
            raise AirflowFailException(f"The trigger's event cannot be read: {error}") from error
        return self._conclude(conclusion, StartLedger(self._context))

    def kill(self) -> None:
        """Ask for the run to be cancelled, within the five seconds that Airflow 3 leaves.

        Called in a signal handler: a lock of ours could be held by what is interrupted, so none is taken.
        """
        self._is_killed = True
        run = self._own_run
        if run is None:
            return  # none yet: execute sees the flag as soon as it knows the run
        call = protocol.cancel_run(run.project_id, run.run_id)
        began = time.monotonic()
        while True:
            try:
                if run.run_id in self._kill_client.send_once(call):
                    self._own_run = None
                    self.log.info("Run %s: cancelled, as the task was killed", run.run_id)
                    return
                failure, may_help = "the API does not list it as cancelled", True
            except StablyError as error:
                failure, may_help = str(error), protocol.may_replay(call, error)
            if not may_help or time.monotonic() - began > KILL_REPEAT_SECONDS:
                self.log.warning("Run %s could not be cancelled: %s", run.run_id, failure)
                return
            time.sleep(KILL_PAUSE_SECONDS)  # a second in all, for lack of a wait that takes no lock

    def _stop_if_killed(self) -> None:
        if self._is_killed:
            raise AirflowException("The task was killed before it began to wait for its run")

    def _sleep_unless_killed(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._is_killed and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, KILL_PAUSE_SECONDS))  # an Event has a lock: see kill
        self._stop_if_killed()

    def _connect(self) -> StablyHook:
        """Look the connection up and make the clients that all calls use from now on."""
        hook = StablyHook(self._operator.stably_conn_id)
        # Of its own: inside on_kill the interrupted thread may hold a lock of the other one.
        self._kill_client = hook.make_client(connect_timeout=1, read_timeout=2)
        self._client = hook.make_client(sleep=self._sleep_unless_killed)
        return hook

    def _reconnect(self) -> StablyClient:
        with best_effort("The connection cannot be read now, so the old one is kept"):
            self._connect()
        return self._client

    def _run_to_watch(self, ledger: StartLedger) -> tuple[RunReference, float]:
        """Return the run of an earlier try that goes on, else a new one, and when it was started."""
        try:
            hook = self._connect()
            return self._resume_or_cancel_earlier_run(ledger) or self._start(hook, ledger)
        except StablyError as error:
            if _is_final(error):
                raise AirflowFailException(str(error)) from error
            raise

    def _resume_or_cancel_earlier_run(self, ledger: StartLedger) -> tuple[RunReference, float] | None:
        """Deal with a run that an earlier try started and nobody finished; return it if it is to go on."""
        record = ledger.read()
        if record is None:
            return None
        if not isinstance(record.run, RunReference):
            ledger.forget()  # whoever clears the task now has been told
            raise AirflowFailException(
                "An earlier try of this task was lost while it started a run, so an untracked run may exist: "
                "look for it in the dashboard, then clear this task to start another"
            )
        run = record.run
        is_ours = run.stably_conn_id == self._operator.stably_conn_id
        goes_on = ledger.is_retry_of(record) and is_ours
        if not goes_on and not self._operator.cancel_on_kill:
            return None
        # From here on, whatever goes wrong: on_kill, callbacks and teardowns find the run.
        self._own_run = run if is_ours and self._operator.cancel_on_kill else None
        self._push_reference(run)
        if not goes_on:
            self._cancel_before_another(run)
        elif not self._is_over(run):
            self.log.info("Run %s of an earlier try goes on; see %s", run.run_id, run.run_url)
            self._push(run)
            return run, record.started_at
        self._own_run = None
        return None

    def _is_over(self, run: RunReference) -> bool:
        """Whether a run is known to be over; one that cannot be looked at is watched, for it may be live."""
        call = protocol.get_run(run.project_id, run.run_id)
        try:
            try:
                return self._client.send(call).is_finished
            except StablyNotFoundError:  # believed when seen twice: a second run beside a live one were worse
                self._sleep_unless_killed(SECOND_LOOK_SECONDS)
                return self._client.send(call).is_finished
        except StablyNotFoundError:
            return True
        except StablyError as error:
            self.log.warning("Run %s of an earlier try cannot be looked at now: %s", run.run_id, error)
            return False

    def _cancel_before_another(self, run: RunReference) -> None:
        hook = StablyHook(run.stably_conn_id or self._operator.stably_conn_id)
        verdict = conduct(cancellation(run), hook.client)
        self.log.info("Run %s of an earlier try: %s", run.run_id, verdict.outcome)
        if verdict.outcome not in _OVER_OR_GONE:
            raise StablyCancelError(
                f"Run {run.run_id} of an earlier try cannot be shown to be over ({verdict.outcome}: "
                f"{verdict.detail}), so no other is started beside it; see {run.run_url}",
                outcomes={run.run_id: verdict.to_json()},
            )

    def _start(self, hook: StablyHook, ledger: StartLedger) -> tuple[RunReference, float]:
        operator = self._operator
        try:
            project_id = text_or_none(operator.project_id, "project_id")
            which = {
                name: text_or_none(getattr(operator, name), name)
                for name in ("playwright_project_name", "branch", "environment")
            }
            overrides = env_overrides_as_text(operator.env_overrides)
        except ValueError as error:
            raise AirflowFailException(str(error)) from error
        call = protocol.start_run(hook.resolve_project_id(project_id), **which, env_overrides=overrides)
        started_at = time.time()
        self._stop_if_killed()
        ledger.note(Unfinished.STARTING, started_at)
        try:
            run = self._send_start(call)
        except BaseException as error:
            if self._started is None or isinstance(error, StablyError | AirflowException):
                ledger.forget()
            elif isinstance(self._started, RunReference):
                ledger.note(self._started, started_at)
            raise
        ledger.note(run, started_at)
        self._push(run)
        return run, started_at

    def _send_start(self, call: protocol.Call[str]) -> RunReference:
        """Send the start, and keep in ``_started`` what is known of it; for an interruption tells nothing."""

        def send() -> RunReference:
            self._started = Unfinished.STARTING
            try:
                run_id = self._client.send(call)
            except StablyAmbiguousStartError as error:
                self.log.error("%s", error)
                raise
            except (StablyError, AirflowException):
                self._started = None  # turned away, or never sent
                raise
            run = RunReference(run_id, call.project_id, self._operator.stably_conn_id)
            self._started = run
            self._own_run = run if self._operator.cancel_on_kill else None
            self.log.info("Run %s started in project %s; see %s", run.run_id, run.project_id, run.run_url)
            return run

        return finish_despite_interrupt(send, when_interrupted=self._send_no_more)

    def _send_no_more(self) -> None:
        self._is_killed = True

    def _push(self, run: RunReference) -> None:
        self._push_reference(run)
        ti = self._context["ti"]
        ti.xcom_push(key="run_id", value=run.run_id)
        ti.xcom_push(key=RUN_URL_KEY, value=run.run_url)
        ti.xcom_push(key=StablyRunLink.xcom_key, value=run.run_url)

    def _push_reference(self, run: RunReference) -> None:
        ti = self._context["ti"]
        stably_run = run.to_xcom(try_number=ti.try_number, cancel_on_kill=self._operator.cancel_on_kill)
        ti.xcom_push(key=STABLY_RUN_KEY, value=stably_run)

    def _defer(self, run: RunReference, started_at: float) -> None:
        deadline = deferred_deadline(self._operator, self._context, from_time=started_at)
        self.log.info("Waiting for run %s in the triggerer", run.run_id)
        self._operator.defer(
            trigger=StablyRunTrigger(
                run_id=run.run_id,
                project_id=run.project_id,
                stably_conn_id=self._operator.stably_conn_id,
                started_at=started_at,
                deadline=deadline,
                poll_interval=self._operator.poll_interval,
                cancel_on_kill=self._operator.cancel_on_kill,
            ),
            method_name="execute_complete",
            timeout=deferral_timeout(deadline),
        )

    def _watch(self, run: RunReference, started_at: float) -> WatchResult:
        supervising = supervision(
            run,
            started_at=started_at,
            deadline=started_at + self._operator.timeout,
            poll_interval=self._operator.poll_interval,
            cancel=self._operator.cancel_on_kill,
        )
        return WatchResult.of(run, conduct(supervising, self._client, reconnect=self._reconnect))

    def _conclude(self, conclusion: WatchResult, ledger: StartLedger) -> dict[str, Any]:
        if conclusion.is_over:
            ledger.forget()
        error = conclusion.error()
        if error is None:
            self.log.info("%s", conclusion.run.report)
            return conclusion.run.return_value()
        self.log.error("%s", conclusion.run.report)
        if isinstance(error, NOT_RETRYABLE) and not self._is_killed:
            raise AirflowFailException(str(error)) from error
        raise error

    def _cancel_run_to_cancel(self, ledger: StartLedger) -> None:
        """Cancel the run that this process watches, unless on_kill has already, and note what is known."""
        run = self._own_run
        if run is None:
            return
        with best_effort(f"Run {run.run_id} could not be cancelled"):
            verdict = conduct(cancellation(run), self._kill_client)
            self.log.info("Run %s: no longer watched, so it was cancelled: %s", run.run_id, verdict.outcome)
            if verdict.outcome in _OVER_OR_GONE:
                self._own_run = None
                ledger.forget()
            elif (noted := ledger.read()) is None or noted.run != run:
                ledger.note(run, time.time())

    def cancel_pushed_run(self) -> None:
        """Cancel the run that this task's XCom names: the process that started it is gone."""
        with best_effort("The run of this task could not be cancelled"):
            self._own_run = own_run_to_cancel(self._context["ti"])
            if self._own_run is not None:
                self._connect()
                self._cancel_run_to_cancel(StartLedger(self._context))


def _is_final(error: StablyError) -> bool:
    """Whether no retry of the task can cure a start's failure."""
    if isinstance(error, StablyHTTPError):
        return error.status not in protocol.REPLAYABLE_STATUSES
    return isinstance(error, StablyConfigError | StablyInvalidIdError | StablyAmbiguousStartError)

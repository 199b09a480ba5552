"""Start a run, or deal with the one that an earlier try of the task started; never lose its id."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.exchange import asking_before_it_is_sent
from airflow_provider_stably.arguments import env_overrides_as_text, text_or_none, true_or_false
from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyCancelError,
    StablyError,
)
from airflow_provider_stably.execution.clients import Clients
from airflow_provider_stably.execution.fail_for_good import not_retried, task_error
from airflow_provider_stably.execution.options import RunTestsOptions
from airflow_provider_stably.execution.ownership import Ownership
from airflow_provider_stably.execution.results import make_known
from airflow_provider_stably.execution.uninterrupted import finish_despite_interrupt
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs import belief
from airflow_provider_stably.runs.cancel import CancelOutcome, CancelResult, cancel
from airflow_provider_stably.runs.driver import run_blocking
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.start_record import StartRecords
from airflow_provider_stably.tasks.wiring import wiring_problems
from airflow_provider_stably.tasks.xcom import STABLY_RUN_KEY, PushedRun


class _Start(Enum):
    """What is known of the start that this process makes."""

    NOT_SENT = "not sent, or turned away"
    SENT = "sent, answer not known"


@dataclass(slots=True, repr=False)
class Starter:
    """Finds or starts the run of a task.

    :param ownership: Gets the run as soon as its id is known.
    :param hook: The hook, with its connection already read.
    :param clients: The clients on that connection.
    :param cancel_at_once: Cancels the run of ``ownership``, as a kill does.
    """

    options: RunTestsOptions
    context: Any
    log: Any
    records: StartRecords
    ownership: Ownership
    hook: StablyHook
    clients: Clients
    cancel_at_once: Callable[[], None]
    _started: RunReference | _Start = field(default=_Start.NOT_SENT, init=False)
    _earlier_was_not_found: bool = field(default=False, init=False)

    def resume_or_start(self) -> RunReference:
        """Return the run of an earlier try that goes on, else a new one."""
        try:
            return self._resume_or_cancel_earlier_run() or self._start()
        except StablyError as error:
            raise task_error(error) from None

    def _resume_or_cancel_earlier_run(self) -> RunReference | None:
        """Return an earlier try's run if this try resumes it; cancel it if not, and return None."""
        record = self.records.read()
        if record is None or record.is_over:
            return None
        run = record.run
        if run is None:
            self.records.delete()  # whoever clears the task now has read the error
            raise AirflowFailException(
                "An earlier try of this task was lost while it started a run, so an untracked run may exist: "
                "look for it in the dashboard, then clear this task to start another"
            )
        # The record may have been written by somebody else: it names no connection for us to use.
        own = self.options.stably_conn_id
        is_ours = run.stably_conn_id == own
        run = replace(run, stably_conn_id=own)
        goes_on = record.is_retried and is_ours
        if not goes_on and not self.options.cancel_on_kill:
            return None
        # From here on, whatever goes wrong: on_kill, callbacks and teardowns find the run.
        if is_ours:
            self.ownership.own(run)
        push_reference(run, self.context, self.ownership)
        if not goes_on:
            self._cancel_before_another(run, is_ours=is_ours)
        elif not self._is_over(run):
            self.log.info("Run %s of an earlier try goes on; see %s", run.run_id, run.run_url)
            self._push(run)
            return run
        self.ownership.part()
        return None

    def _is_over(self, run: RunReference) -> bool:
        """Whether a run is known to be over; one that cannot be read is watched, as it may be live.

        Nor is a 404 believed here: no second run is started on it.
        """
        try:
            return self.clients.usual.send(calls.get_run(run.project_id, run.run_id)).is_finished
        except StablyError as error:
            self.log.warning("Run %s of an earlier try cannot be read now: %s", run.run_id, error)
            return False

    def _cancel_before_another(self, run: RunReference, *, is_ours: bool) -> None:
        seconds = belief.MISSING_SECONDS
        result = run_blocking(cancel(run, self.clients.driver(), patience=seconds, missing_seconds=seconds))
        self.log.info("Run %s of an earlier try: %s", run.run_id, result.outcome)
        self._earlier_was_not_found = is_ours and result.outcome is CancelOutcome.NOT_FOUND
        if result.is_over or self._earlier_was_not_found:
            return
        if not is_ours and result.outcome in {CancelOutcome.NOT_FOUND, CancelOutcome.DENIED}:
            self.records.delete()  # whoever clears the task now has read the error
            raise AirflowFailException(
                f"Run {run.run_id} of an earlier try was started with another connection, and the one that "
                f"this task names now, {run.stably_conn_id!r}, does not reach it ({result}); cancel it in "
                f"the dashboard, then clear this task to start another: {run.run_url}"
            )
        raise earlier_run_is_open(run, result)

    def _start(self) -> RunReference:
        with best_effort("The DAG's Stably tasks cannot be checked"):
            for problem in wiring_problems(self.context["dag"], left_by=self.context["task"].task_id):
                self.log.warning("A run may be left live: %s", problem)
        call = self._call()
        self.ownership.stop_if_killed()
        self.records.write(None)
        try:
            run = finish_despite_interrupt(lambda: self._send(call), when_interrupted=self._send_no_more)
        except BaseException as error:
            if self._started is _Start.NOT_SENT or isinstance(error, StablyError | AirflowException):
                self._forget_start()
            elif isinstance(self._started, RunReference):
                self.records.write(self._started)
            elif not self.records.survive_retries and not isinstance(error, KeyboardInterrupt):
                raise AirflowFailException(
                    f"The answer to the start was lost ({type(error).__name__}): an untracked run may exist; "
                    "look for it in the dashboard before you clear this task"
                ) from None
            raise
        if self.ownership.is_killed:
            # The kill came before there was a run to cancel, and Airflow may be slow to store this one.
            self.cancel_at_once()
        self.records.write(run)
        self._push(run)
        return run

    def _forget_start(self) -> None:
        """Record that no run was started, so that an earlier one that was not found is looked for again."""
        if self._earlier_was_not_found:
            self.records.put_back()
        else:
            self.records.delete()

    def _call(self) -> calls.Call[str]:
        options = self.options
        try:
            project_id = text_or_none(options.project_id, "project_id")
            which = {
                name: text_or_none(getattr(options, name), name)
                for name in ("playwright_project_name", "branch", "environment")
            }
            overrides = env_overrides_as_text(options.env_overrides)
            autofix = true_or_false(options.autofix, "autofix")
        except ValueError as error:
            raise not_retried(error) from None
        project_id = self.hook.resolve_project_id(project_id)
        return calls.start_run(project_id, **which, env_overrides=overrides, autofix=autofix)

    def _send(self, call: calls.Call[str]) -> RunReference:
        """Send the start, and keep in ``_started`` what is known of it: an interruption does not tell."""
        self._started = _Start.SENT
        try:
            with asking_before_it_is_sent(self.ownership.stop_if_killed):
                run_id = self.clients.usual.send(call)
        except StablyAmbiguousStartError as error:
            self.log.error("%s", error)
            raise
        except (StablyError, AirflowException):
            self._started = _Start.NOT_SENT
            raise
        # Only now: a start that was turned away at first was sent again, for up to two minutes.
        run = RunReference(run_id, call.project_id, self.options.stably_conn_id, time.time())
        self._started = self.ownership.own(run)
        self.log.info("Run %s started in project %s; see %s", run.run_id, run.project_id, run.run_url)
        return run

    def _send_no_more(self) -> None:
        self.ownership.is_killed = True

    def _push(self, run: RunReference) -> None:
        push_reference(run, self.context, self.ownership)
        make_known(self.context, run)
        self.context["ti"].xcom_push(key="run_id", value=run.run_id)


def push_reference(run: RunReference, context: Any, ownership: Ownership) -> None:
    """Push the XCom ``stably_run``, by which callbacks and teardowns find a task's run."""
    ownership.may_be_pushed = True
    ti = context["ti"]
    ti.xcom_push(key=STABLY_RUN_KEY, value=PushedRun(run, ti.try_number, ownership.cancel_on_kill).to_xcom())


def earlier_run_is_open(run: RunReference, result: CancelResult) -> StablyCancelError:
    """Return the error of a try that starts no run, as an earlier one's may be live."""
    return StablyCancelError(
        f"Run {run.run_id} of an earlier try cannot be shown to be over ({result}), so no other is started "
        f"beside it; see {run.run_url}",
        outcomes={run.run_id: result.to_json()},
    )

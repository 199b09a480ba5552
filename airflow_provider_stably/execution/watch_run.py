"""Watch a run that something else started; never cancel it."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    PokeReturnValue,
)

from airflow_provider_stably.arguments import text_or_none
from airflow_provider_stably.exceptions import StablyConfigError, StablyError, StablyRunTimeoutError
from airflow_provider_stably.execution.fail_for_good import not_retried, task_error
from airflow_provider_stably.execution.options import WatchRunOptions
from airflow_provider_stably.execution.results import make_known, publish, write_junit
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs.belief import Belief
from airflow_provider_stably.runs.driver import BlockingDriver, run_blocking
from airflow_provider_stably.runs.named_runs import read_run
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.watch import poll_again, poll_once
from airflow_provider_stably.runs.watch_result import HANDED_BACK, WatchEnd, WatchResult
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.deadline import deferred_deadline
from airflow_provider_stably.tasks.version_compat import has_been_rescheduled
from airflow_provider_stably.triggers.stably import wait_in_triggerer

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class WatchRun:
    """What the sensor does with its run. Keeps the connection, and what was refused, between two pokes.

    In reschedule mode each poke is a process of its own: there a refusal counts as "not over yet".

    ``knows_run`` says whether the run's page has been made known; ``deadline``, until when to watch a run
    that was handed back, in seconds since the epoch.

    :param task_ids: The tasks of the sensor's DAG, which name no run.
    :param now: Returns the present, in seconds since the epoch.
    """

    def __init__(
        self,
        stably_conn_id: str,
        log: Any,
        *,
        task_ids: Container[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._hook = StablyHook(stably_conn_id)
        self._log = log
        self._task_ids = task_ids
        self._now = now
        self._belief = Belief(key_has_worked=False)
        self._is_handed_back = False
        self.knows_run = False
        self.deadline: float | None = None

    def push_run(self, options: WatchRunOptions, context: Context) -> RunReference:
        """Make the run and its page known, once, before anything else can fail.

        :raises AirflowFailException: if no run is named, or the connection cannot be used.
        :raises StablyConfigError: if the connection is not defined now.
        """
        run = self._named_run(options)
        if not self.knows_run:
            make_known(context, run)
            self.knows_run = True
        return run

    def defer(self, options: WatchRunOptions, context: Context) -> dict[str, Any]:
        """Poll the run once; leave the wait to the triggerer if it goes on.

        :returns: The summary of a run that is over.
        """
        began = self._now()
        polled = self.poll(options, context)
        if not polled.is_done:
            wait_in_triggerer(
                self._named_run(options),
                stably_conn_id=options.stably_conn_id,
                deadline=deferred_deadline(context, from_time=began, timeout=options.timeout),
                poll_interval=options.poke_interval,
                cancel_on_kill=False,
                key_has_worked=self._belief.key_has_worked,
            )
        return cast("dict[str, Any]", polled.xcom_value)

    def poll(self, options: WatchRunOptions, context: Context) -> PokeReturnValue:
        """Poll the run once; see the sensor."""
        try:
            run = self.push_run(options, context)
            driver = BlockingDriver(self._hook.client, reconnect=self._hook.reconnect, now=self._now)
            result = run_blocking(poll_once(run, driver, self._belief))
        except StablyConfigError as error:
            if not (error.may_pass and self.has_poked_before(options, context)):
                raise task_error(error) from None
            self._log.warning("%s; looking again at the next poke", error)
            return PokeReturnValue(is_done=False)
        if result is None:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._end(result, options, context))

    def poll_at_last(self, options: WatchRunOptions, context: Context) -> PokeReturnValue:
        """Poll a run once whose trigger was lost; a connection that is missing now says nothing of it."""
        self.knows_run = self._is_handed_back = True
        return self.poll(options, context)

    def has_poked_before(self, options: WatchRunOptions, context: Context) -> bool:
        """Whether an earlier process has poked in this try, so that the connection is not a mistyped one."""
        return self._is_handed_back or (options.reschedule and has_been_rescheduled(context))

    def complete(self, event: object, options: WatchRunOptions, context: Context) -> dict[str, Any] | None:
        """End the sensor with the trigger's event; see the sensor.

        :returns: The run's summary; None if the worker has to go on watching the run.
        """
        self.knows_run = True
        try:
            result = WatchResult.from_event(event)
        except (ValueError, TypeError) as error:
            raise AirflowFailException(f"The trigger's event cannot be read: {error}") from None
        if not result.is_over and result.end is not WatchEnd.HANDED_BACK:
            run = RunReference(result.run.run_id, result.run.project_id)
            with best_effort(f"Run {run.run_id} cannot be polled once more, from the worker"):
                result = run_blocking(poll_again(run, BlockingDriver(self._hook.client), result))
        if result.end is WatchEnd.HANDED_BACK:
            self._log.warning(HANDED_BACK, result.run.run_id, result.detail)
            self._is_handed_back, self.deadline = True, result.deadline
            self._belief = Belief(key_has_worked=True)  # as it may have, before
            return None
        return self._end(result, options, context)

    def _named_run(self, options: WatchRunOptions) -> RunReference:
        """Return the run that the sensor means now: a subclass may set another one between two pokes."""
        try:
            run = read_run(options.run_id, argument="run_id", task_ids=self._task_ids)
            given = run.project_id or text_or_none(options.project_id, "project_id")
            return run.in_project(self._hook.resolve_project_id(given))
        except (StablyError, ValueError) as error:
            raise task_error(error) from None

    def _end(self, result: WatchResult, options: WatchRunOptions, context: Context) -> dict[str, Any]:
        error = result.error(min_tests=options.min_tests)
        publish(context, result, error)
        write_junit(options, result, error)
        self._log.info("%s", result.run.report)
        if error is None:
            return result.run.return_value()
        if isinstance(error, StablyRunTimeoutError):
            timeout = AirflowSensorTimeout(str(error))
            timeout.__context__ = error
            raise timeout from None
        if options.soft_fail or options.never_fail:  # after a deferral, Airflow 2.11 heeds only the first
            raise AirflowSkipException(str(error)) from None
        raise (error if result.end is WatchEnd.DENIED else not_retried(error)) from None

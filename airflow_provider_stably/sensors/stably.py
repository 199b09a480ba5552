"""Wait for a Stably run that something else started.

Declared here, carried out in ``execution``, which is imported when a task runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    BaseSensorOperator,
    conf,
)

from airflow_provider_stably.arguments import (
    as_output,
    check_conn_id,
    check_flag,
    check_junit_xml,
    check_min_tests,
    check_run_id,
    check_text,
)
from airflow_provider_stably.exceptions import StablyConfigError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.links.stably import StablyRunLink
from airflow_provider_stably.tasks.deadline import TRIGGER_FAILED
from airflow_provider_stably.tasks.version_compat import is_mapped_instance

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import (
        BaseOperator,
        Context,
        MappedOperator,
        PokeReturnValue,
        XComArg,
    )

    from airflow_provider_stably.execution.options import WatchRunOptions
    from airflow_provider_stably.execution.watch_run import WatchRun

    NamesRun: TypeAlias = str | BaseOperator | MappedOperator | XComArg


class StablyRunSensor(BaseSensorOperator):
    """Wait for the end of a run that something else started, and account for its results.

    Only a run that PASSED lets the sensor succeed. Any other end fails it for good, as it would not change;
    with ``soft_fail`` it is skipped. The sensor did not start the run and never cancels it.

    XComs ``return_value`` and ``summary``: the run's summary, as of :class:`StablyRunTestsOperator`.

    :param run_id: The run (templated): its id, the address of its page, or the output of the task that
        started it, which names the run's project, too.
    :param project_id: Its project, if ``run_id`` does not name it; default: the connection's (templated).
    :param deferrable: Whether to wait in the triggerer; ``poke_interval`` is then the longest pause.
    :param junit_xml: Where to write the results as JUnit XML (templated): an absolute path, or an address as
        ``s3://bucket/results.xml`` that Airflow's object storage knows. Needs the extra ``junit``.
    :param min_tests: How many test cases a run that passed has to have; with fewer, or without results, the
        sensor fails.
    :param stably_conn_id: Id of a connection of type ``stably``.
    """

    template_fields: Sequence[str] = ("run_id", "project_id", "junit_xml")
    operator_extra_links = (StablyRunLink(),)

    def __init__(
        self,
        *,
        run_id: NamesRun,
        project_id: str | XComArg | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        junit_xml: str | XComArg | None = None,
        min_tests: int = 0,
        stably_conn_id: str = StablyHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Of a mapped task it is rendered already, and what is wrong with it fails the task for good.
        self.run_id = as_output(run_id) if is_mapped_instance(self) else check_run_id(run_id)
        self.project_id = check_text(project_id, "project_id")
        self.deferrable = check_flag(deferrable, "deferrable")
        self.junit_xml = check_junit_xml(junit_xml)
        self.min_tests = check_min_tests(min_tests)
        self.stably_conn_id = check_conn_id(stably_conn_id)

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Check what ``__init__`` does: for mapped tasks Airflow calls that only when they run."""
        check_junit_xml(kwargs.get("junit_xml"))
        check_min_tests(kwargs.get("min_tests", 0))
        return super().partial(**kwargs)

    def execute(self, context: Context) -> Any:
        """Wait on the worker or in the triggerer.

        :returns: The run's summary.
        :raises AirflowFailException: if the run did not pass, or is not found for good.
        :raises StablyRunLostError: if the key was refused for minutes; a retry may help.
        :raises StablyConfigError: if the connection is not defined now; a retry may help.
        :raises AirflowSensorTimeout: if it is not over in time.
        """
        try:
            self._execution.push_run(self._options, context)
            if self.deferrable:
                return self._execution.defer(self._options, context)
        except AirflowFailException as error:
            if self.soft_fail or self.never_fail:  # as the base class does with poke's errors
                raise AirflowSkipException(str(error)) from None
            raise
        except StablyConfigError as error:
            pokes_on = self.silent_fail or self._execution.has_poked_before(self._options, context)
            if not pokes_on:  # else poke logs it
                if self.never_fail:
                    raise AirflowSkipException(str(error)) from None
                raise
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """End the sensor with the trigger's event, or go on watching where the triggerer could not.

        :returns: The run's summary.
        :raises: as :meth:`execute`.
        """
        summary = self._execution.complete(event, self._options, context)
        if summary is not None:
            return summary
        # The wait goes on here, for what is left of it; rescheduled, it would only defer again.
        if self._execution.deadline is not None:
            self.timeout = max(0.0, self._execution.deadline - time.time())
        self.mode = "poke"
        return super().execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after deferral; if the trigger is lost, poll the run once more."""
        if next_method == TRIGGER_FAILED:
            next_method, next_kwargs = "end_without_trigger", {"failure": next_kwargs}
        return super().resume_execution(next_method, next_kwargs, context)

    def end_without_trigger(self, context: Context, failure: dict[str, Any] | None) -> Any:
        """End as the run has; while that is not over, as any sensor whose trigger crashed or came too late.

        :param failure: What Airflow says of the trigger.
        """
        polled = self._execution.poll_at_last(self._options, context)
        if polled.is_done:
            return polled.xcom_value
        return super(BaseSensorOperator, self).resume_execution(TRIGGER_FAILED, failure, context)

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll the run once; a poll that fails in passing counts as not over yet."""
        return self._execution.poll(self._options, context)

    @property
    def knows_no_run(self) -> bool:
        """Whether this process has not made the run known: Airflow logs errors for missing XComs."""
        execution: WatchRun | None = self.__dict__.get("_execution")
        return execution is not None and not execution.knows_run

    @cached_property
    def _execution(self) -> WatchRun:
        from airflow_provider_stably.execution.watch_run import WatchRun

        dag = self.get_dag()
        return WatchRun(self.stably_conn_id, self.log, task_ids=dag.task_dict if dag else ())

    @property
    def _options(self) -> WatchRunOptions:
        from airflow_provider_stably.execution.options import WatchRunOptions

        return WatchRunOptions.of(self)

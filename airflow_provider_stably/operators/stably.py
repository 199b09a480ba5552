"""Operators that start and cancel Stably runs.

Declared here, carried out in ``execution``, which is imported when a task runs: DAG files are parsed all the
time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_stably.arguments import (
    as_output,
    check_conn_id,
    check_env_overrides,
    check_flag,
    check_junit_xml,
    check_min_tests,
    check_run_ids,
    check_text,
    check_true_or_false,
    read_task_ids,
    seconds,
)
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.links.stably import StablyRunLink
from airflow_provider_stably.tasks.deadline import TRIGGER_FAILED
from airflow_provider_stably.tasks.version_compat import HAS_TASK_STATE_STORE, is_mapped_instance

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, MappedOperator, TaskGroup, XComArg

    from airflow_provider_stably.execution.run_tests import RunTests

    NamesTask: TypeAlias = str | BaseOperator | MappedOperator | TaskGroup | XComArg
    NamesRun: TypeAlias = str | BaseOperator | MappedOperator | XComArg

OnEmpty = Literal["skip", "success", "fail"]


class StablyCancelRunOperator(BaseOperator):
    """Cancel Stably runs and push the cancelled ids to XCom.

    The goal is that nothing is left running. A run that is over already is a success, though not listed. The
    task tries every run and pushes both XComs before it fails:

    - ``return_value``: ids of the runs that are cancelled, in input order;
    - ``outcomes``: run id to ``{"outcome": ..., "status": ...}``, the outcome one of ``cancelled``,
      ``already_finished``, ``still_live``, ``not_found``, ``denied``, ``unknown``, ``not_attempted``,
      ``malformed``.

    If a run is still live, refused, not found or could not be read, the task fails and may be retried. It
    fails for good where no retry can help: a malformed id, a connection that cannot be used.

    :param run_ids: The runs (templated): ids, addresses of their pages, or outputs of the tasks that started
        them; one or a list, also as text. None, an empty text or list, and a rendered ``'None'`` name no run.
    :param task_ids: Instead of ``run_ids``: the tasks of this DAG run whose Stably runs to cancel, or task
        groups, by id, as they are, or by their ``.output``; one, a list, or ``"a,b"``; mapped tasks included,
        each run in its own project. A task that started none is nothing to cancel.
    :param project_id: Project of the runs in ``run_ids`` that come without one; default: the connection's
        (templated).
    :param stably_conn_id: Id of a connection of type ``stably``.
    :param on_empty: What to do if no run is named: ``skip``, ``success`` or ``fail``.
    :param ignore_missing: Whether a run that its project does not have counts as over.
    :param wait_for_termination: Whether to return only when every run is over.
    :param timeout: Seconds to wait for that, all runs together.
    :param poll_interval: Seconds between two polls while waiting.
    """

    template_fields: Sequence[str] = ("run_ids", "project_id")

    def __init__(
        self,
        *,
        run_ids: NamesRun | Sequence[NamesRun] | None = None,
        task_ids: NamesTask | Sequence[NamesTask] | None = None,
        project_id: str | None = None,
        stably_conn_id: str = StablyHook.default_conn_name,
        on_empty: OnEmpty = "skip",
        ignore_missing: bool = False,
        wait_for_termination: bool = False,
        timeout: float | timedelta = 120,
        poll_interval: float | timedelta = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_empty not in get_args(OnEmpty):
            raise ValueError(f"on_empty is one of {', '.join(get_args(OnEmpty))}, not {on_empty!r}")
        is_mapped = is_mapped_instance(self)  # its arguments are rendered, and not checked before the runs
        self.run_ids = as_output(run_ids) if is_mapped else check_run_ids(run_ids, "run_ids")
        self.task_ids = read_task_ids(task_ids, run_ids=run_ids)
        if run_ids is None and task_ids is None and not is_mapped:
            raise ValueError("name the runs to cancel: pass run_ids, or task_ids of their tasks")
        self.project_id = check_text(project_id, "project_id")
        self.stably_conn_id = check_conn_id(stably_conn_id)
        self.on_empty = on_empty
        self.ignore_missing = check_flag(ignore_missing, "ignore_missing")
        self.wait_for_termination = check_flag(wait_for_termination, "wait_for_termination")
        self.timeout = seconds("timeout", timeout, at_least=0)
        self.poll_interval = seconds("poll_interval", poll_interval)

    def execute(self, context: Context) -> list[str]:
        """Cancel the runs.

        :returns: Ids of the runs that are cancelled, in input order.
        :raises AirflowSkipException: if no run is named and ``on_empty`` is ``skip``.
        :raises AirflowFailException: if a run cannot be shown to be over and no retry can help.
        :raises StablyCancelError: if a retry may help.
        """
        from airflow_provider_stably.execution.cancel_runs import CancelRuns
        from airflow_provider_stably.execution.options import CancelRunsOptions

        return CancelRuns(CancelRunsOptions.of(self), context, self.log).execute()


class StablyRunTestsOperator(BaseOperator):
    """Start a run of a Stably project's tests, wait for its end and account for the results.

    Only a run that PASSED lets the task succeed. The run is cancelled when the task stops watching it before
    its end, see ``cancel_on_kill``; ``docs/guarantees.md`` lists the cases that nothing covers.

    XComs, pushed as soon as the run is started: ``run_id``, ``run_url``, and ``stably_run`` for this
    provider's own operators and callbacks. ``return_value``: ``run_id``, ``project_id``, ``run_url``,
    ``status``, ``total``, ``passed``, ``failed``, ``skipped``, ``duration_ms``, ``started_at``,
    ``queued_ms``, ``branch``, ``failed_tests`` (titles, the first 20); what is not known is None.
    ``summary``: the same and more, pushed also if the task fails.

    :param project_id: Project whose tests to run; default: the connection's (templated).
    :param playwright_project_name: Playwright project (``--project``) to run; None runs all (templated).
    :param branch: Git branch to associate with the run (templated).
    :param environment: Name of a Stably environment (templated).
    :param env_overrides: Environment variable name to value (templated). Numbers and booleans are sent as
        text. Never logged; Airflow's rendered view masks values under names that sound secret, before 3.2
        only if all have at most 4,096 characters.
    :param autofix: Whether Stably tries to fix the tests once the run has ended with failures, which costs AI
        credits; None leaves it to the project's default (templated).
    :param wait_for_completion: Whether to wait for the run's end. If not, nobody watches the run, and nobody
        cancels it: a clean-up has to name this task.
    :param cancelled_elsewhere: Whether a run that is left is cancelled by what its DAG does not show: by
        another DAG, or by an id that passes through another task. Then no warning asks for a clean-up.
    :param deferrable: Whether to wait in the triggerer instead of on the worker.
    :param poll_interval: Longest pause between two polls, in seconds; a young run is polled more often.
    :param timeout: Seconds from the run's start after which the task gives up.
    :param queue_timeout: Seconds from the run's start after which the task gives up if the run is still
        QUEUED; None waits until ``timeout``.
    :param cancel_on_kill: Whether to cancel the run when the task stops watching it: killed, marked, cleared,
        timed out.
    :param junit_xml: Where to write the results as JUnit XML (templated): an absolute path, or an address as
        ``s3://bucket/results.xml`` that Airflow's object storage knows. Needs the extra ``junit``.
    :param min_tests: How many test cases a run that passed has to have; with fewer, or without results, the
        task fails for good: so a mistyped Playwright project is not green.
    :param stably_conn_id: Id of a connection of type ``stably``.
    """

    template_fields: Sequence[str] = (
        "project_id",
        "playwright_project_name",
        "branch",
        "environment",
        "env_overrides",
        "autofix",
        "junit_xml",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"env_overrides": "json"}
    operator_extra_links = (StablyRunLink(),)

    def __init__(
        self,
        *,
        project_id: str | XComArg | None = None,
        playwright_project_name: str | XComArg | None = None,
        branch: str | XComArg | None = None,
        environment: str | XComArg | None = None,
        env_overrides: Mapping[str, Any] | XComArg | None = None,
        autofix: bool | str | XComArg | None = None,
        wait_for_completion: bool = True,
        cancelled_elsewhere: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | timedelta = 30,
        timeout: float | timedelta = timedelta(hours=24),
        queue_timeout: float | timedelta | None = None,
        cancel_on_kill: bool = True,
        junit_xml: str | XComArg | None = None,
        min_tests: int = 0,
        stably_conn_id: str = StablyHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project_id = check_text(project_id, "project_id")
        self.playwright_project_name = check_text(playwright_project_name, "playwright_project_name")
        self.branch = check_text(branch, "branch")
        self.environment = check_text(environment, "environment")
        check_env_overrides(env_overrides)
        self.env_overrides = env_overrides
        check_true_or_false(autofix, "autofix")
        self.autofix = autofix
        if not wait_for_completion and (junit_xml or min_tests or queue_timeout):
            raise ValueError("junit_xml, min_tests and queue_timeout need wait_for_completion=True")
        self.wait_for_completion = check_flag(wait_for_completion, "wait_for_completion")
        self.cancelled_elsewhere = check_flag(cancelled_elsewhere, "cancelled_elsewhere")
        self.deferrable = check_flag(deferrable, "deferrable")
        self.poll_interval = seconds("poll_interval", poll_interval)
        self.timeout = seconds("timeout", timeout)
        self.queue_timeout = None if queue_timeout is None else seconds("queue_timeout", queue_timeout)
        self.cancel_on_kill = check_flag(cancel_on_kill, "cancel_on_kill")
        self.junit_xml = check_junit_xml(junit_xml)
        self.min_tests = check_min_tests(min_tests)
        self.stably_conn_id = check_conn_id(stably_conn_id)
        self._execution: RunTests | None = None
        self._is_killed = False
        if cancel_on_kill:
            for name in OWN_CALLBACKS:
                setattr(self, name, with_own_callback(getattr(self, name)))

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Do for mapped tasks what ``__init__`` does: for them Airflow calls that only when they run."""
        check_junit_xml(kwargs.get("junit_xml"))
        check_min_tests(kwargs.get("min_tests", 0))
        mapped = super().partial(**kwargs)
        if kwargs.get("cancel_on_kill", True):
            for name in OWN_CALLBACKS:
                mapped.kwargs[name] = with_own_callback(mapped.kwargs.get(name))
        return mapped

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the run and, by default, wait for its end.

        :returns: The run's summary.
        :raises StablyRunFailedError: if the run did not pass and a retry may.
        :raises StablyRunTimeoutError: if it was not over in time.
        :raises StablyRunLostError: if the key was refused, or the run not found, for good while waiting.
        :raises AirflowFailException: if no retry can help: bad arguments, a start whose answer was lost, a
            run that was cancelled or that its cancel does not find either.
        """
        return self._begin(context).execute()

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """End the task with the trigger's event.

        :returns: The run's summary.
        :raises: as :meth:`execute`.
        """
        return self._begin(context).complete(event)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after deferral; if the trigger is lost, nobody watches the run any more, so cancel it."""
        execution = self._begin(context)
        if execution.resumes_another_try():
            return execution.execute()
        if next_method == TRIGGER_FAILED and (ended := execution.cancel_pushed_run()) is not None:
            return ended
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Cancel the run at once: Airflow 3 kills this process five seconds later."""
        self._is_killed = True  # a kill may come before execute
        if self._execution is not None:
            self._execution.kill()

    @property
    def knows_no_run(self) -> bool:
        """Whether this process began the task and started no run: Airflow logs errors for missing XComs."""
        return self._execution is not None and self._execution.knows_no_run

    def _begin(self, context: Context) -> RunTests:
        from airflow_provider_stably.execution.options import RunTestsOptions
        from airflow_provider_stably.execution.run_tests import RunTests

        self._execution = RunTests(RunTestsOptions.of(self), context, self.log)
        if self._is_killed:
            self._execution.kill()
        return self._execution


def cancel_run_on_failure(context: Context) -> None:
    """Cancel the run of a task that failed, unless the task saw the run end. Never raises."""
    from airflow_provider_stably.execution.own_callback import cancel_own_run

    cancel_own_run(context)


OWN_CALLBACKS = (
    ("on_failure_callback",) if HAS_TASK_STATE_STORE else ("on_failure_callback", "on_retry_callback")
)
"""Where the operator adds its own callback, for when the whole worker is lost.

Not on a retry if there is a task state store: then the retry goes on with the run.
"""


def with_own_callback(callbacks: Any) -> list[Any]:
    """Add our callback to the user's own, once."""
    given = callbacks if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []
    return [*given, *([] if cancel_run_on_failure in given else [cancel_run_on_failure])]

"""Start a Stably run, wait for its end, account for the results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, TaskDeferred, conf

from airflow_provider_stably.api import protocol
from airflow_provider_stably.cancellation import Outcome, cancellation
from airflow_provider_stably.conclusion import NOT_RETRYABLE, Conclusion
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
from airflow_provider_stably.own_run import cancel_own_run, own_run
from airflow_provider_stably.run_reference import STABLY_RUN_KEY, RunReference
from airflow_provider_stably.run_summary import RunSummary
from airflow_provider_stably.start_arguments import env_overrides_as_text, optional_text
from airflow_provider_stably.start_record import StartLedger, Unfinished
from airflow_provider_stably.triggers.stably import HAS_ON_KILL, StablyRunTrigger
from airflow_provider_stably.watching import supervision

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_stably.api.client import StablyClient

_LAST_RESORTS = ("on_failure_callback",) if HAS_ON_KILL else ("on_failure_callback", "on_retry_callback")
"""Callbacks that cancel the run if the whole worker was lost. From Airflow 3.3 on, the release that gave
triggers ``on_kill``, the task state store lets a retry take the run up; a retry callback would cancel it."""

TRIGGER_FAILED = "__fail__"
"""Airflow's name for the method to resume with after a trigger crashed or its deferral timed out."""


class StablyRunTestsOperator(BaseOperator):
    """Start a run of a Stably project's tests, wait for its end and account for the results.

    Only a run that PASSED lets the task succeed. The run is cancelled when the task stops watching it before
    its end, see ``cancel_on_kill``.

    XComs, pushed as soon as the run is started: ``run_id``, ``run_url``, and ``stably_run`` for this
    provider's own operators and callbacks. ``return_value``: ``run_id``, ``run_url``, ``status``, ``total``,
    ``passed``, ``failed``, ``skipped``, ``duration_ms``, ``failed_tests`` (titles, the first 20); what is not
    known is None.

    :param project_id: Project whose tests to run; default: the connection's (templated).
    :param playwright_project_name: Playwright project (``--project``) to run; None runs all (templated).
    :param branch: Git branch to associate with the run (templated).
    :param environment: Name of a Stably environment (templated).
    :param env_overrides: Environment variable name to value (templated). Numbers and booleans are sent as
        text. Never logged; Airflow's rendered view masks values under names that sound secret.
    :param wait_for_completion: Whether to wait for the run's end. If not, nobody watches the run, and nobody
        cancels it.
    :param deferrable: Whether to wait in the triggerer instead of on the worker.
    :param poll_interval: Longest pause between two looks at the run, in seconds; a young run is looked at
        more often.
    :param timeout: Seconds from the run's start after which the task gives up.
    :param cancel_on_kill: Whether to cancel the run when the task stops watching it: killed, marked, cleared,
        timed out.
    :param stably_conn_id: Id of a connection of type ``stably``.
    """

    template_fields: Sequence[str] = (
        "project_id",
        "playwright_project_name",
        "branch",
        "environment",
        "env_overrides",
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
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 30,
        timeout: float = 24 * 60 * 60,
        cancel_on_kill: bool = True,
        stably_conn_id: str = StablyHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not (timeout > 0 and poll_interval > 0):
            raise ValueError("timeout and poll_interval are numbers of seconds above 0")
        self.project_id = project_id
        self.playwright_project_name = playwright_project_name
        self.branch = branch
        self.environment = environment
        self.env_overrides = env_overrides
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.stably_conn_id = stably_conn_id
        self._own_run: RunReference | None = None
        self._is_killed = False
        if cancel_on_kill:
            for name in _LAST_RESORTS:
                setattr(self, name, _beside(getattr(self, name)))

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Map the operator; callbacks that a constructor adds do not exist for mapped tasks."""
        mapped = super().partial(**kwargs)
        if kwargs.get("cancel_on_kill", True):
            for name in _LAST_RESORTS:
                mapped.kwargs[name] = _beside(mapped.kwargs.get(name))
        return mapped

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the run and, unless told otherwise, wait for its end.

        :returns: The run's summary.
        :raises StablyRunFailedError: if the run did not pass and a retry may.
        :raises StablyRunTimeoutError: if it was not over in time.
        :raises AirflowFailException: if no retry can help: bad arguments, a refused key, a start whose answer
            was lost, a run that was cancelled or cannot be found.
        """
        hook, ledger = StablyHook(self.stably_conn_id), StartLedger(context)
        try:
            # Of its own: inside on_kill the interrupted thread may hold a lock of the other one.
            self._kill_client = hook.make_client(connect_timeout=1, read_timeout=2)
            run, started_at = self._take_up(hook, ledger) or self._start(hook, ledger)
        except StablyError as error:
            raise (AirflowFailException(str(error)) if _is_final(error) else error) from error
        try:
            ledger.note(run, started_at)
            self._push(run, context)
            if self._is_killed:
                raise AirflowFailException(f"Killed while run {run.run_id} was being started")
            if self.wait_for_completion and self.deferrable:
                self._defer(run, started_at, context)
            conclusion = self._watch(hook, run, started_at) if self.wait_for_completion else None
        except TaskDeferred:
            raise  # the trigger watches from here; on_kill still can, until it does
        except BaseException:
            self._cancel_own_run()
            raise
        if conclusion is not None:
            return self._conclude(conclusion, ledger)
        ledger.forget()
        return RunSummary.of(run, None).return_value()

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Take up the trigger's event.

        :returns: The run's summary.
        :raises: as :meth:`execute`.
        """
        try:
            conclusion = Conclusion.from_json(event)
        except (ValueError, TypeError) as error:
            self._cancel_pushed_run(context)
            raise AirflowFailException(f"The trigger's event cannot be read: {error}") from error
        return self._conclude(conclusion, StartLedger(context))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after deferral; if the trigger is lost, nobody watches the run any more, so cancel it."""
        if next_method == TRIGGER_FAILED:
            self._cancel_pushed_run(context)
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Cancel the run with one request: Airflow 3 kills this process five seconds later."""
        self._is_killed = True
        run, self._own_run = self._own_run, None
        if run is None:
            return  # none yet: execute sees the flag as soon as it knows the run
        try:
            self._kill_client.send_once(protocol.cancel_run(run.project_id, run.run_id))
            self.log.info("Run %s: cancelled, as the task was killed", run.run_id)
        except Exception:
            self.log.warning("Run %s could not be cancelled", run.run_id, exc_info=True)

    def _take_up(self, hook: StablyHook, ledger: StartLedger) -> tuple[RunReference, float] | None:
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
        if ledger.is_retry_of(record):
            if self._is_live(hook, record.run):
                self.log.info(
                    "Run %s of an earlier try goes on; see %s", record.run.run_id, record.run.run_url
                )
                self._own_run = record.run if self.cancel_on_kill else None
                return record.run, record.started_at
        elif self.cancel_on_kill:
            self._cancel_before_another(hook, record.run)
        return None

    def _is_live(self, hook: StablyHook, run: RunReference) -> bool:
        try:
            return not hook.client.send(protocol.get_run(run.project_id, run.run_id)).is_finished
        except StablyNotFoundError:
            return False

    def _cancel_before_another(self, hook: StablyHook, run: RunReference) -> None:
        verdict = conduct(cancellation(run), hook.client)
        self.log.info("Run %s of an earlier try: %s", run.run_id, verdict.outcome)
        if verdict.outcome not in {Outcome.CANCELLED, Outcome.ALREADY_FINISHED, Outcome.NOT_FOUND}:
            raise StablyCancelError(
                f"Run {run.run_id} of an earlier try cannot be shown to be over ({verdict.outcome}: "
                f"{verdict.detail}), so no other is started beside it; see {run.run_url}",
                outcomes={run.run_id: verdict.to_json()},
            )

    def _start(self, hook: StablyHook, ledger: StartLedger) -> tuple[RunReference, float]:
        project_id = hook.resolve_project_id(optional_text(self.project_id))
        try:
            overrides = env_overrides_as_text(self.env_overrides)
        except ValueError as error:
            raise AirflowFailException(str(error)) from error
        call = protocol.start_run(
            project_id,
            playwright_project_name=optional_text(self.playwright_project_name),
            branch=optional_text(self.branch),
            environment=optional_text(self.environment),
            env_overrides=overrides,
        )
        started_at = time.time()
        ledger.note(Unfinished.STARTING, started_at)
        try:
            run = RunReference(self._send_start(hook.client, call), project_id)
        except StablyError:
            ledger.forget()
            raise
        self._own_run = run if self.cancel_on_kill else None
        self.log.info("Run %s started in project %s; see %s", run.run_id, run.project_id, run.run_url)
        return run, started_at

    def _send_start(self, client: StablyClient, call: protocol.Call[str]) -> str:
        """Send the start from a thread, so that what interrupts this one does not lose the run's id."""
        with ThreadPoolExecutor(1, thread_name_prefix="stably-start") as executor:
            answer = executor.submit(client.send, call)
            try:
                return answer.result()
            except StablyError:
                raise
            except BaseException:  # execution_timeout, or on 2.11 a kill
                self._cancel_when_started(answer, call.project_id)
                raise

    def _cancel_when_started(self, answer: Future[str], project_id: str) -> None:
        try:
            self._own_run = RunReference(answer.result(), project_id) if self.cancel_on_kill else None
        except StablyError as error:
            self.log.error("The task was interrupted while it started a run. %s", error)
            return
        self._cancel_own_run()

    def _push(self, run: RunReference, context: Context) -> None:
        ti = context["ti"]
        stably_run = run.to_xcom(try_number=ti.try_number, stably_conn_id=self.stably_conn_id)
        ti.xcom_push(key=STABLY_RUN_KEY, value=stably_run)
        ti.xcom_push(key="run_id", value=run.run_id)
        ti.xcom_push(key=RUN_URL_KEY, value=run.run_url)
        ti.xcom_push(key=StablyRunLink.xcom_key, value=run.run_url)

    def _defer(self, run: RunReference, started_at: float, context: Context) -> None:
        deadline = deferred_deadline(self, context, from_time=started_at)
        self.log.info("Waiting for run %s in the triggerer", run.run_id)
        self.defer(
            trigger=StablyRunTrigger(
                run_id=run.run_id,
                project_id=run.project_id,
                stably_conn_id=self.stably_conn_id,
                started_at=started_at,
                deadline=deadline,
                poll_interval=self.poll_interval,
                cancel_on_kill=self.cancel_on_kill,
            ),
            method_name="execute_complete",
            timeout=deferral_timeout(deadline),
        )

    def _watch(self, hook: StablyHook, run: RunReference, started_at: float) -> Conclusion:
        supervising = supervision(
            run,
            started_at=started_at,
            deadline=started_at + self.timeout,
            poll_interval=self.poll_interval,
            cancel=self.cancel_on_kill,
        )
        watched = conduct(supervising, hook.client, reconnect=lambda: StablyHook(self.stably_conn_id).client)
        return Conclusion.of(run, watched)

    def _conclude(self, conclusion: Conclusion, ledger: StartLedger) -> dict[str, Any]:
        if conclusion.is_over:
            ledger.forget()
        error = conclusion.error()
        if error is None:
            self.log.info("%s", conclusion.run.whole_story)
            return conclusion.run.return_value()
        self.log.error("%s", conclusion.run.whole_story)
        if isinstance(error, NOT_RETRYABLE):
            raise AirflowFailException(str(error)) from error
        raise error

    def _cancel_own_run(self) -> None:
        """Cancel the run that this process watches, unless on_kill has already."""
        run, self._own_run = self._own_run, None
        if run is None:
            return
        try:
            verdict = conduct(cancellation(run), self._kill_client)
            self.log.info("Run %s: no longer watched, so it was cancelled: %s", run.run_id, verdict.outcome)
        except Exception:
            self.log.warning("Run %s could not be cancelled", run.run_id, exc_info=True)

    def _cancel_pushed_run(self, context: Context) -> None:
        """Cancel the run that this task's XCom names: the process that started it is gone."""
        if not self.cancel_on_kill:
            return
        try:
            found = own_run(context["ti"])
            if found is not None:
                self._own_run, stably_conn_id = found
                self._kill_client = StablyHook(stably_conn_id).client
                self._cancel_own_run()
        except Exception:
            self.log.warning("The run of this task could not be cancelled", exc_info=True)


def _beside(callbacks: Any) -> list[Any]:
    """Put our callback beside the user's own, once."""
    given = callbacks if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []
    return [*given, *([] if cancel_own_run in given else [cancel_own_run])]


def _is_final(error: StablyError) -> bool:
    """Whether no retry of the task can cure a start's failure."""
    if isinstance(error, StablyHTTPError):
        return error.status not in {429, 500, 502, 503, 504}
    return isinstance(error, StablyConfigError | StablyInvalidIdError | StablyAmbiguousStartError)

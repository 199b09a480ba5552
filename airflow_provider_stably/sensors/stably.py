"""Wait for a Stably run that something else started."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_stably.api.models import Run
from airflow_provider_stably.api.protocol import check_id, get_run
from airflow_provider_stably.conclusion import Conclusion
from airflow_provider_stably.deadline import deferral_timeout, deferred_deadline
from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyConfigError,
    StablyError,
    StablyInvalidIdError,
    StablyNotFoundError,
    StablyRunTimeoutError,
)
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.links.stably import RUN_URL_KEY, StablyRunLink
from airflow_provider_stably.run_reference import RunReference
from airflow_provider_stably.start_arguments import optional_text
from airflow_provider_stably.triggers.stably import StablyRunTrigger
from airflow_provider_stably.watching import End, Watched

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg


class StablyRunSensor(BaseSensorOperator):
    """Wait for the end of a run that something else started, and account for its results.

    Only a run that PASSED lets the sensor succeed. Any other end fails it for good, as looking again would
    show the same; with ``soft_fail`` it is skipped. The sensor did not start the run and never cancels it.

    XCom ``return_value``: the run's summary, as of :class:`StablyRunTestsOperator`.

    :param run_id: The run (templated).
    :param project_id: Its project; default: the connection's (templated).
    :param deferrable: Whether to wait in the triggerer; ``poke_interval`` is then the longest pause.
    :param stably_conn_id: Id of a connection of type ``stably``.
    """

    template_fields: Sequence[str] = ("run_id", "project_id")
    operator_extra_links = (StablyRunLink(),)

    def __init__(
        self,
        *,
        run_id: str | XComArg,
        project_id: str | XComArg | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        stably_conn_id: str = StablyHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.project_id = project_id
        self.deferrable = deferrable
        self.stably_conn_id = stably_conn_id

    def execute(self, context: Context) -> Any:
        """Wait on the worker or in the triggerer.

        :returns: The run's summary.
        :raises AirflowFailException: if the run did not pass, or cannot be read.
        :raises AirflowSensorTimeout: if it is not over in time.
        """
        run = self._reference()
        for key in (RUN_URL_KEY, StablyRunLink.xcom_key):
            context["ti"].xcom_push(key=key, value=run.run_url)
        if self.deferrable:
            self._defer(run, context)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Take up the trigger's event.

        :returns: The run's summary.
        :raises: as :meth:`execute`.
        """
        try:
            conclusion = Conclusion.from_json(event)
        except (ValueError, TypeError) as error:
            raise AirflowFailException(f"The trigger's event cannot be read: {error}") from error
        return self._conclude(conclusion)

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Look at the run once; a look that fails in passing counts as not over yet."""
        reference = self._reference()
        try:
            run = self._look(reference)
        except (StablyAuthError, StablyNotFoundError) as error:
            raise AirflowFailException(str(error)) from error
        except StablyError as error:
            self.log.warning("Run %s: %s; looking again later", reference.run_id, error)
            return PokeReturnValue(is_done=False)
        if not run.is_finished:
            return PokeReturnValue(is_done=False)
        summary = self._conclude(Conclusion.of(reference, Watched(End.FINISHED, run)))
        return PokeReturnValue(is_done=True, xcom_value=summary)

    def _defer(self, run: RunReference, context: Context) -> None:
        now = time.time()
        deadline = deferred_deadline(self, context, from_time=now)
        self.defer(
            trigger=StablyRunTrigger(
                run_id=run.run_id,
                project_id=run.project_id,
                stably_conn_id=self.stably_conn_id,
                started_at=now,
                deadline=deadline,
                poll_interval=self.poke_interval,
                cancel_on_kill=False,
            ),
            method_name="execute_complete",
            timeout=deferral_timeout(deadline),
        )

    @cached_property
    def _hook(self) -> StablyHook:
        return StablyHook(self.stably_conn_id)

    def _reference(self) -> RunReference:
        try:
            project_id = self._hook.resolve_project_id(optional_text(self.project_id))
            return RunReference(check_id("run", optional_text(self.run_id)), check_id("project", project_id))
        except (StablyConfigError, StablyInvalidIdError) as error:
            raise AirflowFailException(str(error)) from error

    def _look(self, reference: RunReference) -> Run:
        call = get_run(reference.project_id, reference.run_id)
        try:
            return self._hook.client.send(call)
        except (StablyAuthError, StablyNotFoundError):
            # The key may have been rotated; either is only believed when seen twice.
            del self._hook
            return self._hook.client.send(call)

    def _conclude(self, conclusion: Conclusion) -> dict[str, Any]:
        error = conclusion.error()
        self.log.info("%s", conclusion.run.whole_story)
        if error is None:
            return conclusion.run.return_value()
        if isinstance(error, StablyRunTimeoutError):
            raise AirflowSensorTimeout(str(error)) from error
        raise AirflowFailException(str(error)) from error

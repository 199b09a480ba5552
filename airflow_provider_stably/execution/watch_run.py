"""Watch a run that something else started; never cancel it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, PokeReturnValue

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
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_stably.sensors.stably import StablyRunSensor


class WatchRun:
    """One execution of the sensor, in one process.

    :param sensor: The sensor, rendered.
    """

    def __init__(self, sensor: StablyRunSensor) -> None:
        self._sensor = sensor
        self._hook = StablyHook(sensor.stably_conn_id)

    def push_url(self, context: Context) -> None:
        """Make the run's page known before anything else can fail.

        :raises AirflowFailException: if no run is named.
        """
        for key in (RUN_URL_KEY, StablyRunLink.xcom_key):
            context["ti"].xcom_push(key=key, value=self._run.run_url)

    def defer(self, context: Context) -> None:
        """Leave the wait to the triggerer."""
        now = time.time()
        deadline = deferred_deadline(self._sensor, context, from_time=now)
        self._sensor.defer(
            trigger=StablyRunTrigger(
                run_id=self._run.run_id,
                project_id=self._run.project_id,
                stably_conn_id=self._sensor.stably_conn_id,
                started_at=now,
                deadline=deadline,
                poll_interval=self._sensor.poke_interval,
                cancel_on_kill=False,
            ),
            method_name="execute_complete",
            timeout=deferral_timeout(deadline),
        )

    def look(self) -> PokeReturnValue:
        """Look at the run once; see the sensor."""
        try:
            run = self._read()
        except (StablyAuthError, StablyNotFoundError, StablyConfigError) as error:
            raise AirflowFailException(str(error)) from error
        except StablyError as error:
            self._sensor.log.warning("Run %s: %s; looking again later", self._run.run_id, error)
            return PokeReturnValue(is_done=False)
        if not run.is_finished:
            return PokeReturnValue(is_done=False)
        summary = self._conclude(Conclusion.of(self._run, Watched(End.FINISHED, run)))
        return PokeReturnValue(is_done=True, xcom_value=summary)

    def complete(self, event: object) -> dict[str, Any]:
        """Take up the trigger's event; see the sensor."""
        try:
            conclusion = Conclusion.from_json(event)
        except (ValueError, TypeError) as error:
            raise AirflowFailException(f"The trigger's event cannot be read: {error}") from error
        return self._conclude(conclusion)

    @property
    def _run(self) -> RunReference:
        try:
            project_id = self._hook.resolve_project_id(optional_text(self._sensor.project_id))
            run_id = check_id("run", optional_text(self._sensor.run_id))
            return RunReference(run_id, check_id("project", project_id))
        except (StablyConfigError, StablyInvalidIdError) as error:
            raise AirflowFailException(str(error)) from error

    def _read(self) -> Run:
        call = get_run(self._run.project_id, self._run.run_id)
        try:
            return self._hook.client.send(call)
        except (StablyAuthError, StablyNotFoundError):
            # The key may have been rotated; either is only believed when seen twice.
            self._hook = StablyHook(self._sensor.stably_conn_id)
            return self._hook.client.send(call)

    def _conclude(self, conclusion: Conclusion) -> dict[str, Any]:
        error = conclusion.error()
        self._sensor.log.info("%s", conclusion.run.whole_story)
        if error is None:
            return conclusion.run.return_value()
        if isinstance(error, StablyRunTimeoutError):
            raise AirflowSensorTimeout(str(error)) from error
        raise AirflowFailException(str(error)) from error

"""Watch a run that something else started; never cancel it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, PokeReturnValue

from airflow_provider_stably import watching
from airflow_provider_stably.api.protocol import check_id
from airflow_provider_stably.best_effort import best_effort
from airflow_provider_stably.conclusion import WatchResult
from airflow_provider_stably.conversation import conduct
from airflow_provider_stably.deadline import deferral_timeout, deferred_deadline
from airflow_provider_stably.exceptions import StablyConfigError, StablyRunTimeoutError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.links.stably import RUN_URL_KEY, StablyRunLink
from airflow_provider_stably.run_reference import RunReference
from airflow_provider_stably.start_arguments import text_or_none
from airflow_provider_stably.triggers.stably import StablyRunTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_stably.api.client import StablyClient
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
        run = self._named_run()
        for key in (RUN_URL_KEY, StablyRunLink.xcom_key):
            context["ti"].xcom_push(key=key, value=run.run_url)

    def defer(self, context: Context) -> None:
        """Leave the wait to the triggerer."""
        run = self._named_run()
        now = time.time()
        deadline = deferred_deadline(self._sensor, context, from_time=now)
        self._sensor.defer(
            trigger=StablyRunTrigger(
                run_id=run.run_id,
                project_id=run.project_id,
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
        run = self._named_run()
        try:
            looking = watching.glance(run, pause=self._pause_between_looks)
            watched = conduct(looking, self._hook.client, reconnect=self._reconnect)
        except StablyConfigError as error:
            raise AirflowFailException(str(error)) from error
        if watched is None:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._conclude(WatchResult.of(run, watched)))

    def complete(self, event: object) -> dict[str, Any]:
        """Take up the trigger's event; see the sensor."""
        try:
            conclusion = WatchResult.from_json(event)
        except (ValueError, TypeError) as error:
            raise AirflowFailException(f"The trigger's event cannot be read: {error}") from error
        return self._conclude(conclusion)

    def _named_run(self) -> RunReference:
        """Return the run that the sensor means now: a subclass may set another one between two looks."""
        try:
            run_id = check_id("run", text_or_none(self._sensor.run_id, "run_id"))
            project_id = self._hook.resolve_project_id(text_or_none(self._sensor.project_id, "project_id"))
            return RunReference(run_id, check_id("project", project_id))
        except (StablyConfigError, ValueError) as error:
            raise AirflowFailException(str(error)) from error

    @property
    def _pause_between_looks(self) -> float:
        """Seconds until a refusal is to be confirmed, within the same poke.

        That is when the next poke would be. Rescheduled, that one would know nothing of this one, and the
        worker is not to be held up: then it is the shortest time that any watching leaves.
        """
        if self._sensor.reschedule:
            return watching.SHORTEST_DELAY_SECONDS
        return float(self._sensor.poke_interval)

    def _reconnect(self) -> StablyClient:
        hook = StablyHook(self._sensor.stably_conn_id)
        with best_effort("The connection cannot be read now, so the old one is kept"):
            client = hook.client
            self._hook = hook
            return client
        return self._hook.client

    def _conclude(self, conclusion: WatchResult) -> dict[str, Any]:
        error = conclusion.error()
        self._sensor.log.info("%s", conclusion.run.report)
        if error is None:
            return conclusion.run.return_value()
        if isinstance(error, StablyRunTimeoutError):
            raise AirflowSensorTimeout(str(error)) from error
        raise AirflowFailException(str(error)) from error

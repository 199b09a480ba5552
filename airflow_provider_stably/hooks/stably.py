"""The hook: from an Airflow connection to authenticated calls.

What knows the API is imported by the calls: DAG files that import an operator are parsed all the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_stably.arguments import seconds
from airflow_provider_stably.exceptions import (
    StablyConfigError,
    StablyError,
    StablyHTTPError,
)

if TYPE_CHECKING:
    import requests

    from airflow_provider_stably.api.async_client import AsyncStablyClient
    from airflow_provider_stably.api.client import StablyClient
    from airflow_provider_stably.api.models import Run
    from airflow_provider_stably.hooks.connection import ConnectionSettings


class StablyHook(BaseHook):
    """Calls Stably's API with the key of an Airflow connection.

    The connection is looked up at the first call and then kept: looking it up again inside a signal handler
    or a poll loop would hang on Airflow 3.

    :param stably_conn_id: Id of a connection of type ``stably``.
    :param timeout: Seconds to connect, and seconds to read; None leaves it to the connection.
    """

    conn_name_attr = "stably_conn_id"
    default_conn_name = "stably_default"
    conn_type = "stably"
    hook_name = "Stably"

    def __init__(self, stably_conn_id: str = default_conn_name, *, timeout: float | None = None) -> None:
        super().__init__()
        self.stably_conn_id = stably_conn_id
        self.timeout = None if timeout is None else seconds("timeout", timeout)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what holds the API key: a copy looks the connection up anew."""
        return {name: value for name, value in self.__dict__.items() if name not in {"client", "_settings"}}

    def get_conn(self) -> requests.Session:
        """Return an authenticated session, for calls that this hook has no method for.

        The key goes to the connection's host only, redirects are not followed and there is always a timeout.

        :raises StablyConfigError: if the connection cannot be used.
        """
        return self.client.session

    @cached_property
    def client(self) -> StablyClient:
        """The client that all synchronous calls of this hook share; threads may use it at once."""
        return self.make_client()

    def make_client(
        self,
        *,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> StablyClient:
        """Return a client with a session of its own.

        :param connect_timeout: Seconds; None leaves it to the connection.
        :param read_timeout: Seconds; None leaves it to the connection.
        :param sleep: Waits the given seconds before a call is sent again.
        """
        from airflow_provider_stably.api.client import StablyClient

        endpoint = self._settings.endpoint
        return StablyClient(
            replace(
                endpoint,
                connect_timeout=connect_timeout or endpoint.connect_timeout,
                read_timeout=read_timeout or endpoint.read_timeout,
            ),
            sleep=sleep,
        )

    def make_async_client(self) -> AsyncStablyClient:
        """Return a client for ``async with``; the connection is looked up here, in this thread.

        :raises StablyConfigError: if the connection cannot be used.
        """
        from airflow_provider_stably.api.async_client import AsyncStablyClient

        return AsyncStablyClient(self._settings.endpoint)

    async def get_async_client(self) -> AsyncStablyClient:
        """Look the connection up without blocking the event loop and return a client for ``async with``.

        :raises StablyConfigError: if the connection cannot be used.
        """
        from airflow_provider_stably.tasks.triggerer import ask

        return await ask(self.make_async_client)

    def start_run(
        self,
        *,
        project_id: str | None = None,
        playwright_project_name: str | None = None,
        branch: str | None = None,
        environment: str | None = None,
        env_overrides: Mapping[str, str] | None = None,
    ) -> str:
        """Start a run; each call that is accepted is a new run.

        :param project_id: The project; None takes the connection's.
        :param playwright_project_name: Playwright project (``--project``) to run; None runs all.
        :param branch: Git branch to associate with the run.
        :param environment: Name of a Stably environment.
        :param env_overrides: Environment variable name to value; never logged.
        :returns: The run's id.
        :raises StablyAmbiguousStartError: if the answer was lost: an untracked run may exist.
        :raises StablyError: on any other failure; then no run was started.
        """
        from airflow_provider_stably.api import calls

        call = calls.start_run(
            self.resolve_project_id(project_id),
            playwright_project_name=playwright_project_name,
            branch=branch,
            environment=environment,
            env_overrides=env_overrides,
        )
        return self.client.send(call)

    def get_run(self, run_id: str, *, project_id: str | None = None) -> Run:
        """Read a run's status and results.

        :param project_id: The run's project; None takes the connection's.
        :raises StablyNotFoundError: if the project has no such run.
        :raises StablyError: on any other failure.
        """
        from airflow_provider_stably.api import calls

        return self.client.send(calls.get_run(self.resolve_project_id(project_id), run_id))

    def cancel_run(self, run_id: str, *, project_id: str | None = None) -> tuple[str, ...]:
        """Ask the API to cancel a run.

        :param project_id: The run's project; None takes the connection's.
        :returns: The ids that the API says it cancelled.
        :raises StablyHTTPError: with status 400 if the run is unknown or over (assumed: the error text is
            unpublished); :meth:`get_run` tells which.
        :raises StablyError: on any other failure.
        """
        from airflow_provider_stably.api import calls

        return self.client.send(calls.cancel_run(self.resolve_project_id(project_id), run_id))

    def run_url(self, run_id: str, *, project_id: str | None = None) -> str:
        """Return the address of a run's page in Stably's dashboard.

        :param project_id: The run's project; None takes the connection's.
        """
        from airflow_provider_stably.api import calls

        return calls.run_url(self.resolve_project_id(project_id), run_id)

    def resolve_project_id(self, project_id: str | None = None) -> str:
        """Return the given project id, or the connection's if None.

        :raises StablyConfigError: if there is neither.
        """
        project_id = project_id or self._settings.project_id
        if not project_id:
            raise self._config_error(
                "login",
                "no project id: pass project_id, or set the default project here",
            )
        return project_id

    def test_connection(self) -> tuple[bool, str]:
        """Check the key without starting anything: read a run that cannot exist.

        :returns: Whether the key was accepted, and what that does and does not show.
        """
        from airflow_provider_stably.api import calls

        try:
            call = calls.get_run(self._settings.project_id or "connection-test", "connection-test")
            self.client.send_once(call)
        except StablyError as error:
            key_accepted = isinstance(error, StablyHTTPError) and error.status in {400, 404}
            if not key_accepted:
                return False, str(error)
        return True, (
            "Stably answered and accepted the API key. "
            "Not checked: that the project exists, and that the key may start and cancel its runs."
        )

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Describe the form's standard fields for Airflow before 3.2.

        Remove this and the next when the oldest supported Airflow is 3.2.
        """
        behaviour = _connection_type()["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Describe the form's own fields for Airflow before 3.2.

        All are text: a check box of those forms cannot be left unset, and saving one would set it to false.
        """
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import StringField

        return {
            name: StringField(
                lazy_gettext(field["label"]),
                description=field["description"],
                widget=BS3TextFieldWidget(),
            )
            for name, field in _connection_type()["conn-fields"].items()
        }

    @cached_property
    def _settings(self) -> ConnectionSettings:
        from airflow_provider_stably.hooks.connection import read_connection

        try:
            connection = self.get_connection(self.stably_conn_id)
        except AirflowNotFoundException as error:
            raise self._not_defined() from error
        return read_connection(connection, timeout=self.timeout)

    def _not_defined(self) -> StablyConfigError:
        return self._config_error("conn_id", "not defined: add a connection of type 'stably' with this id")

    def _config_error(self, field: str, problem: str) -> StablyConfigError:
        return StablyConfigError(problem, conn_id=self.stably_conn_id, field=field)


def _connection_type() -> dict[str, Any]:
    from airflow_provider_stably.get_provider_info import get_provider_info

    connection_type: dict[str, Any] = get_provider_info()["connection-types"][0]
    return connection_type

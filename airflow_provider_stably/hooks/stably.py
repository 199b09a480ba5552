"""The hook: from an Airflow connection to authenticated calls; imports what knows the API only then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_stably.arguments import (
    check_conn_id,
    env_overrides_as_text,
    seconds,
    text_or_none,
    true_or_false,
)
from airflow_provider_stably.exceptions import StablyConfigError

if TYPE_CHECKING:
    import requests

    from airflow_provider_stably.api.async_client import AsyncStablyClient
    from airflow_provider_stably.api.client import StablyClient
    from airflow_provider_stably.api.models import Run
    from airflow_provider_stably.hooks.connection import ConnectionSettings
    from airflow_provider_stably.runs.cancel import CancelResult
    from airflow_provider_stably.runs.reference import RunReference


class StablyHook(BaseHook):
    """Calls Stably's API with the key of an Airflow connection.

    The connection is looked up at the first call and then kept: inside a signal handler a look-up would hang
    on Airflow 3. Only waiting and cancelling look it up anew, while its key is refused.
    A ``run_id`` may also be the address of the run's page, or its task's output: they name the project, too.

    :param stably_conn_id: Id of a connection of type ``stably``.
    :param timeout: Seconds to connect, and seconds to read; None leaves it to the connection.
    """

    conn_name_attr = "stably_conn_id"
    default_conn_name = "stably_default"
    conn_type = "stably"
    hook_name = "Stably"

    def __init__(self, stably_conn_id: str = default_conn_name, *, timeout: float | None = None) -> None:
        super().__init__()
        self.stably_conn_id = check_conn_id(stably_conn_id)
        self.timeout = None if timeout is None else seconds("timeout", timeout)
        self._started_at: dict[str, float] = {}
        # Not cached properties: those of Python 3.11 let all hooks wait while one connection is looked up.
        self._client: StablyClient | None = None
        self._known_settings: ConnectionSettings | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what holds the API key: a copy reads the connection again."""
        return {**self.__dict__, "_client": None, "_known_settings": None}

    def get_conn(self) -> requests.Session:
        """Return an authenticated session, for calls that this hook has no method for.

        It takes addresses relative to :attr:`base_url`, e.g. ``session.get("/v1/projects/...")``. The key
        goes to the connection's host only, redirects are not followed and there is always a timeout.

        :raises StablyConfigError: if the connection cannot be used.
        """
        return self.client.session

    @property
    def base_url(self) -> str:
        """Where the API is: scheme, host and perhaps port and path, without a slash at the end.

        :raises StablyConfigError: if the connection cannot be used.
        """
        return self._settings.endpoint.base_url

    @property
    def client(self) -> StablyClient:
        """The client that all synchronous calls of this hook share; threads may use it at once."""
        if self._client is None:
            self._client = self.make_client()
        return self._client

    def make_client(
        self,
        *,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
        by_address: bool = False,
    ) -> StablyClient:
        """Return a client with a session of its own.

        :param connect_timeout: Seconds; None leaves it to the connection, as that of ``read_timeout`` does.
        :param sleep: Waits the given seconds before a call is sent again.
        :param by_address: Whether to connect without a name look-up, if this process has reached the host.
        """
        from airflow_provider_stably.api.client import StablyClient

        endpoint = self._settings.endpoint
        endpoint = replace(
            endpoint,
            connect_timeout=connect_timeout or endpoint.connect_timeout,
            read_timeout=read_timeout or endpoint.read_timeout,
        )
        return StablyClient(endpoint, sleep=sleep, by_address=by_address)

    def make_async_client(self, *, timeout: float | None = None) -> AsyncStablyClient:
        """Return a client for ``async with``; the connection is read here, in this thread.

        :param timeout: Seconds to connect, and seconds to read; None leaves it to the hook.
        :raises StablyConfigError: if the connection cannot be used.
        """
        from airflow_provider_stably.api.async_client import AsyncStablyClient

        endpoint = self._settings.endpoint
        if timeout is not None:
            endpoint = replace(endpoint, connect_timeout=timeout, read_timeout=timeout)
        return AsyncStablyClient(endpoint)

    async def get_async_client(self) -> AsyncStablyClient:
        """Return what :meth:`make_async_client` does, without blocking the event loop."""
        from airflow_provider_stably.tasks.triggerer import ask

        return await ask(self.make_async_client)

    def start_run(
        self,
        *,
        project_id: str | None = None,
        playwright_project_name: str | None = None,
        branch: str | None = None,
        environment: str | None = None,
        env_overrides: Mapping[str, Any] | None = None,
        autofix: bool | None = None,
    ) -> str:
        """Start a run; each call that is accepted is a new run.

        :param project_id: The project; None takes the connection's.
        :param playwright_project_name: Playwright project (``--project``) to run; None runs all.
        :param branch: Git branch to associate with the run.
        :param environment: Name of a Stably environment.
        :param env_overrides: Environment variable name to value; scalars are sent as text. Never logged.
        :param autofix: Whether Stably tries to fix what failed; None leaves it to the project's default.
        :returns: The run's id.
        :raises ValueError: if an argument is of another type.
        :raises StablyAmbiguousStartError: if the answer was lost: an untracked run may exist.
        :raises StablyError: on any other failure; then no run was started.
        """
        from airflow_provider_stably.api import calls

        call = calls.start_run(
            self.resolve_project_id(project_id),
            playwright_project_name=text_or_none(playwright_project_name, "playwright_project_name"),
            branch=text_or_none(branch, "branch"),
            environment=text_or_none(environment, "environment"),
            env_overrides=env_overrides_as_text(env_overrides),
            autofix=true_or_false(autofix, "autofix"),
        )
        run_id = self.client.send(call)
        self._started_at[run_id] = time.time()
        return run_id

    def get_run(self, run_id: str, *, project_id: str | None = None) -> Run:
        """Read a run's status and results.

        :param project_id: The run's project; None takes the connection's.
        :raises StablyNotFoundError: if the project has no such run.
        :raises StablyError: on any other failure.
        """
        from airflow_provider_stably.api import calls

        run = self._reference(run_id, project_id)
        return self.client.send(calls.get_run(run.project_id, run.run_id))

    def wait_for_run(
        self,
        run_id: str,
        *,
        project_id: str | None = None,
        timeout: float | timedelta = timedelta(hours=24),
        poll_interval: float | timedelta = 30,
    ) -> Run:
        """Wait, in this thread, until a run is over. The run is never cancelled.

        :param project_id: The run's project; None takes the connection's.
        :param timeout: Seconds after which to give up.
        :param poll_interval: Longest pause between two polls, in seconds; at first polls are closer together.
        :returns: The run as it ended, however it ended: see its ``is_passed``.
        :raises StablyRunTimeoutError: if it was not over in time.
        :raises StablyRunLostError: if the API lastingly refuses the key, or does not find the run.
        :raises StablyError: if the connection cannot be used.
        """
        from airflow_provider_stably.runs.belief import Belief
        from airflow_provider_stably.runs.driver import BlockingDriver, run_blocking
        from airflow_provider_stably.runs.watch import watch

        run = self._reference(run_id, project_id)
        now = time.time()
        deadline = now + seconds("timeout", timeout, at_least=0)
        poll_interval = seconds("poll_interval", poll_interval)
        driver = BlockingDriver(self.client, reconnect=self.reconnect)
        started_at, belief = run.started_at or now, Belief(key_has_worked=run.started_at is not None)
        result = run_blocking(
            watch(run, driver, belief, started_at=started_at, deadline=deadline, poll_interval=poll_interval)
        )
        if result.polled is None:
            raise result.error() or RuntimeError(f"run {run_id} is not over")
        return result.polled

    def cancel_run(self, run_id: str, *, project_id: str | None = None) -> CancelResult:
        """Cancel a run and find out what became of it.

        One that this hook has started is not believed missing before it is two minutes old.

        :param project_id: The run's project; None takes the connection's.
        :returns: ``outcome``, the word that the cancel operator uses (``cancelled``, ``already_finished``,
            ``still_live``, ``not_found``, ``denied`` or ``unknown``), the run's ``status`` if it is known, a
            ``detail`` for people, and ``is_over``: whether nothing is left running.
        :raises StablyConfigError: if the connection cannot be used.
        :raises StablyInvalidIdError: if an id cannot be one; nothing was sent.
        """
        from airflow_provider_stably.runs.cancel import cancel
        from airflow_provider_stably.runs.driver import BlockingDriver, run_blocking

        run = self._reference(run_id, project_id)
        return run_blocking(cancel(run, BlockingDriver(self.client, reconnect=self.reconnect)))

    def run_url(self, run_id: str, *, project_id: str | None = None) -> str:
        """Return the address of a run's page in Stably's dashboard; ``project_id`` as of the others."""
        return self._reference(run_id, project_id).run_url

    def resolve_project_id(self, project_id: str | None = None) -> str:
        """Return the given project id, or the connection's if None.

        :raises StablyConfigError: if there is neither.
        :raises StablyInvalidIdError: if it cannot be one.
        """
        from airflow_provider_stably.api.calls import check_id

        resolved = str(project_id or self._settings.project_id)
        if not resolved:
            problem, conn_id = "no project id: pass project_id, or set the default here", self.stably_conn_id
            raise StablyConfigError(problem, conn_id=conn_id, field="login")
        return check_id("project", resolved)

    def test_connection(self) -> tuple[bool, str]:
        """Check the key without starting anything: read a run that cannot exist.

        :returns: Whether the key was accepted, and what that does and does not show.
        """
        from airflow_provider_stably.hooks.key_check import check_key, without_id

        try:
            accepted, message = check_key(self.client, self._settings.project_id)
        except StablyConfigError as error:
            accepted, message = False, str(error)
        return accepted, without_id(message, self.stably_conn_id)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Describe the form's standard fields for Airflow before 3.2."""
        from airflow_provider_stably.hooks.form import ui_field_behaviour

        return ui_field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Describe the form's own fields for Airflow before 3.2."""
        from airflow_provider_stably.hooks.form import connection_form_widgets

        return connection_form_widgets()

    def _reference(self, run_id: str, project_id: str | None) -> RunReference:
        from airflow_provider_stably.runs.named_runs import read_run

        run = read_run(run_id, argument="run_id")
        reference = run.in_project(run.project_id or self.resolve_project_id(project_id))
        return replace(reference, started_at=self._started_at.get(reference.run_id))

    def reconnect(self) -> StablyClient:
        """Look the connection up anew, as its key may have been rotated; one that cannot be read is kept."""
        from airflow_provider_stably.tasks.best_effort import best_effort

        with best_effort("The connection cannot be read now, so the old one is kept"):
            new = copy(self)  # reads the connection again; other threads use the old client meanwhile
            self._client, self._known_settings = new.client, new._settings
        return self.client

    @property
    def _settings(self) -> ConnectionSettings:
        from airflow_provider_stably.hooks.connection import look_up

        if self._known_settings is None:
            self._known_settings = look_up(self.get_connection, self.stably_conn_id, timeout=self.timeout)
        return self._known_settings

"""The deferred wait for a Stably run."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_stably.api.text import shown
from airflow_provider_stably.exceptions import StablyConfigError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs.cancel import cancel
from airflow_provider_stably.runs.driver import AsyncDriver
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.watch import next_delay, watch_or_cancel
from airflow_provider_stably.runs.watch_result import WatchResult
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.deadline import deferral_timeout
from airflow_provider_stably.tasks.triggerer import is_still_deferred
from airflow_provider_stably.tasks.version_compat import HAS_TRIGGER_ON_KILL

if TYPE_CHECKING:
    from airflow_provider_stably.api.async_client import AsyncStablyClient

T = TypeVar("T")

KILL_SECONDS = 25.0
"""For on_kill: Airflow gives a trigger 30 s."""

_shielded: set[asyncio.Future[Any]] = set()
"""Strong references: asyncio keeps only weak ones to tasks."""


class StablyRunTrigger(BaseTrigger):
    """Watch a run until it is over or the deadline has passed, then fire one event.

    The event is a ``WatchResult`` of ``runs.watch_result`` as JSON: ``end`` (``finished``, ``timed_out``,
    ``denied``, ``not_found``), ``run`` (the run's summary), ``detail`` and ``cancellation``.

    :param run_id: The run.
    :param project_id: Its project.
    :param stably_conn_id: Id of a connection of type ``stably``, looked up in the triggerer.
    :param started_at: When the run was started, in seconds since the epoch; the pace of polling follows it.
    :param deadline: When to give up, in seconds since the epoch. Airflow 3 does not enforce a task's
        ``execution_timeout`` while it is deferred, so it is enforced here.
    :param poll_interval: Longest pause between two polls, in seconds.
    :param cancel_on_kill: Whether to cancel the run when watching ends before the run does.
    """

    def __init__(
        self,
        *,
        run_id: str,
        project_id: str,
        stably_conn_id: str,
        started_at: float,
        deadline: float,
        poll_interval: float,
        cancel_on_kill: bool,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's is untyped
        self.run_id = run_id
        self.project_id = project_id
        self.stably_conn_id = stably_conn_id
        self.started_at = started_at
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments: ids, numbers and a boolean; no secret."""
        return (
            "airflow_provider_stably.triggers.stably.StablyRunTrigger",
            {
                "run_id": self.run_id,
                "project_id": self.project_id,
                "stably_conn_id": self.stably_conn_id,
                "started_at": self.started_at,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch the run and fire one event.

        :raises ValueError: if the arguments, which crossed a database, would make it poll on and on.
        """
        self._check_arguments()
        try:
            result = await self._watch()
        except asyncio.CancelledError:
            if not HAS_TRIGGER_ON_KILL:
                # A shutdown looks the same; only the task itself tells which it is.
                await _shield(self.cancel_if_abandoned(in_doubt=False))
            raise
        yield TriggerEvent(result.to_json())  # type: ignore[no-untyped-call] # so is this

    async def on_kill(self) -> None:
        """Cancel the run when a user marks or clears the deferred task (Airflow 3.3 and later)."""
        await _shield(self.cancel_if_abandoned(in_doubt=True))

    def _check_arguments(self) -> None:
        for name in ("started_at", "deadline", "poll_interval"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 < value < math.inf):  # false for nan too
                raise ValueError(f"{name} is a number of seconds above 0, not {shown(value)}")

    async def _watch(self) -> WatchResult:
        async with AsyncExitStack() as clients:
            connect = partial(self._connect, clients)
            return await watch_or_cancel(
                RunReference(self.run_id, self.project_id),
                AsyncDriver(await connect(), reconnect=connect),
                started_at=self.started_at,
                deadline=self.deadline,
                poll_interval=self.poll_interval,
                cancel_unfinished=self.cancel_on_kill,
            )

    async def cancel_if_abandoned(self, *, in_doubt: bool) -> None:
        """Cancel the run if its task no longer waits for it.

        That is looked up, because Airflow also ends a trigger that another triggerer has taken over.

        :param in_doubt: Whether to cancel if Airflow cannot tell.
        """
        if not self.cancel_on_kill:
            return
        is_abandoned = in_doubt
        with best_effort(f"Cannot tell whether run {self.run_id} is still waited for"):
            is_abandoned = not await is_still_deferred(self.task_instance, self.run_id)
        if not is_abandoned:
            return
        run = RunReference(self.run_id, self.project_id)
        with best_effort(f"Run {self.run_id} could not be cancelled"):
            async with (
                asyncio.timeout(KILL_SECONDS),
                await StablyHook(self.stably_conn_id).get_async_client() as client,
            ):
                result = await cancel(run, AsyncDriver(client))
            self.log.info("Run %s: its deferred task was killed: %s", self.run_id, result.outcome)

    async def _connect(self, clients: AsyncExitStack) -> AsyncStablyClient:
        """Look the connection up and enter a client, again until the deadline if Airflow cannot tell now."""
        while True:
            try:
                client = await _shield(StablyHook(self.stably_conn_id).get_async_client())
            except Exception as error:
                # A secrets backend raises whatever it likes, and one that fails for a while must not end the
                # watching. Airflow even says "not defined" of a connection whose backend failed just now.
                is_unusable = isinstance(error, StablyConfigError) and error.field != "conn_id"
                if is_unusable or time.time() >= self.deadline:
                    raise
                self.log.warning("Connection %s cannot be read now", self.stably_conn_id, exc_info=True)
                await asyncio.sleep(next_delay(time.time() - self.started_at, self.poll_interval))
            else:
                return await clients.enter_async_context(client)


async def _shield(work: Coroutine[Any, Any, T]) -> T:
    """Await something that goes on although this wait for it is cancelled.

    Airflow 3 cancels a trigger again every second until it has ended, ``on_kill`` included. And a question to
    Airflow 3.0 or 3.1 that is cut off ends the whole triggerer: its answer is taken for the next one's.
    """
    future = asyncio.ensure_future(work)
    _shielded.add(future)
    future.add_done_callback(_shielded.discard)
    return await asyncio.shield(future)


def wait_in_triggerer(
    run: RunReference,
    *,
    stably_conn_id: str,
    started_at: float,
    deadline: float,
    poll_interval: float,
    cancel_on_kill: bool,
) -> NoReturn:
    """Defer the task until its run is over; it resumes in ``execute_complete``. Arguments as of the trigger.

    :raises TaskDeferred: always.
    """
    trigger = StablyRunTrigger(
        run_id=run.run_id,
        project_id=run.project_id,
        stably_conn_id=stably_conn_id,
        started_at=started_at,
        deadline=deadline,
        poll_interval=poll_interval,
        cancel_on_kill=cancel_on_kill,
    )
    raise TaskDeferred(trigger=trigger, method_name="execute_complete", timeout=deferral_timeout(deadline))

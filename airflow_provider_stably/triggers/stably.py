"""The deferred wait for a Stably run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_stably.awaiting import is_still_deferred
from airflow_provider_stably.best_effort import best_effort
from airflow_provider_stably.cancellation import cancellation
from airflow_provider_stably.conclusion import WatchResult
from airflow_provider_stably.conversation import aconduct
from airflow_provider_stably.exceptions import StablyConfigError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.run_reference import RunReference
from airflow_provider_stably.watching import next_delay, supervision

if TYPE_CHECKING:
    from airflow_provider_stably.api.async_client import AsyncStablyClient

T = TypeVar("T")

KILL_SECONDS = 25.0
"""For on_kill: Airflow gives a trigger 30 s."""

HAS_ON_KILL = hasattr(BaseTrigger, "on_kill")
"""Whether Airflow tells a trigger that a user acted on its task: from 3.3 on. Delete with 3.2."""


_going_on: set[asyncio.Future[Any]] = set()
"""Keeps what nobody waits for any more from being collected as garbage."""


class StablyRunTrigger(BaseTrigger):
    """Watch a run until it is over or the deadline has passed, then fire one event.

    The event is a :class:`~airflow_provider_stably.conclusion.WatchResult` as JSON: ``end`` (``finished``,
    ``timed_out``, ``denied``, ``not_found``), ``run`` (the run's summary), ``detail`` and ``cancellation``.

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
        """Watch the run and fire one event."""
        try:
            conclusion = await self._watch()
        except asyncio.CancelledError:
            if not HAS_ON_KILL:
                # A shutdown looks the same; only the task itself tells which it is.
                await _seen_through(self._cancel_if_abandoned(in_doubt=False))
            raise
        yield TriggerEvent(conclusion.to_json())  # type: ignore[no-untyped-call] # so is this

    async def on_kill(self) -> None:
        """Cancel the run when a user marks or clears the deferred task (Airflow 3.3 and later)."""
        await _seen_through(self._cancel_if_abandoned(in_doubt=True))

    async def _watch(self) -> WatchResult:
        reference = RunReference(self.run_id, self.project_id)
        async with AsyncExitStack() as clients:
            connect = partial(self._connect, clients)
            watched = await aconduct(
                supervision(
                    reference,
                    started_at=self.started_at,
                    deadline=self.deadline,
                    poll_interval=self.poll_interval,
                    cancel=self.cancel_on_kill,
                ),
                await connect(),
                reconnect=connect,
            )
        return WatchResult.of(reference, watched)

    async def _cancel_if_abandoned(self, *, in_doubt: bool) -> None:
        """Cancel the run if its task no longer waits for it.

        That is looked up, because Airflow also ends a trigger that another triggerer has taken over.

        :param in_doubt: Whether to cancel if Airflow cannot tell.
        """
        if not self.cancel_on_kill:
            return
        is_abandoned = in_doubt
        with best_effort(f"Cannot tell whether run {self.run_id} is still awaited"):
            is_abandoned = not await is_still_deferred(self.task_instance, self.run_id)
        if not is_abandoned:
            return
        run = RunReference(self.run_id, self.project_id)
        with best_effort(f"Run {self.run_id} could not be cancelled"):
            async with (
                asyncio.timeout(KILL_SECONDS),
                await StablyHook(self.stably_conn_id).get_async_client() as client,
            ):
                verdict = await aconduct(cancellation(run), client)
            self.log.info("Run %s: its deferred task was killed: %s", self.run_id, verdict.outcome)

    async def _connect(self, clients: AsyncExitStack) -> AsyncStablyClient:
        """Look the connection up and enter a client, again until the deadline if Airflow cannot tell now."""
        while True:
            try:
                client = await _seen_through(StablyHook(self.stably_conn_id).get_async_client())
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


async def _seen_through(work: Coroutine[Any, Any, T]) -> T:
    """Await something that goes on although this wait for it is cancelled.

    Airflow 3 cancels a trigger again every second until it has ended, ``on_kill`` included. And a question to
    Airflow 3.0 or 3.1 that is cut off ends the whole triggerer: its answer is taken for the next one's.
    """
    going_on = asyncio.ensure_future(work)
    _going_on.add(going_on)
    going_on.add_done_callback(_going_on.discard)
    return await asyncio.shield(going_on)

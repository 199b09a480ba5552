"""The deferred wait for a Stably run."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Coroutine
from inspect import signature
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_stably.api.retries import MAX_RETRY_AFTER_SECONDS
from airflow_provider_stably.api.text import shown
from airflow_provider_stably.exceptions import StablyConfigError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs.belief import Belief
from airflow_provider_stably.runs.cancel import HEEDED_IN_HASTE_SECONDS, cancel
from airflow_provider_stably.runs.driver import AsyncDriver
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.watch import settle, watch
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

KILL_REQUEST_SECONDS = 10.0
"""To connect, and again to read, then: an answer that never comes leaves time for another attempt."""

HAND_BACK_SECONDS = 300.0
"""How long this machine's own trouble may last before the worker goes on watching.

That is no connection, no trust in the API's certificate, or an answer that its HTTP library cannot read. An
API that is down hands nothing back: thousands of triggers would storm the workers.
"""

LOOK_UP_SECONDS = 30.0
"""How long a poll waits for the connection: a secrets backend may never answer."""

FIRST_EVENT_SECONDS = 10.0
"""How long after its begin, and so after the deferral, a trigger fires at the earliest.

Airflow 3.3 fails a task whose trigger is faster than the exit of the worker that deferred it ("state
mismatch"), and uploading its logs takes a worker seconds.
"""

_shielded: set[asyncio.Future[Any]] = set()
"""Strong references: asyncio keeps only weak ones to tasks."""


class StablyRunTrigger(BaseTrigger):
    """Watch a run until it is over or the deadline has passed, then fire one event.

    The event is a ``WatchResult`` of ``runs.watch_result`` as JSON: ``end`` (``finished``, ``timed_out``,
    ``denied``, ``not_found``, ``handed_back``), ``run`` (the run's summary), ``detail`` and ``cancellation``.

    :param run_id: The run.
    :param project_id: Its project.
    :param stably_conn_id: Id of a connection of type ``stably``, looked up in the triggerer.
    :param started_at: When the run was started, in seconds since the epoch; the pace of polling follows it.
    :param deadline: When to give up, in seconds since the epoch. Airflow 3 does not enforce a task's
        ``execution_timeout`` while it is deferred, so it is enforced here.
    :param poll_interval: Longest pause between two polls, in seconds.
    :param cancel_on_kill: Whether to cancel the run when watching ends before the run does.
    :param key_has_worked: Whether the API has accepted the key in this wait already.
    :param queue_deadline: When to give up if the run is still QUEUED, in seconds since the epoch; None never
        gives up for that.
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
        key_has_worked: bool = True,
        queue_deadline: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's is untyped
        self.run_id = run_id
        self.project_id = project_id
        self.stably_conn_id = stably_conn_id
        self.started_at = started_at
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.key_has_worked = key_has_worked
        self.queue_deadline = queue_deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments: ids, numbers and booleans; no secret."""
        return (
            "airflow_provider_stably.triggers.stably.StablyRunTrigger",
            {name: getattr(self, name) for name in signature(StablyRunTrigger).parameters},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch the run and fire one event.

        :raises ValueError: if the arguments, which crossed a database, would make it poll on and on.
        """
        began = time.monotonic()
        try:
            self._check_arguments()
            result = await self._watch()
            await self._wait_for_worker(began)
        except Exception:  # and raised again, once the run is cancelled
            # After any error Airflow may fail the task without resuming it, so nobody else would cancel.
            await _shield(self._cancel())
            await self._wait_for_worker(began)
            raise
        except BaseException:  # an interruption: asyncio's, or that of pytest-timeout
            if self.task_instance is None:  # inline, in dag.test(): nobody goes on
                await _shield(self._cancel())
            elif not HAS_TRIGGER_ON_KILL:
                # A shutdown cancels the trigger the same way; only the task's state says which it is.
                await _shield(self.cancel_if_abandoned(in_doubt=False))
            raise
        yield TriggerEvent(result.to_event())  # type: ignore[no-untyped-call] # so is this

    async def on_kill(self) -> None:
        """Cancel the run when a user marks or clears the deferred task (Airflow 3.3 and later)."""
        await _shield(self.cancel_if_abandoned(in_doubt=True))

    def _check_arguments(self) -> None:
        for name in ("started_at", "deadline", "poll_interval", "queue_deadline"):
            value = getattr(self, name)
            if name == "queue_deadline" and value is None:
                continue
            if not (isinstance(value, int | float) and 0 < value < math.inf):  # false for nan too
                raise ValueError(f"{name} is a number of seconds above 0, not {shown(value)}")

    async def _watch(self) -> WatchResult:
        belief = Belief(key_has_worked=self.key_has_worked, local_seconds=HAND_BACK_SECONDS)
        async with _TriggerDriver(self.stably_conn_id) as driver:
            result = await watch(
                self._run,
                driver,
                belief,
                started_at=self.started_at,
                deadline=self.deadline,
                poll_interval=self.poll_interval,
                queue_deadline=self.queue_deadline,
            )
            return await settle(self._run, driver, result) if self.cancel_on_kill else result

    @property
    def _run(self) -> RunReference:
        started_at = self.started_at if isinstance(self.started_at, int | float) else None  # unchecked yet
        return RunReference(self.run_id, self.project_id, self.stably_conn_id, started_at)

    async def _wait_for_worker(self, began: float) -> None:
        """Wait until the worker that deferred the task has exited, as far as one can tell.

        :param began: When this trigger began, by the monotonic clock: the worker's clock may be another.
        """
        if self.task_instance is not None:
            await asyncio.sleep(max(0.0, began + FIRST_EVENT_SECONDS - time.monotonic()))

    async def cancel_if_abandoned(self, *, in_doubt: bool) -> None:
        """Cancel the run if its task no longer waits for it.

        That is asked, because Airflow also ends a trigger that another triggerer has taken over.

        :param in_doubt: Whether to cancel if Airflow cannot tell.
        """
        is_abandoned = in_doubt
        with best_effort(f"Cannot tell whether run {self.run_id} is still waited for"):
            is_abandoned = not await is_still_deferred(self.task_instance, self.run_id)
        if is_abandoned:
            await self._cancel()

    async def _cancel(self) -> None:
        if not self.cancel_on_kill:
            return
        with best_effort(f"Run {self.run_id} could not be cancelled"):
            async with (
                asyncio.timeout(KILL_SECONDS),
                _TriggerDriver(self.stably_conn_id, in_haste=True) as driver,
            ):
                result = await cancel(self._run, driver, patience=KILL_SECONDS)
            self.log.info("Run %s: nobody waits for it any more: %s", self.run_id, result)


class _TriggerDriver(AsyncDriver):
    """Looks the connection up in the triggerer: at the first call, and at each one until that works.

    :param in_haste: Whether there are only :data:`KILL_SECONDS`.
    """

    def __init__(self, stably_conn_id: str, *, in_haste: bool = False) -> None:
        self._stably_conn_id = stably_conn_id
        self._heeded = HEEDED_IN_HASTE_SECONDS if in_haste else MAX_RETRY_AFTER_SECONDS
        self._timeout = KILL_REQUEST_SECONDS if in_haste else None
        self._entered: AsyncStablyClient | None = None
        self._looking_up: asyncio.Future[AsyncStablyClient] | None = None
        self.now = time.time

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._entered is not None:
            await self._entered.__aexit__(None, None, None)

    async def reconnect(self) -> None:
        """Look the connection up anew; keep the old one if that fails."""
        before = self._entered
        with best_effort("The connection cannot be read now, so the old one is kept"):
            self._entered = await self._look_up()
            if before is not None:
                await before.__aexit__(None, None, None)

    async def _connected(self) -> AsyncStablyClient:
        if self._entered is None:
            self._entered = await self._look_up()
        return self._entered

    async def _look_up(self) -> AsyncStablyClient:
        """Look the connection up; one that does not answer is waited for again, and not asked anew.

        :raises StablyConfigError: if it cannot be used, or is not there in time.
        """
        if self._looking_up is None:
            hook = StablyHook(self._stably_conn_id, timeout=self._timeout)
            self._looking_up = _kept(hook.get_async_client())
        done, _ = await asyncio.wait([self._looking_up], timeout=LOOK_UP_SECONDS)
        if not done:
            problem = f"cannot be read now: no answer in {LOOK_UP_SECONDS:g} s"
            raise StablyConfigError(problem, conn_id=self._stably_conn_id, field="conn_id")
        found, self._looking_up = self._looking_up, None
        return await found.result().__aenter__()


async def _shield(work: Coroutine[Any, Any, T]) -> T:
    """Await something that goes on although this wait for it is cancelled.

    Airflow 3 cancels a trigger again every second until it has ended, ``on_kill`` included. And a question to
    Airflow 3.0 or 3.1 that is cut off ends the whole triggerer: its answer is taken for the next one's.
    """
    return await asyncio.shield(_kept(work))


def _kept(work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    """Begin something that goes on although nobody may wait for it."""
    future = asyncio.ensure_future(work)
    _shielded.add(future)
    future.add_done_callback(_shielded.discard)
    return future


def wait_in_triggerer(
    run: RunReference,
    *,
    stably_conn_id: str,
    deadline: float,
    poll_interval: float,
    cancel_on_kill: bool,
    key_has_worked: bool = True,
    queue_deadline: float | None = None,
) -> NoReturn:
    """Defer the task until its run is over; it resumes in ``execute_complete``. Arguments as of the trigger.

    :raises TaskDeferred: always.
    """
    trigger = StablyRunTrigger(
        run_id=run.run_id,
        project_id=run.project_id,
        stably_conn_id=stably_conn_id,
        started_at=time.time() if run.started_at is None else run.started_at,
        deadline=deadline,
        poll_interval=poll_interval,
        cancel_on_kill=cancel_on_kill,
        key_has_worked=key_has_worked,
        queue_deadline=queue_deadline,
    )
    raise TaskDeferred(trigger=trigger, method_name="execute_complete", timeout=deferral_timeout(deadline))

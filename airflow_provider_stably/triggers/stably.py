"""The deferred wait for a Stably run."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from inspect import signature
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_stably.api.text import shown
from airflow_provider_stably.runs.belief import Belief
from airflow_provider_stably.runs.cancel import cancel
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.watch import settle, watch
from airflow_provider_stably.runs.watch_result import WatchResult
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.deadline import deferral_timeout
from airflow_provider_stably.tasks.triggerer import is_still_deferred
from airflow_provider_stably.tasks.version_compat import HAS_TRIGGER_ON_KILL
from airflow_provider_stably.triggers.driver import TriggerDriver, shield

KILL_SECONDS = 25.0
"""For on_kill: Airflow gives a trigger 30 s."""

HAND_BACK_SECONDS = 300.0
"""How long this machine's own trouble may last before the worker goes on watching.

That is no connection, no trust in the API's certificate, or an answer that its HTTP library cannot read. An
API that is down hands nothing back: thousands of triggers would storm the workers.
"""

FIRST_EVENT_SECONDS = 10.0
"""How long after its begin, and so after the deferral, a trigger fires at the earliest.

Airflow 3.3 fails a task whose trigger is faster than the exit of the worker that deferred it ("state
mismatch"), and uploading its logs takes a worker seconds.
"""


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
        self._driver = TriggerDriver(stably_conn_id)

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
            await shield(self._cancel())
            await self._wait_for_worker(began)
            raise
        except BaseException:  # an interruption: asyncio's, or that of pytest-timeout
            if self.task_instance is None:  # inline, in dag.test(): nobody goes on
                await shield(self._cancel())
            elif not HAS_TRIGGER_ON_KILL:
                # A shutdown cancels the trigger the same way; only the task's state says which it is.
                await shield(self.cancel_if_abandoned(in_doubt=False))
            raise
        yield TriggerEvent(result.to_event())  # type: ignore[no-untyped-call] # so is this

    async def on_kill(self) -> None:
        """Cancel the run when a user marks or clears the deferred task (Airflow 3.3 and later)."""
        await shield(self.cancel_if_abandoned(in_doubt=True))

    def _check_arguments(self) -> None:
        for name in ("started_at", "deadline", "poll_interval", "queue_deadline"):
            value = getattr(self, name)
            if name == "queue_deadline" and value is None:
                continue
            if not (isinstance(value, int | float) and 0 < value < math.inf):  # false for nan too
                raise ValueError(f"{name} is a number of seconds above 0, not {shown(value)}")

    async def _watch(self) -> WatchResult:
        belief = Belief(key_has_worked=self.key_has_worked, local_seconds=HAND_BACK_SECONDS)
        async with self._driver:
            result = await watch(
                self._run,
                self._driver,
                belief,
                started_at=self.started_at,
                deadline=self.deadline,
                poll_interval=self.poll_interval,
                queue_deadline=self.queue_deadline,
            )
            return await settle(self._run, self._driver, result) if self.cancel_on_kill else result

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
            async with asyncio.timeout(KILL_SECONDS), self._driver.in_haste() as driver:
                result = await cancel(self._run, driver, patience=KILL_SECONDS)
            self.log.info("Run %s: nobody waits for it any more: %s", self.run_id, result)


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

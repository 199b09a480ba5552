"""Cancel runs from a callback: within a time budget, and without ever raising."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any, TypeVar

from airflow_provider_stably.api.async_client import AsyncStablyClient
from airflow_provider_stably.exceptions import StablyConfigError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs.cancel import (
    CONCURRENCY,
    HEEDED_IN_HASTE_SECONDS,
    CancelOutcome,
    CancelResult,
    cancel,
)
from airflow_provider_stably.runs.driver import AsyncDriver
from airflow_provider_stably.runs.reference import RunReference, by_connection
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.triggerer import ask

T = TypeVar("T")

log = logging.getLogger(__name__)

BUDGET_SECONDS = 15.0
"""For all requests of one callback.

Airflow 3 sends a task's process SIGTERM 20 s after the task's end (``[core] task_success_overtime``, failed
tasks, too) and SIGKILL 5 s later, whatever other callbacks wait. A dag processor has 50 s for a file.
"""

LEAST_SECONDS = 2.0
"""For a callback that comes when the budget is spent: the runs that it asks for were not asked for before."""

REQUEST_SECONDS = 6.0
"""To connect, and again to read: an answer that never comes leaves time for another attempt."""

LOOK_UP_PAUSES = (0.5, 1.5)
"""Before connections that cannot be read are looked up again, in seconds: all of one budget together.

Not longer, as they may not exist, and the runs of the others wait.
"""

LOOK_UP_AGAIN_SECONDS = 3.0
"""From the beginning of a budget: a secrets backend that takes seconds to fail is not asked again."""

SHARE_FOR_PATIENCE = 0.7
"""Of the budget: what is not settled then is reported as it was last seen."""

FORGET_SECONDS = 20.0
"""How long after its end a budget is remembered: an owner's callbacks follow one another at once."""

SECONDS_TO_END = 1.0
"""For the loop to log what was not settled and to close its connections, after the budget."""


@dataclass(slots=True)
class Budget:
    """One owner's allowance: when it ends (monotonic clock), which runs it has asked for, pauses left."""

    end: float = field(default_factory=lambda: time.monotonic() + BUDGET_SECONDS)
    asked: set[RunReference] = field(default_factory=set)
    _pauses: Iterator[float] = field(default_factory=lambda: iter(LOOK_UP_PAUSES))

    @property
    def left(self) -> float:
        """Seconds that are left for requests."""
        return max(LEAST_SECONDS, self.end - time.monotonic())

    def look_up(self, question: Callable[[], T]) -> T:
        """Ask a hook, again if its connection is not there: a secrets backend may fail for a moment."""
        again_until = self.end - BUDGET_SECONDS + LOOK_UP_AGAIN_SECONDS
        while True:
            try:
                return question()
            except StablyConfigError as error:
                may_pass = error.may_pass and time.monotonic() < again_until
                pause = next(self._pauses, None) if may_pass else None
                if pause is None:
                    raise
                log.info("%s; looking it up again in %g s", error, pause)
            # Two seconds in all, in the callback's process or a thread of the triggerer: no event loop waits.
            time.sleep(pause)


_budgets: dict[object, Budget] = {}


def budget_of(owner: object) -> Budget:
    """Return the budget that all callbacks of an owner share, as Airflow waits for all of them together.

    It begins with the first callback.

    :param owner: Whose callback this is.
    """
    now = time.monotonic()
    for key in [key for key, budget in _budgets.items() if budget.end + FORGET_SECONDS < now]:
        del _budgets[key]
    return _budgets.setdefault(owner, Budget())


def cancel_within_budget(
    runs: Iterable[RunReference], budget: Budget, *, stably_conn_id: str = StablyHook.default_conn_name
) -> None:
    """Cancel runs, each with the connection that it was started with, and log what became of each.

    The second callback of a budget leaves alone what the first has asked for with the same connection.

    :param stably_conn_id: For the runs whose connection is not known.
    """
    by_name = (replace(run, stably_conn_id=run.stably_conn_id or stably_conn_id) for run in runs)
    fresh = [run for run in by_name if run not in budget.asked]
    threads: list[Thread] = []
    for conn_id, its_runs in by_connection(fresh, stably_conn_id).items():
        with best_effort(f"Not cancelled: {_names(its_runs)}"):
            hook = StablyHook(conn_id, timeout=REQUEST_SECONDS)
            client = budget.look_up(hook.make_async_client)
            budget.asked.update(its_runs)
            # At once: a slow secrets backend may take seconds for each of the other connections.
            threads.append(_begin(_cancel_all(client, its_runs, budget.left)))
    end = time.monotonic() + budget.left + SECONDS_TO_END
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


async def acancel_within_budget(runs: Iterable[RunReference], budget: Budget, *, stably_conn_id: str) -> None:
    """Do the same on this event loop."""
    async with asyncio.TaskGroup() as cancels:
        for conn_id, its_runs in by_connection(runs, stably_conn_id).items():
            with best_effort(f"Not cancelled: {_names(its_runs)}"):
                hook = StablyHook(conn_id, timeout=REQUEST_SECONDS)
                client = await ask(budget.look_up, hook.make_async_client)
                cancels.create_task(_cancel_all(client, its_runs, budget.left))


def _begin(work: Coroutine[Any, Any, None]) -> Thread:
    """Do work in a thread of its own, which may be left behind.

    A name lookup that stalls cannot be interrupted, and in a notebook this thread has an event loop already.
    """
    thread = Thread(target=asyncio.run, args=(work,), name="stably-callback", daemon=True)
    thread.start()
    return thread


async def _cancel_all(client: AsyncStablyClient, runs: list[RunReference], seconds: float) -> None:
    # Of each project, as a refusal is about one: its runs, which are patient, hold no others up.
    slots = {run.project_id: asyncio.Semaphore(CONCURRENCY) for run in runs}
    each = [_cancel(run, client, slots[run.project_id], seconds) for run in runs]
    with suppress(TimeoutError):  # each run that is not settled then is logged
        async with asyncio.timeout(seconds):
            await asyncio.gather(*each)


async def _cancel(
    run: RunReference, client: AsyncStablyClient, slots: asyncio.Semaphore, seconds: float
) -> None:
    with best_effort(f"Run {run.run_id}: not cancelled; see {run.run_url}"):
        try:
            async with slots, client:
                driver = AsyncDriver(client, heeded=HEEDED_IN_HASTE_SECONDS)
                result = await cancel(run, driver, patience=SHARE_FOR_PATIENCE * seconds)
        except asyncio.CancelledError:
            _report(run, CancelResult(CancelOutcome.UNKNOWN, detail="not settled within the callback's time"))
            raise
        _report(run, result)


def _report(run: RunReference, result: CancelResult) -> None:
    if result.is_over:
        log.info("Run %s: %s", run.run_id, result)
    else:
        log.warning("Run %s: %s; see %s", run.run_id, result, run.run_url)


def _names(runs: Iterable[RunReference]) -> str:
    return f"Stably runs {', '.join(run.run_id for run in runs)}"

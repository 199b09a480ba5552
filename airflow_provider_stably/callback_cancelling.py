"""Cancel runs from a callback: within a time limit, and without ever raising."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from threading import Thread
from typing import Any

from airflow_provider_stably.api.async_client import AsyncStablyClient
from airflow_provider_stably.best_effort import best_effort
from airflow_provider_stably.cancellation import CONCURRENCY, OVER, CancelOutcome, CancelResult, cancellation
from airflow_provider_stably.conversation import aconduct
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.run_reference import RunReference

log = logging.getLogger(__name__)

BUDGET_SECONDS = 15.0
"""For all requests of one callback.

Airflow 3 sends a task's process SIGTERM 20 s after the task's end (``[core] task_success_overtime``, failed
tasks, too) and SIGKILL 5 s later, whatever other callbacks wait. A dag processor has 50 s for a file.
"""

REQUEST_SECONDS = 6.0
"""To connect, and again to read: so that an answer that never comes leaves time for another attempt."""

SECONDS_TO_END = 1.0
"""For the loop to say what was not settled and to close its connections, after the budget."""


def cancel_within_budget(
    runs: Iterable[RunReference], *, stably_conn_id: str = StablyHook.default_conn_name
) -> None:
    """Cancel runs, each with the connection that it was started with, and log what became of each.

    :param stably_conn_id: For the runs that do not tell theirs.
    """
    clients: list[tuple[AsyncStablyClient, list[RunReference]]] = []
    for hook, its_runs in _by_connection(runs, stably_conn_id):
        with best_effort(f"{_names(its_runs)}: not cancelled"):
            clients.append((hook.make_async_client(), its_runs))
    _leave_after_budget(_cancel_within_budget(clients))


async def acancel_within_budget(runs: Iterable[RunReference], *, stably_conn_id: str) -> None:
    """Do the same on this event loop."""
    clients: list[tuple[AsyncStablyClient, list[RunReference]]] = []
    for hook, its_runs in _by_connection(runs, stably_conn_id):
        with best_effort(f"{_names(its_runs)}: not cancelled"):
            clients.append((await hook.get_async_client(), its_runs))
    await _cancel_within_budget(clients)


def _leave_after_budget(work: Coroutine[Any, Any, None]) -> None:
    """Carry work out in a thread of its own, and leave it behind if it does not end in time.

    A name look-up that stalls cannot be interrupted, and in a notebook this thread has an event loop already.
    """
    thread = Thread(target=asyncio.run, args=(work,), name="stably-callback", daemon=True)
    thread.start()
    thread.join(BUDGET_SECONDS + SECONDS_TO_END)


async def _cancel_within_budget(clients: Iterable[tuple[AsyncStablyClient, list[RunReference]]]) -> None:
    slots = asyncio.Semaphore(CONCURRENCY)
    with suppress(TimeoutError):  # each run that is not settled then has said so
        async with asyncio.timeout(BUDGET_SECONDS):
            await asyncio.gather(*(_cancel(run, client, slots) for client, runs in clients for run in runs))


async def _cancel(run: RunReference, client: AsyncStablyClient, slots: asyncio.Semaphore) -> None:
    with best_effort(f"Run {run.run_id}: not cancelled; see {run.run_url}"):
        try:
            async with slots, client:
                verdict = await aconduct(cancellation(run), client)
        except asyncio.CancelledError:
            _report(
                run, CancelResult(CancelOutcome.UNKNOWN, detail=f"not settled within {BUDGET_SECONDS:g} s")
            )
            raise
        _report(run, verdict)


def _report(run: RunReference, verdict: CancelResult) -> None:
    status = f" ({verdict.status})" if verdict.status else ""
    if verdict.outcome in OVER:
        log.info("Run %s: %s%s", run.run_id, verdict.outcome, status)
        return
    log.warning("Run %s: %s%s, %s; see %s", run.run_id, verdict.outcome, status, verdict.detail, run.run_url)


def _by_connection(
    runs: Iterable[RunReference], stably_conn_id: str
) -> list[tuple[StablyHook, list[RunReference]]]:
    by_connection: dict[str, list[RunReference]] = {}
    for run in dict.fromkeys(runs):
        by_connection.setdefault(run.stably_conn_id or stably_conn_id, []).append(run)
    return [(StablyHook(conn_id, timeout=REQUEST_SECONDS), its) for conn_id, its in by_connection.items()]


def _names(runs: Iterable[RunReference]) -> str:
    return f"Run(s) {', '.join(run.run_id for run in runs)}"

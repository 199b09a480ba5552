"""Cancel runs side by side, and wait until they are over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs.cancel import (
    CONCURRENCY,
    MAY_CHANGE,
    CancelOutcome,
    CancelResult,
    cancel,
    read_status,
)
from airflow_provider_stably.runs.driver import BlockingDriver, run_blocking
from airflow_provider_stably.runs.reference import RunReference

Results = dict[RunReference, CancelResult]

log = logging.getLogger(__name__)


def cancel_all(hooks: Mapping[RunReference, StablyHook], *, missing_seconds: float = 0.0) -> Results:
    """Cancel runs side by side, each with its own result.

    A refusal is a word about its project, not about all runs of a connection: it stops those of the project
    that are not begun yet. A run that is not found is tried again after all others, which would wait for it.

    :param hooks: Each run and the hook that reaches it.
    :param missing_seconds: As of :func:`~airflow_provider_stably.runs.cancel.cancel`.
    """
    refused: set[tuple[str, str | None]] = set()

    def cancel_one(run: RunReference, missing_seconds: float = 0.0) -> CancelResult:
        project = (run.project_id, run.stably_conn_id)
        if project in refused:
            detail = f"the API key had been refused for project {run.project_id}"
            return CancelResult(CancelOutcome.NOT_ATTEMPTED, detail=detail)
        result = run_blocking(cancel(run, BlockingDriver(hooks[run].client), missing_seconds=missing_seconds))
        if result.outcome is CancelOutcome.DENIED:
            refused.add(project)
        log.info("Run %s: %s", run.run_id, replace(result, detail=""))
        return result

    # Without its start, a young run, too, is not waited for.
    results = _side_by_side(lambda run: cancel_one(replace(run, started_at=None)), hooks)
    missing = [run for run, result in results.items() if result.is_404]
    for run, result in _side_by_side(partial(cancel_one, missing_seconds=missing_seconds), missing).items():
        if result.outcome is not CancelOutcome.NOT_FOUND or results[run].outcome is CancelOutcome.NOT_FOUND:
            results[run] = result  # else it was just seen, or could not be read: it may be live
    return results


def wait_until_over(
    results: Mapping[RunReference, CancelResult],
    hooks: Mapping[RunReference, StablyHook],
    *,
    timeout: float,
    poll_interval: float,
) -> Results:
    """Wait until the runs whose cancellation was accepted are over, and return all results.

    One that is still live is cancelled again and again: perhaps by an earlier try's request, it may end yet.

    :param hooks: Each run and the hook that reaches it.
    :param timeout: Seconds for all of them together; those still live then are ``still_live``.
    :param poll_interval: Seconds between two polls.
    """
    deadline = time.monotonic() + timeout
    settled = dict(results)
    accepted = {run for run, result in results.items() if result.outcome is CancelOutcome.CANCELLED}
    waiting = [run for run in results if run in accepted or results[run].outcome is CancelOutcome.STILL_LIVE]

    def poll(run: RunReference) -> CancelResult:
        driver = BlockingDriver(hooks[run].client)
        if run not in accepted:
            result = run_blocking(cancel(replace(run, started_at=None), driver))
            if result.outcome is not CancelOutcome.CANCELLED:
                return _known_before(result)
            accepted.add(run)
        return _after_acceptance(run_blocking(read_status(run, driver, once=True)), timeout)

    while waiting:
        settled |= _side_by_side(poll, waiting)
        waiting = [run for run in waiting if settled[run].outcome in MAY_CHANGE]
        left = deadline - time.monotonic()
        if left <= 0 or not waiting:
            break
        # The pause between two polls of a task that only waits; Airflow's signals interrupt it.
        time.sleep(min(poll_interval, left))
        # In this thread: Airflow 3.0 mixes up the answers to questions of several.
        for hook in {hooks[run] for run in waiting if settled[run].outcome is CancelOutcome.DENIED}:
            hook.reconnect()
    return settled


def _after_acceptance(result: CancelResult, timeout: float) -> CancelResult:
    """Return the result for a run that the API said it had cancelled."""
    if result.outcome is CancelOutcome.ALREADY_FINISHED:
        return replace(result, outcome=CancelOutcome.CANCELLED)
    if result.outcome is CancelOutcome.STILL_LIVE:
        return replace(result, detail=f"cancellation accepted but still {result.status} after {timeout:g} s")
    return _known_before(result)


def _known_before(result: CancelResult) -> CancelResult:
    """Return the result for a run that the API knew a moment ago."""
    if result.outcome is not CancelOutcome.NOT_FOUND:
        return result
    return replace(result, outcome=CancelOutcome.UNKNOWN, detail=f"not found now; {result.detail}")


def _side_by_side(work: Callable[[RunReference], CancelResult], runs: Iterable[RunReference]) -> Results:
    executor = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="stably")
    try:
        futures = {run: executor.submit(work, run) for run in runs}
        return {run: future.result() for run, future in futures.items()}
    finally:
        # After an execution_timeout nothing new is begun; what is under way ends by its own time limits.
        executor.shutdown(wait=False, cancel_futures=True)

"""Cancel runs and know what became of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Event
from typing import TYPE_CHECKING, Any

from airflow_provider_stably.api import protocol
from airflow_provider_stably.api.models import RunStatus
from airflow_provider_stably.conversation import Once, Pause, Step, conduct
from airflow_provider_stably.exceptions import StablyAuthError, StablyError, StablyNotFoundError
from airflow_provider_stably.run_reference import RunReference

if TYPE_CHECKING:
    from airflow_provider_stably.api.client import StablyClient

log = logging.getLogger(__name__)

MAX_CANCEL_ATTEMPTS = 3
"""How often a run is asked to stop that the API reports as live after it was asked."""

SECONDS_BETWEEN_ATTEMPTS = 1.0

CONCURRENCY = 8
"""How many runs are dealt with at once."""


class CancelOutcome(StrEnum):
    """What became of a run that was to be cancelled."""

    CANCELLED = "cancelled"
    ALREADY_FINISHED = "already_finished"
    STILL_LIVE = "still_live"
    NOT_FOUND = "not_found"
    DENIED = "denied"
    UNKNOWN = "unknown"
    NOT_ATTEMPTED = "not_attempted"
    MALFORMED = "malformed"


OVER = frozenset({CancelOutcome.CANCELLED, CancelOutcome.ALREADY_FINISHED})
"""Nothing is left running."""

_WORTH_ANOTHER_LOOK = frozenset({CancelOutcome.STILL_LIVE, CancelOutcome.UNKNOWN, CancelOutcome.NOT_FOUND})


@dataclass(frozen=True, slots=True)
class CancelResult:
    """What became of one run.

    :param status: As last read or, for ``cancelled``, as the answer implies; None if not known.
    :param detail: What happened, for people.
    """

    outcome: CancelOutcome
    status: str | None = None
    detail: str = ""

    def to_json(self) -> dict[str, str | None]:
        """Write the verdict as the XCom ``outcomes`` has it."""
        return {"outcome": str(self.outcome), "status": None if self.status is None else str(self.status)}


Cancellation = Generator[Step, Any, CancelResult]


def cancellation(run: RunReference) -> Cancellation:
    """Cancel a run; where the answer does not settle it, look at the run.

    A 400 says nothing by itself (its text is unpublished), a lost answer neither: one status read decides.
    """
    verdict = CancelResult(CancelOutcome.UNKNOWN)
    for attempt in range(MAX_CANCEL_ATTEMPTS):
        if attempt:
            yield Pause(SECONDS_BETWEEN_ATTEMPTS)
        try:
            cancelled = yield protocol.cancel_run(run.project_id, run.run_id)
        except StablyAuthError as error:
            return CancelResult(CancelOutcome.DENIED, detail=str(error))
        except StablyError as error:
            log.info("Run %s: %s; reading its status", run.run_id, error)
        else:
            if run.run_id in cancelled:
                return CancelResult(CancelOutcome.CANCELLED, RunStatus.CANCELLED)
        verdict = yield from reading(run)
        if verdict.outcome is not CancelOutcome.STILL_LIVE:
            return verdict
    return replace(verdict, detail=f"the API did not cancel it in {MAX_CANCEL_ATTEMPTS} attempts")


def reading(run: RunReference, *, once: bool = False) -> Cancellation:
    """Read a run's status as a verdict.

    :param once: Whether to send the call a single time, because the next look is the retry.
    """
    call = protocol.get_run(run.project_id, run.run_id)
    try:
        answer = yield Once(call) if once else call
    except StablyAuthError as error:
        return CancelResult(CancelOutcome.DENIED, detail=str(error))
    except StablyNotFoundError:
        return CancelResult(CancelOutcome.NOT_FOUND, detail=f"project {run.project_id} has no such run")
    except StablyError as error:
        return CancelResult(CancelOutcome.UNKNOWN, detail=str(error))
    if not answer.is_finished:
        return CancelResult(CancelOutcome.STILL_LIVE, answer.status)
    is_cancelled = answer.status is RunStatus.CANCELLED
    return CancelResult(
        CancelOutcome.CANCELLED if is_cancelled else CancelOutcome.ALREADY_FINISHED, answer.status
    )


def cancel_all(runs: Iterable[RunReference], client: StablyClient) -> dict[RunReference, CancelResult]:
    """Cancel runs side by side, each with its own verdict; a refused key stops those not begun yet."""
    denied = Event()

    def cancel(run: RunReference) -> CancelResult:
        if denied.is_set():
            return CancelResult(CancelOutcome.NOT_ATTEMPTED, detail="the API key had been refused")
        verdict = conduct(cancellation(run), client)
        if verdict.outcome is CancelOutcome.DENIED:
            denied.set()
        log.info(
            "Run %s: %s%s", run.run_id, verdict.outcome, f" ({verdict.status})" if verdict.status else ""
        )
        return verdict

    return _side_by_side(cancel, runs)


def wait_until_over(
    verdicts: Mapping[RunReference, CancelResult],
    client: StablyClient,
    *,
    timeout: float,
    poll_interval: float,
) -> dict[RunReference, CancelResult]:
    """Wait until the runs whose cancellation was accepted are over, and return all verdicts.

    :param timeout: Seconds for all of them together; those still live then are ``still_live``.
    :param poll_interval: Seconds between two looks.
    """
    deadline = time.monotonic() + timeout
    settled = dict(verdicts)
    waiting = [run for run, verdict in verdicts.items() if verdict.outcome is CancelOutcome.CANCELLED]
    while waiting:
        seen = _side_by_side(lambda run: conduct(reading(run, once=True), client), waiting)
        settled.update({run: _after_acceptance(verdict, timeout) for run, verdict in seen.items()})
        waiting = [run for run in waiting if settled[run].outcome in _WORTH_ANOTHER_LOOK]
        left = deadline - time.monotonic()
        if left <= 0:
            break
        if waiting:
            time.sleep(min(poll_interval, left))  # wait_for_termination is a wait on the worker
    return settled


def _after_acceptance(verdict: CancelResult, timeout: float) -> CancelResult:
    """Read a verdict on a run that the API said it had cancelled."""
    if verdict.outcome is CancelOutcome.ALREADY_FINISHED:
        return replace(verdict, outcome=CancelOutcome.CANCELLED)
    if verdict.outcome is CancelOutcome.STILL_LIVE:
        return replace(
            verdict, detail=f"cancellation accepted but still {verdict.status} after {timeout:g} s"
        )
    return verdict


def _side_by_side(
    work: Callable[[RunReference], CancelResult], runs: Iterable[RunReference]
) -> dict[RunReference, CancelResult]:
    executor = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="stably")
    try:
        futures = {run: executor.submit(work, run) for run in runs}
        return {run: future.result() for run, future in futures.items()}
    finally:
        # After an execution_timeout nothing new is begun; what is under way ends by its own time limits.
        executor.shutdown(wait=False, cancel_futures=True)

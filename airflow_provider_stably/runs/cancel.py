"""Cancel a run and find out what became of it."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.models import RunStatus
from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyError,
    StablyHTTPError,
    StablyNotFoundError,
)
from airflow_provider_stably.runs import belief
from airflow_provider_stably.runs.driver import Driver
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary

log = logging.getLogger(__name__)

MAX_CANCEL_ATTEMPTS = 3
"""How often a cancel is sent, without patience, for a run that stays live, or while the key is refused."""

SECONDS_BETWEEN_ATTEMPTS = 1.0
LONGEST_SECONDS_BETWEEN_ATTEMPTS = 15.0

HEEDED_IN_HASTE_SECONDS = 5.0
"""How much of a Retry-After is heeded where a cancel has seconds: one of half a minute would outlast them."""

CONCURRENCY = 8
"""How many runs are cancelled at once."""


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

MAY_CHANGE = frozenset(
    {CancelOutcome.STILL_LIVE, CancelOutcome.UNKNOWN, CancelOutcome.DENIED, CancelOutcome.NOT_FOUND}
)
"""A retry of the task may end otherwise."""

_SENT_AGAIN = frozenset({CancelOutcome.STILL_LIVE, CancelOutcome.DENIED})


@dataclass(frozen=True, slots=True)
class CancelResult:
    """What became of one run.

    :param status: As last read or, for ``cancelled``, as the answer implies; None if not known.
    :param detail: What happened, for people.
    :param summary: Results of a run that was over already, from the same answer as its status; else None.
    :param is_404: Whether the status call was answered with a 404, the API's or a front end's.
    """

    outcome: CancelOutcome
    status: str | None = None
    detail: str = ""
    summary: RunSummary | None = field(default=None, repr=False, compare=False)
    is_404: bool = field(default=False, repr=False, compare=False)

    def __str__(self) -> str:
        status = f" ({self.status})" if self.status else ""
        detail = f", {self.detail}" if self.detail else ""
        return f"{self.outcome}{status}{detail}"

    @property
    def is_over(self) -> bool:
        """Whether the run is known to have ended."""
        return self.outcome in OVER

    def to_json(self) -> dict[str, str | None]:
        """Write the result as the XCom ``outcomes`` has it."""
        return {"outcome": str(self.outcome), "status": None if self.status is None else str(self.status)}


async def cancel(
    run: RunReference, stably: Driver, *, patience: float = 0.0, missing_seconds: float = 0.0
) -> CancelResult:
    """Cancel a run; where the answer does not settle it, read the run's status.

    A run that stays live, or whose cancel is refused, is cancelled again, a few times. One that is not found
    is too, as long as it is young: some services do not find a new run for its first seconds.

    :param patience: Seconds to go on while nothing is settled: refused, not found, not readable, live.
    :param missing_seconds: Seconds that a run has to be not found, and nothing else, before that is the
        result; of an old one, too.
    """
    began = stably.now()
    found_at = 0.0 if run.started_at is None else min(run.started_at, began) + belief.MISSING_SECONDS
    missing_since: float | None = None
    attempt, seen = 0, Counter[CancelOutcome]()
    while True:
        result = await _cancel_once(run, stably)
        attempt += 1
        seen[result.outcome] += 1
        if result.is_over:
            return result
        now = stably.now()
        missing_since = (missing_since or now) if result.is_404 else None
        is_worth_it = (
            (result.outcome in _SENT_AGAIN and seen[result.outcome] < MAX_CANCEL_ATTEMPTS)
            or (missing_since is not None and now < max(found_at, missing_since + missing_seconds))
            or now < began + patience
        )
        if not is_worth_it:
            break
        await stably.sleep(min(SECONDS_BETWEEN_ATTEMPTS * attempt, LONGEST_SECONDS_BETWEEN_ATTEMPTS))
        if result.outcome is CancelOutcome.DENIED:
            await stably.reconnect()
    if result.outcome is CancelOutcome.DENIED:
        # A service that refuses changes for a while may still tell that the run is over.
        seen_now = await read_status(run, stably, once=True)
        return seen_now if seen_now.is_over else result
    if result.outcome is CancelOutcome.STILL_LIVE:
        return replace(result, detail=f"the API did not cancel it in {attempt} attempts")
    if result.outcome is CancelOutcome.NOT_FOUND and len(seen) > 1:
        # Not lasting, so not believed: a run that was just seen, or could not be read, may be live.
        return replace(result, outcome=CancelOutcome.UNKNOWN, detail=f"not found now; {result.detail}")
    return result


async def _cancel_once(run: RunReference, stably: Driver) -> CancelResult:
    """Send one cancel. If a 400 or a lost answer leaves the outcome open, read the run's status.

    That it is not found then is believed if the cancel has not found it either, and not of an outage.
    """
    is_answered = True
    try:
        cancelled = await stably.send(calls.cancel_run(run.project_id, run.run_id))
    except StablyAuthError as error:
        return CancelResult(CancelOutcome.DENIED, detail=str(error))
    except StablyError as error:
        # A 400 is the API's usual answer for a run that is over: no news until its status is read.
        is_usual = isinstance(error, StablyHTTPError) and error.status == 400
        is_answered = isinstance(error, StablyHTTPError) and error.status in {400, 404} and error.is_from_api
        level = logging.DEBUG if is_usual else logging.INFO
        log.log(level, "Run %s: %s; reading its status", run.run_id, error)
    else:
        if run.run_id in cancelled:
            return CancelResult(CancelOutcome.CANCELLED, RunStatus.CANCELLED)
    result = await read_status(run, stably)
    if result.outcome is CancelOutcome.NOT_FOUND and not is_answered:
        detail = f"{result.detail}, and no answer to its cancel"
        return replace(result, outcome=CancelOutcome.UNKNOWN, detail=detail)
    return result


async def read_status(run: RunReference, stably: Driver, *, once: bool = False) -> CancelResult:
    """Read a run's status as the result of a cancel.

    :param once: Whether to send the call a single time, because the next poll is the retry.
    """
    call = calls.get_run(run.project_id, run.run_id)
    try:
        answer = await (stably.send_once(call) if once else stably.send(call))
    except StablyAuthError as error:
        return CancelResult(CancelOutcome.DENIED, detail=str(error))
    except StablyNotFoundError as error:
        outcome, detail = CancelOutcome.UNKNOWN, str(error)  # a front end's page knows nothing of runs
        if error.is_from_api:
            outcome, detail = CancelOutcome.NOT_FOUND, f"project {run.project_id} has no such run"
        return CancelResult(outcome, detail=detail, is_404=True)
    except StablyError as error:
        return CancelResult(CancelOutcome.UNKNOWN, detail=str(error))
    if not answer.is_finished:
        return CancelResult(CancelOutcome.STILL_LIVE, answer.status)
    if answer.status is RunStatus.CANCELLED:
        return CancelResult(CancelOutcome.CANCELLED, answer.status)
    return CancelResult(CancelOutcome.ALREADY_FINISHED, answer.status, summary=RunSummary.of(run, answer))

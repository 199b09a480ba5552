"""Cancel a run and find out what became of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from enum import StrEnum

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.models import RunStatus
from airflow_provider_stably.exceptions import StablyAuthError, StablyError, StablyNotFoundError
from airflow_provider_stably.runs.driver import Driver
from airflow_provider_stably.runs.reference import RunReference

log = logging.getLogger(__name__)

MAX_CANCEL_ATTEMPTS = 3
"""How often a cancel is sent for a run that stays live."""

SECONDS_BETWEEN_ATTEMPTS = 1.0

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

MAY_CHANGE = frozenset({CancelOutcome.STILL_LIVE, CancelOutcome.UNKNOWN})
"""A retry of the task may end otherwise."""


@dataclass(frozen=True, slots=True)
class CancelResult:
    """What became of one run.

    :param status: As last read or, for ``cancelled``, as the answer implies; None if not known.
    :param detail: What happened, for people.
    """

    outcome: CancelOutcome
    status: str | None = None
    detail: str = ""

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


async def cancel(run: RunReference, stably: Driver) -> CancelResult:
    """Cancel a run; where the answer does not settle it, read the run's status.

    A 400 says nothing by itself (its text is unpublished), a lost answer neither: one status read decides.
    """
    result = CancelResult(CancelOutcome.UNKNOWN)
    for attempt in range(MAX_CANCEL_ATTEMPTS):
        if attempt:
            await stably.sleep(SECONDS_BETWEEN_ATTEMPTS)
        try:
            cancelled = await stably.send(calls.cancel_run(run.project_id, run.run_id))
        except StablyAuthError as error:
            return CancelResult(CancelOutcome.DENIED, detail=str(error))
        except StablyError as error:
            log.info("Run %s: %s; reading its status", run.run_id, error)
        else:
            if run.run_id in cancelled:
                return CancelResult(CancelOutcome.CANCELLED, RunStatus.CANCELLED)
        result = await read_status(run, stably)
        if result.outcome is not CancelOutcome.STILL_LIVE:
            return result
    return replace(result, detail=f"the API did not cancel it in {MAX_CANCEL_ATTEMPTS} attempts")


async def read_status(run: RunReference, stably: Driver, *, once: bool = False) -> CancelResult:
    """Read a run's status as the result of a cancel.

    :param once: Whether to send the call a single time, because the next poll is the retry.
    """
    call = calls.get_run(run.project_id, run.run_id)
    try:
        answer = await (stably.send_once(call) if once else stably.send(call))
    except StablyAuthError as error:
        return CancelResult(CancelOutcome.DENIED, detail=str(error))
    except StablyNotFoundError:
        return CancelResult(CancelOutcome.NOT_FOUND, detail=f"project {run.project_id} has no such run")
    except StablyError as error:
        return CancelResult(CancelOutcome.UNKNOWN, detail=str(error))
    if not answer.is_finished:
        return CancelResult(CancelOutcome.STILL_LIVE, answer.status)
    is_cancelled = answer.status is RunStatus.CANCELLED
    outcome = CancelOutcome.CANCELLED if is_cancelled else CancelOutcome.ALREADY_FINISHED
    return CancelResult(outcome, answer.status)

"""Leave in Airflow what became of a run, for the tasks and callbacks that come after."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from airflow_provider_stably.exceptions import StablyRunError
from airflow_provider_stably.runs.cancel import CancelResult
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary
from airflow_provider_stably.runs.watch_result import WatchResult
from airflow_provider_stably.tasks.best_effort import best_effort

log = logging.getLogger(__name__)

SUMMARY_KEY = "summary"
"""The XCom that has the summary of every run, green or red; ``return_value`` has only that of a green one."""


def push_unfinished(context: Any, run: RunReference, cancelled: CancelResult | None = None) -> None:
    """Push what is known of a run whose end this task has not seen.

    As soon as the run is known, so that it is there however the task ends.

    :param cancelled: What became of it when the task gave up; None as long as it has not.
    """
    message, status = f"Run {run.run_id} was started, and its end not seen by this task", None
    if cancelled is not None:
        message, status = (
            f"Run {run.run_id} was no longer watched, cancel result: {cancelled}",
            cancelled.status,
        )
    summary = replace(RunSummary.of(run, None), status=status)
    _push(context, run.run_id, summary.with_message(f"{message}; see {run.run_url}"))


def publish(context: Any, result: WatchResult, error: StablyRunError | None) -> None:
    """Push the run's summary, before the task ends with ``error`` or, if that is None, well."""
    if error is None and not result.run.total:
        log.warning(
            "Run %s passed without a test case: is the Playwright project's name right? min_tests=1 makes "
            "that an error; see %s",
            result.run.run_id,
            result.run.run_url,
        )
    _push(context, result.run.run_id, result.summary(error))


def _push(context: Any, run_id: str, summary: dict[str, Any]) -> None:
    with best_effort(f"The summary of run {run_id} could not be pushed to XCom"):
        context["ti"].xcom_push(key=SUMMARY_KEY, value=summary)

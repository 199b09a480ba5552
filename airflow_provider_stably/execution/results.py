"""Leave in Airflow what became of a run, for the tasks and callbacks that come after."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.models import Run
from airflow_provider_stably.arguments import is_missing, text_or_none
from airflow_provider_stably.exceptions import StablyError, StablyRunError
from airflow_provider_stably.execution.options import RunTestsOptions, WatchRunOptions
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.links.stably import RUN_URL_KEY, StablyRunLink
from airflow_provider_stably.runs.cancel import CancelResult
from airflow_provider_stably.runs.junit import junit_xml
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary, is_another_branch
from airflow_provider_stably.runs.watch_result import WatchResult
from airflow_provider_stably.tasks.best_effort import best_effort
from airflow_provider_stably.tasks.version_compat import is_asset, push_past_backend

log = logging.getLogger(__name__)

ASSET_EXTRA = ("run_id", "project_id", "run_url", "status", "total", "passed", "failed", "skipped", "branch")

SUMMARY_KEY = "summary"
"""The XCom that has the summary of every run, green or red; ``return_value`` has only that of a green one."""


def make_known(context: Any, run: RunReference) -> None:
    """Push a run and its page as soon as it is known, so that they are there however the task ends."""
    push_unfinished(context, run)
    context["ti"].xcom_push(key=RUN_URL_KEY, value=run.run_url)
    push_past_backend(context["ti"], StablyRunLink.xcom_key, run.run_url)


def push_unfinished(context: Any, run: RunReference, cancelled: CancelResult | None = None) -> None:
    """Push what is known of a run whose end this task has not seen.

    :param cancelled: What became of it when the task gave up; None as long as it has not.
    """
    message, summary = f"Run {run.run_id}: its end was not seen by this task", RunSummary.of(run, None)
    if cancelled is not None:
        message = f"Run {run.run_id} was no longer watched, cancel result: {cancelled}"
        summary = replace(summary, status=cancelled.status)
    _push(context, run.run_id, summary.with_message(f"{message}; see {run.run_url}"))


def publish(
    context: Any, result: WatchResult, error: StablyRunError | None, *, branch: object = None
) -> None:
    """Push the run's summary, before the task ends with ``error`` or, if that is None, well.

    :param branch: The branch that the run was asked for, rendered; None if none was.
    """
    asked = _as_started_with(branch)
    if is_another_branch(asked, result.run.branch):
        log.warning("Run %s was on branch %s, not on %.80r", result.run.run_id, result.run.branch, asked)
    if error is None and not result.run.total:
        log.warning(
            "Run %s passed without a test case: is the Playwright project's name right? min_tests=1 makes "
            "that an error; see %s",
            result.run.run_id,
            result.run.run_url,
        )
    if error is None:
        with best_effort("The events of the task's assets do not say which run they are about"):
            _describe_asset_events(context, result.run)
    _push(context, result.run.run_id, result.summary(error))


def _describe_asset_events(context: Any, run: RunSummary) -> None:
    """Say which run passed in the events that Airflow makes of the task's outlets once it has succeeded."""
    value = run.return_value()
    for outlet in context["task"].outlets:
        if is_asset(outlet):
            extra = context["outlet_events"][outlet].extra
            extra.update({name: value[name] for name in ASSET_EXTRA})


def write_junit(
    options: RunTestsOptions | WatchRunOptions,
    result: WatchResult,
    error: StablyRunError | None,
    *,
    is_killed: Callable[[], bool] = lambda: False,
) -> None:
    """Write the run as JUnit XML, if its task asks for that; the run is read once more for its test cases.

    :param is_killed: Whether the task was told to stop.
    """
    with best_effort("The JUnit XML was not written"):
        target = text_or_none(options.junit_xml, "junit_xml")
        if target is None:
            return
        from airflow_provider_stably.execution.publish_junit import publish_junit

        # A sensor has neither.
        project, environment = (
            _as_started_with(getattr(options, name, None))
            for name in ("playwright_project_name", "environment")
        )

        # Here, not in the thread: an Airflow 3.0 whose task goes on meanwhile would mix up two look-ups.
        client = StablyHook(options.stably_conn_id).client

        def read() -> Run:
            run = client.send(calls.get_run(result.run.project_id, result.run.run_id))
            if not run.is_finished:  # a replica behind the others: it has no test cases yet
                raise StablyError(f"Run {run.run_id} is read as {run.status} again")
            return run

        def make() -> bytes:
            run = None
            if error is None:
                run = read()  # or no file: an empty suite would look like a run without tests
            else:
                with best_effort(f"The test cases of run {result.run.run_id} are not in its JUnit XML"):
                    run = read()
            return junit_xml(
                result.run,
                run,
                suite=project or result.run.project_id,
                verdict="" if error is None else str(error.run["message"]),
                environment=environment,
            )

        publish_junit(target, make, is_killed=is_killed)


def _as_started_with(argument: object) -> str | None:
    """Return a rendered argument as the start has sent it, which also warned if there was need."""
    return None if is_missing(argument) else str(argument)


def _push(context: Any, run_id: str, summary: dict[str, Any]) -> None:
    with best_effort(f"The summary of run {run_id} could not be pushed to XCom"):
        context["ti"].xcom_push(key=SUMMARY_KEY, value=summary)

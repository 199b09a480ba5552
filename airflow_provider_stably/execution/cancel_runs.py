"""Cancel the runs that a task names, and account for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_stably.arguments import is_missing
from airflow_provider_stably.exceptions import StablyCancelError, StablyConfigError, StablyError
from airflow_provider_stably.execution.cancel_all import Results, cancel_all, wait_until_over
from airflow_provider_stably.execution.fail_for_good import not_retried
from airflow_provider_stably.execution.options import CancelRunsOptions
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs import belief
from airflow_provider_stably.runs.cancel import MAY_CHANGE, OVER, CancelOutcome, CancelResult
from airflow_provider_stably.runs.named_runs import read_runs
from airflow_provider_stably.runs.reference import RunReference, by_connection
from airflow_provider_stably.tasks.xcom import runs_of_tasks

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

T = TypeVar("T")

_NEXT_STEPS = {
    CancelOutcome.STILL_LIVE: "cancel it in the dashboard, or clear this task",
    CancelOutcome.NOT_FOUND: "check project_id; ignore_missing=True accepts runs that do not exist",
    CancelOutcome.DENIED: "it may still be running; check the API key and its access to the project",
    CancelOutcome.UNKNOWN: "it may still be running; clear this task once that is mended",
    CancelOutcome.NOT_ATTEMPTED: "it may still be running",
}
MAX_LINES = 100
"""How many runs an error names."""


@dataclass(frozen=True, slots=True)
class _NamedRuns:
    """The runs that a task names.

    :param runs: Each once.
    :param unsendable: A result for each id that no request can be made for.
    :param problems: What else cannot be read, as messages, and the outcome that this amounts to.
    """

    runs: Sequence[RunReference] = ()
    unsendable: dict[str, CancelResult] = field(default_factory=dict)
    problems: dict[str, CancelOutcome] = field(default_factory=dict)


class CancelRuns:
    """One execution of the operator."""

    def __init__(self, options: CancelRunsOptions, context: Context, log: Any) -> None:
        self._options = options
        self._context = context
        self._log = log
        self._hook = StablyHook(options.stably_conn_id)

    def execute(self) -> list[str]:
        """Cancel the runs; see the operator."""
        task_ids = self._options.task_ids
        named = self._runs_by_id() if task_ids is None else self._runs_of_tasks(task_ids)
        results = self._cancel(named.runs)
        by_id = {run.run_id: result for run, result in results.items()}
        # What cannot be an id may equal one as text: 123 and "123".
        by_id |= {entry: result for entry, result in named.unsendable.items() if entry not in by_id}
        outcomes = {run_id: result.to_json() for run_id, result in by_id.items()}
        cancelled = [run_id for run_id, result in by_id.items() if result.outcome is CancelOutcome.CANCELLED]
        self._push("outcomes", outcomes)
        if not by_id and not named.problems:
            self._end_without_runs()
        each = [*((run.run_id, result) for run, result in results.items()), *named.unsendable.items()]
        bad = self._bad(each) | named.problems
        if bad:
            self._push("return_value", cancelled)
            self._fail(bad, of=len(each) + len(named.problems), outcomes=outcomes)
        return cancelled

    def _runs_by_id(self) -> _NamedRuns:
        named = read_runs(self._options.run_ids, task_ids=self._context["dag"].task_dict)
        if named.missing:
            self._log.warning(
                "Ignored None in run_ids: a task that was skipped or failed has no XCom. "
                "task_ids names tasks instead and copes with that."
            )
        unsendable = {
            entry: CancelResult(CancelOutcome.MALFORMED, detail=problem)
            for entry, problem in named.malformed.items()
        }
        project_id = self._default_project() if any(not run.project_id for run in named.runs) else ""
        if isinstance(project_id, CancelResult):
            unsendable |= {run.run_id: project_id for run in named.runs if not run.project_id}
            return _NamedRuns([run.in_project("") for run in named.runs if run.project_id], unsendable)
        return _NamedRuns([run.in_project(project_id) for run in named.runs], unsendable)

    def _default_project(self) -> str | CancelResult:
        """Return the project of the runs that name none; if there is none, what becomes of them."""
        given = None if is_missing(self._options.project_id) else self._options.project_id
        return _ask(self._hook, lambda hook: hook.resolve_project_id(given))

    def _runs_of_tasks(self, task_ids: Sequence[str]) -> _NamedRuns:
        started = runs_of_tasks(self._context, task_ids)
        wrong = dict.fromkeys(started.wrong, CancelOutcome.MALFORMED)
        unread = dict.fromkeys(started.unread, CancelOutcome.UNKNOWN)
        return _NamedRuns(started.runs, problems=wrong | unread)

    def _cancel(self, runs: Sequence[RunReference]) -> Results:
        """Cancel the runs of each connection with that connection's key; then wait, if that is wanted."""
        results: Results = {}
        hooks: dict[RunReference, StablyHook] = {}
        for conn_id, its_runs in by_connection(runs, self._hook.stably_conn_id).items():
            hook = self._hook if conn_id == self._hook.stably_conn_id else StablyHook(conn_id)
            client = _ask(hook, lambda hook: hook.client)
            if isinstance(client, CancelResult):
                results |= dict.fromkeys(its_runs, client)
            else:
                hooks |= dict.fromkeys(its_runs, hook)
        # Where a missing run counts as over, it has to stay missing: a 404 may be a bad day's.
        missing_seconds = belief.MISSING_SECONDS if self._options.ignore_missing else 0.0
        results |= cancel_all(hooks, missing_seconds=missing_seconds)
        if self._options.wait_for_termination:
            results |= wait_until_over(
                {run: results[run] for run in hooks},
                hooks,
                timeout=self._options.timeout,
                poll_interval=self._options.poll_interval,
            )
        return {run: results[run] for run in runs}

    def _end_without_runs(self) -> None:
        argument = "task_ids" if self._options.task_ids is not None else "run_ids"
        message = f"No Stably run to cancel: {argument} named none"
        if self._options.on_empty == "success":
            self._log.info(message)
            return
        self._push("return_value", [])
        raise (AirflowSkipException if self._options.on_empty == "skip" else AirflowFailException)(message)

    def _bad(self, each: Iterable[tuple[str, CancelResult]]) -> dict[str, CancelOutcome]:
        over = OVER | {CancelOutcome.NOT_FOUND} if self._options.ignore_missing else OVER
        return {_line(entry, result): result.outcome for entry, result in each if result.outcome not in over}

    def _fail(
        self, bad: Mapping[str, CancelOutcome], *, of: int, outcomes: Mapping[str, Mapping[str, str | None]]
    ) -> NoReturn:
        error = StablyCancelError(_report(bad, of=of), outcomes=outcomes)
        kinds = set(bad.values())
        if kinds & MAY_CHANGE:
            raise error
        raise not_retried(error) from None

    def _push(self, key: str, value: object) -> None:
        if self._options.do_xcom_push:
            self._context["ti"].xcom_push(key=key, value=value)


def _line(entry: str, result: CancelResult) -> str:
    if result.outcome is CancelOutcome.MALFORMED:
        return f"run_ids: {result.detail}: {entry}; nothing was sent for it"
    return f"{entry}: {result}; {_NEXT_STEPS[result.outcome]}"


def _report(bad: Mapping[str, CancelOutcome], *, of: int) -> str:
    """Return the error's text. A single failure stands alone: its cause is on the line that people see."""
    if len(bad) == 1:
        return next(iter(bad))
    counts = ", ".join(f"{count} {outcome}" for outcome, count in Counter(bad.values()).items())
    heading = f"{len(bad)} of {of} Stably runs are not known to be over ({counts}):"
    lines = [f"- {line}" for line in islice(bad, MAX_LINES)]
    if len(bad) > MAX_LINES:
        lines.append(f"- and {len(bad) - MAX_LINES} more: see the XCom 'outcomes'")
    return "\n".join([heading, *lines])


def _ask(hook: StablyHook, question: Callable[[StablyHook], T]) -> T | CancelResult:
    """Ask a connection for something; if it cannot be used, return the result for its runs."""
    try:
        return question(hook)
    except StablyError as error:
        may_pass = isinstance(error, StablyConfigError) and error.may_pass
        outcome = CancelOutcome.UNKNOWN if may_pass else CancelOutcome.NOT_ATTEMPTED
        return CancelResult(outcome, detail=str(error))

"""Cancel the runs that an operator names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_stably.api.protocol import check_id
from airflow_provider_stably.best_effort import best_effort
from airflow_provider_stably.cancellation import (
    OVER,
    CancelOutcome,
    CancelResult,
    cancel_all,
    wait_until_over,
)
from airflow_provider_stably.exceptions import StablyCancelError, StablyError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.pushed_runs import runs_of_tasks
from airflow_provider_stably.run_ids import is_missing, read_run_ids
from airflow_provider_stably.run_reference import RunReference

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_stably.api.client import StablyClient
    from airflow_provider_stably.operators.stably import StablyCancelRunOperator

T = TypeVar("T")

_MAY_CHANGE = frozenset({CancelOutcome.UNKNOWN, CancelOutcome.STILL_LIVE})

_NEXT_STEPS = {
    CancelOutcome.STILL_LIVE: "cancel it in the dashboard, or clear this task",
    CancelOutcome.NOT_FOUND: "check project_id; ignore_missing=True accepts runs that do not exist",
    CancelOutcome.DENIED: "check the connection's API key, then clear this task",
    CancelOutcome.UNKNOWN: "it may still be running; clear this task once the API answers",
    CancelOutcome.NOT_ATTEMPTED: "it may still be running",
    CancelOutcome.MALFORMED: "not a run id, so nothing was sent for it",
}


@dataclass(frozen=True, slots=True)
class _Named:
    """What an operator names.

    :param runs: Each once.
    :param unsendable: A verdict on each id for which no request can be made.
    :param problems: What else cannot be read, told for people, and the outcome that this amounts to.
    """

    runs: Sequence[RunReference] = ()
    unsendable: dict[str, CancelResult] = field(default_factory=dict)
    problems: dict[str, CancelOutcome] = field(default_factory=dict)


class CancelRun:
    """One execution of the operator.

    :param operator: The operator, rendered.
    :param context: The task's context.
    """

    def __init__(self, operator: StablyCancelRunOperator, context: Context) -> None:
        self._operator = operator
        self._context = context
        self._hook = StablyHook(operator.stably_conn_id)
        self.log = operator.log

    def execute(self) -> list[str]:
        """Cancel the runs; see the operator."""
        task_ids = self._operator.task_ids
        named = self._runs_by_id() if task_ids is None else self._runs_of_tasks(task_ids)
        verdicts = self._cancel(named.runs)
        by_id = {run.run_id: verdict for run, verdict in verdicts.items()}
        # What cannot be an id may look like one: 123 and "123".
        by_id |= {entry: verdict for entry, verdict in named.unsendable.items() if entry not in by_id}
        outcomes = {run_id: verdict.to_json() for run_id, verdict in by_id.items()}
        cancelled = [
            run_id for run_id, verdict in by_id.items() if verdict.outcome is CancelOutcome.CANCELLED
        ]
        self._push("outcomes", outcomes)
        if not by_id and not named.problems:
            self._meet_emptiness()
        told = [*((run.run_id, verdict) for run, verdict in verdicts.items()), *named.unsendable.items()]
        bad = self._bad(told) | named.problems
        if bad:
            self._push("return_value", cancelled)
            self._fail(bad, of=len(told) + len(named.problems), outcomes=outcomes)
        return cancelled

    def _runs_by_id(self) -> _Named:
        named = read_run_ids(self._operator.run_ids)
        if named.missing:
            self.log.warning(
                "run_ids has %d rendered nothing(s) ('None', 'null' or blanks), left out. A task that was "
                "skipped or failed has no XCom; task_ids=... names tasks instead and copes with that.",
                named.missing,
            )
        malformed = dict.fromkeys(named.malformed, CancelResult(CancelOutcome.MALFORMED))
        if not named.valid:
            return _Named(unsendable=malformed)
        given = None if is_missing(self._operator.project_id) else self._operator.project_id
        project_id = _ask(self._hook, lambda hook: check_id("project", hook.resolve_project_id(given)))
        if isinstance(project_id, CancelResult):
            return _Named(unsendable=malformed | dict.fromkeys(named.valid, project_id))
        return _Named([RunReference(run_id, project_id) for run_id in named.valid], malformed)

    def _runs_of_tasks(self, task_ids: Sequence[str]) -> _Named:
        pushed = runs_of_tasks(self._context, task_ids)
        problems = dict.fromkeys(pushed.wrong, CancelOutcome.MALFORMED)
        return _Named(pushed.runs, problems=problems | dict.fromkeys(pushed.unread, CancelOutcome.UNKNOWN))

    def _cancel(self, runs: Sequence[RunReference]) -> dict[RunReference, CancelResult]:
        """Cancel the runs of each connection with that connection's key; then wait, if that is wanted."""
        by_connection: dict[str, list[RunReference]] = {}
        for run in runs:
            by_connection.setdefault(run.stably_conn_id or self._hook.stably_conn_id, []).append(run)
        verdicts: dict[RunReference, CancelResult] = {}
        asked: list[tuple[StablyClient, list[RunReference]]] = []
        for conn_id, its_runs in by_connection.items():
            hook = self._hook if conn_id == self._hook.stably_conn_id else StablyHook(conn_id)
            client = _ask(hook, lambda hook: hook.client)
            if isinstance(client, CancelResult):
                verdicts |= dict.fromkeys(its_runs, client)
                continue
            verdicts |= cancel_all(its_runs, client)
            asked.append((client, its_runs))
        for client, its_runs in asked if self._operator.wait_for_termination else []:
            verdicts |= wait_until_over(
                {run: verdicts[run] for run in its_runs},
                client,
                timeout=self._operator.timeout,
                poll_interval=self._operator.poll_interval,
            )
        return {run: verdicts[run] for run in runs}

    def _meet_emptiness(self) -> None:
        argument = "task_ids" if self._operator.task_ids is not None else "run_ids"
        message = f"No Stably run to cancel: {argument} named none"
        if self._operator.on_empty == "success":
            self.log.info(message)
            return
        self._push("return_value", [])
        raise (AirflowSkipException if self._operator.on_empty == "skip" else AirflowFailException)(message)

    def _bad(self, told: Iterable[tuple[str, CancelResult]]) -> dict[str, CancelOutcome]:
        over = OVER | {CancelOutcome.NOT_FOUND} if self._operator.ignore_missing else OVER
        return {
            _line(entry, verdict): verdict.outcome for entry, verdict in told if verdict.outcome not in over
        }

    def _fail(
        self, bad: Mapping[str, CancelOutcome], *, of: int, outcomes: Mapping[str, Mapping[str, str | None]]
    ) -> NoReturn:
        conn_id = self._operator.stably_conn_id
        heading = f"{len(bad)} of {of} Stably runs cannot be shown to be over (connection {conn_id!r}):"
        error = StablyCancelError("\n".join([heading, *(f"- {line}" for line in bad)]), outcomes=outcomes)
        kinds = set(bad.values())
        if kinds & _MAY_CHANGE and CancelOutcome.DENIED not in kinds:
            raise error
        raise AirflowFailException(str(error)) from error

    def _push(self, key: str, value: object) -> None:
        if self._operator.do_xcom_push:
            self._context["ti"].xcom_push(key=key, value=value)


def _ask(hook: StablyHook, question: Callable[[StablyHook], T]) -> T | CancelResult:
    """Ask a connection for something; if it cannot be used, return the verdict on its runs."""
    with best_effort(f"Connection {hook.stably_conn_id!r} cannot be read"):
        try:
            return question(hook)
        except StablyError as error:
            return CancelResult(CancelOutcome.NOT_ATTEMPTED, detail=str(error))
    return CancelResult(
        CancelOutcome.UNKNOWN, detail=f"connection {hook.stably_conn_id!r} cannot be read now"
    )


def _line(entry: str, verdict: CancelResult) -> str:
    status = f" ({verdict.status})" if verdict.status else ""
    detail = f", {verdict.detail}" if verdict.detail else ""
    return f"{entry}: {verdict.outcome}{status}{detail}; {_NEXT_STEPS[verdict.outcome]}"

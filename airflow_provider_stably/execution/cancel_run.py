"""Cancel the runs that an operator names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_stably.api.protocol import check_id
from airflow_provider_stably.cancellation import OVER, Outcome, Verdict, cancel_all, wait_until_over
from airflow_provider_stably.exceptions import StablyCancelError, StablyError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.pushed_runs import runs_of, shared_map_index, tasks_named
from airflow_provider_stably.run_ids import is_missing, read_run_ids
from airflow_provider_stably.run_reference import RunReference

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_stably.operators.stably import StablyCancelRunOperator

_MAY_CHANGE = frozenset({Outcome.UNKNOWN, Outcome.STILL_LIVE})

_NEXT_STEPS = {
    Outcome.STILL_LIVE: "cancel it in the dashboard, or clear this task",
    Outcome.NOT_FOUND: "check project_id; ignore_missing=True accepts runs that do not exist",
    Outcome.DENIED: "check the connection's API key, then clear this task",
    Outcome.UNKNOWN: "it may still be running; clear this task once the API answers",
    Outcome.NOT_ATTEMPTED: "it may still be running",
    Outcome.MALFORMED: "not a run id, so nothing was sent for it",
}


class CancelRun:
    """One execution of the operator.

    :param operator: The operator, rendered.
    :param context: The task's context.
    """

    def __init__(self, operator: StablyCancelRunOperator, context: Context) -> None:
        self._operator = operator
        self._context = context
        self.log = operator.log

    def execute(self) -> list[str]:
        """Cancel the runs; see the operator."""
        hook = StablyHook(self._operator.stably_conn_id)
        try:
            runs, malformed = self._named_runs(hook)
            verdicts = self._cancel(hook, runs) if runs else {}
        except StablyError as error:
            raise AirflowFailException(str(error)) from error
        by_id = {run.run_id: verdict for run, verdict in verdicts.items()} | malformed
        cancelled = [run_id for run_id, verdict in by_id.items() if verdict.outcome is Outcome.CANCELLED]
        self._push("outcomes", {run_id: verdict.to_json() for run_id, verdict in by_id.items()})
        if not by_id:
            self._meet_emptiness()
        self._fail_unless_over(by_id, cancelled)
        return cancelled

    def _named_runs(self, hook: StablyHook) -> tuple[list[RunReference], dict[str, Verdict]]:
        """Return the runs to cancel, each once, and a verdict on each entry that cannot be a run id."""
        if self._operator.task_ids is not None:
            return self._runs_of(self._operator.task_ids), {}
        named = read_run_ids(self._operator.run_ids)
        if named.missing:
            self.log.warning(
                "run_ids has %d rendered nothing(s) ('None', 'null' or blanks), left out. A task that was "
                "skipped or failed has no XCom; task_ids=... names tasks instead and copes with that.",
                named.missing,
            )
        malformed = {entry: Verdict(Outcome.MALFORMED) for entry in named.malformed}
        if not named.valid:
            return [], malformed
        project_id = None if is_missing(self._operator.project_id) else self._operator.project_id
        project_id = check_id("project", hook.resolve_project_id(project_id))
        return [RunReference(run_id, project_id) for run_id in named.valid], malformed

    def _runs_of(self, names: Sequence[str]) -> list[RunReference]:
        try:
            task_ids = tasks_named(self._context["dag"], names)
        except ValueError as error:
            raise AirflowFailException(str(error)) from error
        runs: dict[RunReference, None] = {}
        for task_id in task_ids:
            index = shared_map_index(self._context, task_id)
            try:
                started = runs_of(self._context["ti"], task_id, map_index=index)
            except ValueError as error:
                message = f"The XCom 'stably_run' of task {task_id!r} is not one of this provider's: {error}"
                raise AirflowFailException(message) from error
            if not started:
                self.log.info("Task %s started no Stably run", task_id)
            runs.update(dict.fromkeys(started))
        return list(runs)

    def _cancel(self, hook: StablyHook, runs: Sequence[RunReference]) -> dict[RunReference, Verdict]:
        """Cancel the runs of each connection with that connection's key."""
        verdicts: dict[RunReference, Verdict] = {}
        for stably_conn_id in dict.fromkeys(run.stably_conn_id for run in runs):
            own_hook = StablyHook(stably_conn_id) if stably_conn_id else hook
            of_connection = [run for run in runs if run.stably_conn_id == stably_conn_id]
            verdicts |= self._cancel_with(own_hook, of_connection)
        return {run: verdicts[run] for run in runs}

    def _cancel_with(self, hook: StablyHook, runs: Sequence[RunReference]) -> dict[RunReference, Verdict]:
        verdicts = cancel_all(runs, hook.client)
        if not self._operator.wait_for_termination:
            return verdicts
        return wait_until_over(
            verdicts, hook.client, timeout=self._operator.timeout, poll_interval=self._operator.poll_interval
        )

    def _meet_emptiness(self) -> None:
        argument = "task_ids" if self._operator.task_ids is not None else "run_ids"
        message = f"No Stably run to cancel: {argument} named none"
        if self._operator.on_empty == "success":
            self.log.info(message)
            return
        self._push("return_value", [])
        raise (AirflowSkipException if self._operator.on_empty == "skip" else AirflowFailException)(message)

    def _fail_unless_over(self, verdicts: dict[str, Verdict], cancelled: Sequence[str]) -> None:
        over = OVER | {Outcome.NOT_FOUND} if self._operator.ignore_missing else OVER
        bad = {run_id: verdict for run_id, verdict in verdicts.items() if verdict.outcome not in over}
        if not bad:
            return
        self._push("return_value", list(cancelled))
        error = StablyCancelError(
            _describe(bad, len(verdicts), self._operator.stably_conn_id),
            outcomes={run_id: verdict.to_json() for run_id, verdict in verdicts.items()},
        )
        outcomes = {verdict.outcome for verdict in bad.values()}
        if outcomes & _MAY_CHANGE and Outcome.DENIED not in outcomes:
            raise error
        raise AirflowFailException(str(error)) from error

    def _push(self, key: str, value: object) -> None:
        if self._operator.do_xcom_push:
            self._context["ti"].xcom_push(key=key, value=value)


def _describe(bad: dict[str, Verdict], total: int, conn_id: str) -> str:
    lines = [
        f"- {run_id}: {verdict.outcome}{f' ({verdict.status})' if verdict.status else ''}"
        f"{f', {verdict.detail}' if verdict.detail else ''}; {_NEXT_STEPS[verdict.outcome]}"
        for run_id, verdict in bad.items()
    ]
    heading = f"{len(bad)} of {total} Stably runs cannot be shown to be over (connection {conn_id!r}):"
    return "\n".join([heading, *lines])

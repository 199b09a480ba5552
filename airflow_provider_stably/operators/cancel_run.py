"""Cancel Stably runs."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, BaseOperator

from airflow_provider_stably.api.protocol import check_id
from airflow_provider_stably.cancellation import Outcome, Verdict, cancel_all, wait_until_over
from airflow_provider_stably.exceptions import StablyCancelError, StablyError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.run_ids import is_missing, read_run_ids
from airflow_provider_stably.run_reference import RunReference, started_by

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

OnEmpty = Literal["skip", "success", "fail"]

_OVER = frozenset({Outcome.CANCELLED, Outcome.ALREADY_FINISHED})
_MAY_CHANGE = frozenset({Outcome.UNKNOWN, Outcome.STILL_LIVE})

_NEXT_STEPS = {
    Outcome.STILL_LIVE: "cancel it in the dashboard, or clear this task",
    Outcome.NOT_FOUND: "check project_id; ignore_missing=True accepts runs that do not exist",
    Outcome.DENIED: "check the connection's API key, then clear this task",
    Outcome.UNKNOWN: "it may still be running; clear this task once the API answers",
    Outcome.NOT_ATTEMPTED: "it may still be running",
    Outcome.MALFORMED: "not a run id, so nothing was sent for it",
}


class StablyCancelRunOperator(BaseOperator):
    """Cancel Stably runs and push the cancelled ids to XCom.

    The goal is that nothing is left running: a run that is over already is a success, though not listed.
    Every run is tried before the task fails, and both XComs are pushed before it fails:

    - ``return_value``: ids of the runs that are cancelled, in input order;
    - ``outcomes``: run id to ``{"outcome": ..., "status": ...}``, the outcome one of ``cancelled``,
      ``already_finished``, ``still_live``, ``not_found``, ``denied``, ``unknown``, ``not_attempted``,
      ``malformed``.

    The task fails, and Airflow retries it if it has retries, where a run is still live or could not be read.
    It fails for good where no retry can help: a refused key, an unknown run, a malformed id, a connection
    that cannot be used.

    :param run_ids: One run id or several (templated). A rendered list is read as the list that it is; None,
        an empty text or list, and a rendered ``'None'`` name no run.
    :param task_ids: Instead of ``run_ids``: the tasks of this DAG run whose Stably runs to cancel, mapped
        tasks included, each run in its own project. A task that started none is nothing to cancel.
    :param project_id: Project of the runs in ``run_ids``; default: the connection's (templated).
    :param stably_conn_id: Id of a connection of type ``stably``.
    :param on_empty: What to do if no run is named: ``skip``, ``success`` or ``fail``.
    :param ignore_missing: Whether a run that its project does not have counts as over.
    :param wait_for_termination: Whether to return only when every run is over.
    :param timeout: Seconds to wait for that, all runs together.
    :param poll_interval: Seconds between two looks while waiting.
    """

    template_fields: Sequence[str] = ("run_ids", "project_id")

    def __init__(
        self,
        *,
        run_ids: str | Sequence[str] | XComArg | None = None,
        task_ids: str | Sequence[str] | None = None,
        project_id: str | None = None,
        stably_conn_id: str = StablyHook.default_conn_name,
        on_empty: OnEmpty = "skip",
        ignore_missing: bool = False,
        wait_for_termination: bool = False,
        timeout: float = 120,
        poll_interval: float = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if run_ids is not None and task_ids is not None:
            raise ValueError(
                "run_ids and task_ids exclude each other: name runs, or the tasks that start them"
            )
        if on_empty not in get_args(OnEmpty):
            raise ValueError(f"on_empty is one of {', '.join(get_args(OnEmpty))}, not {on_empty!r}")
        if not (timeout >= 0 and poll_interval > 0):
            raise ValueError("timeout is a number of seconds, 0 or more, and poll_interval one above 0")
        self.run_ids = run_ids
        self.task_ids = task_ids
        self.project_id = project_id
        self.stably_conn_id = stably_conn_id
        self.on_empty = on_empty
        self.ignore_missing = ignore_missing
        self.wait_for_termination = wait_for_termination
        self.timeout = timeout
        self.poll_interval = poll_interval

    def execute(self, context: Context) -> list[str]:
        """Cancel the runs.

        :returns: Ids of the runs that are cancelled, in input order.
        :raises AirflowSkipException: if no run is named and ``on_empty`` is ``skip``.
        :raises AirflowFailException: if a run cannot be shown to be over and no retry can help.
        :raises StablyCancelError: if a retry may help.
        """
        hook = StablyHook(self.stably_conn_id)
        try:
            runs, malformed = self._named_runs(hook, context)
            verdicts = self._cancel(hook, runs) if runs else {}
        except StablyError as error:
            raise AirflowFailException(str(error)) from error
        by_id = {run.run_id: verdict for run, verdict in verdicts.items()} | malformed
        cancelled = [run_id for run_id, verdict in by_id.items() if verdict.outcome is Outcome.CANCELLED]
        self._push(context, "outcomes", {run_id: verdict.to_json() for run_id, verdict in by_id.items()})
        if not by_id:
            self._meet_emptiness(context)
        self._fail_unless_over(context, by_id, cancelled)
        return cancelled

    def _named_runs(
        self, hook: StablyHook, context: Context
    ) -> tuple[list[RunReference], dict[str, Verdict]]:
        """Return the runs to cancel, each once, and a verdict on each entry that cannot be a run id."""
        if self.task_ids is not None:
            task_ids = [self.task_ids] if isinstance(self.task_ids, str) else list(self.task_ids)
            return self._runs_of(task_ids, context), {}
        named = read_run_ids(self.run_ids)
        if named.missing:
            self.log.warning(
                "run_ids has %d rendered nothing(s) ('None', 'null' or blanks), left out. A task that was "
                "skipped or failed has no XCom; task_ids=... names tasks instead and copes with that.",
                named.missing,
            )
        malformed = {entry: Verdict(Outcome.MALFORMED) for entry in named.malformed}
        if not named.valid:
            return [], malformed
        project_id = None if is_missing(self.project_id) else self.project_id
        project_id = check_id("project", hook.resolve_project_id(project_id))
        return [RunReference(run_id, project_id) for run_id in named.valid], malformed

    def _runs_of(self, task_ids: Sequence[str], context: Context) -> list[RunReference]:
        runs: dict[RunReference, None] = {}
        for task_id in task_ids:
            self._check_task_exists(task_id, context)
            try:
                started = started_by(context["ti"], task_id)
            except ValueError as error:
                message = f"The XCom 'stably_run' of task {task_id!r} is not one of this provider's: {error}"
                raise AirflowFailException(message) from error
            if not started:
                self.log.info("Task %s started no Stably run", task_id)
            runs.update(dict.fromkeys(started))
        return list(runs)

    def _check_task_exists(self, task_id: str, context: Context) -> None:
        known = context["dag"].task_dict
        if task_id not in known:
            close = get_close_matches(task_id, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise AirflowFailException(f"task_ids: this DAG has no task {task_id!r}{hint}")

    def _cancel(self, hook: StablyHook, runs: Sequence[RunReference]) -> dict[RunReference, Verdict]:
        verdicts = cancel_all(runs, hook.client)
        if not self.wait_for_termination:
            return verdicts
        return wait_until_over(verdicts, hook.client, timeout=self.timeout, poll_interval=self.poll_interval)

    def _meet_emptiness(self, context: Context) -> None:
        message = (
            f"No Stably run to cancel: {'task_ids' if self.task_ids is not None else 'run_ids'} named none"
        )
        if self.on_empty == "success":
            self.log.info(message)
            return
        self._push(context, "return_value", [])
        raise (AirflowSkipException if self.on_empty == "skip" else AirflowFailException)(message)

    def _fail_unless_over(
        self, context: Context, verdicts: dict[str, Verdict], cancelled: Sequence[str]
    ) -> None:
        over = _OVER | {Outcome.NOT_FOUND} if self.ignore_missing else _OVER
        bad = {run_id: verdict for run_id, verdict in verdicts.items() if verdict.outcome not in over}
        if not bad:
            return
        self._push(context, "return_value", list(cancelled))
        error = StablyCancelError(
            _describe(bad, len(verdicts), self.stably_conn_id),
            outcomes={run_id: verdict.to_json() for run_id, verdict in verdicts.items()},
        )
        outcomes = {verdict.outcome for verdict in bad.values()}
        if outcomes & _MAY_CHANGE and Outcome.DENIED not in outcomes:
            raise error
        raise AirflowFailException(str(error)) from error

    def _push(self, context: Context, key: str, value: object) -> None:
        if self.do_xcom_push:
            context["ti"].xcom_push(key=key, value=value)


def _describe(bad: dict[str, Verdict], total: int, conn_id: str) -> str:
    lines = [
        f"- {run_id}: {verdict.outcome}{f' ({verdict.status})' if verdict.status else ''}"
        f"{f', {verdict.detail}' if verdict.detail else ''}; {_NEXT_STEPS[verdict.outcome]}"
        for run_id, verdict in bad.items()
    ]
    heading = f"{len(bad)} of {total} Stably runs cannot be shown to be over (connection {conn_id!r}):"
    return "\n".join([heading, *lines])

"""The package's mechanisms that the cancellation matrix proves: the cells that turn red without each.

Each process of a test Airflow imports this at its start, see ``mutations/sitecustomize.py``, so it imports
only the standard library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

MODES = ("sync", "deferrable")

SHORT_WINDOWS = {
    "runs.belief:REFUSED_SECONDS": 60.0,
    "runs.belief:NEVER_ACCEPTED_SECONDS": 60.0,
    "runs.belief:MISSING_SECONDS": 20.0,
    "runs.belief:REMINDER_SECONDS": 5.0,
    "runs.watch:CANCEL_PATIENCE_SECONDS": 20.0,
    "tasks.deadline:DEFERRAL_GRACE_SECONDS": 20.0,
    "triggers.stably:HAND_BACK_SECONDS": 20.0,
}
"""How long the package waits, in a test Airflow, before it believes a failure: constants by their place."""
_HEADINGS = ("`MUTATE=`", "what is switched off", *MODES, "they become")


@dataclass(frozen=True)
class Mechanism:
    """A mechanism of the package that can be switched off.

    :param does: What is switched off, for the docs.
    :param place: The package's module that has it, and the dotted name there.
    :param instead: Makes its replacement from the original.
    :param becomes: The text that the matrix shows for its cells without it.
    :param sync: The scenarios that prove it while the task waits on the worker.
    :param deferrable: The scenarios that prove it while the task is deferred.
    """

    does: str
    place: tuple[str, str]
    instead: Callable[[Any], Any]
    becomes: str
    sync: tuple[str, ...] = ()
    deferrable: tuple[str, ...] = ()

    def owns(self, scenario: str, mode: str) -> bool:
        """Whether the cell of a scenario and mode turns red without the mechanism."""
        return scenario in getattr(self, mode)


def _returns(value: object) -> Callable[[Any], Any]:
    """Replace a function or coroutine by one that only returns a value."""

    def make(original: Any) -> Any:
        async def later(*_: object, **__: object) -> object:
            return value

        return later if iscoroutinefunction(original) else lambda *_, **__: value

    return make


def _is(value: object) -> Callable[[Any], Any]:
    """Replace a constant by another value."""
    return lambda _: value


def _final_unless_known(_: object) -> property:
    """Replace ``is_finished``: every status but QUEUED and RUNNING is final."""
    return property(lambda run: run.status not in {"QUEUED", "RUNNING"})


def _never(_: object) -> Callable[..., float]:
    """Replace a deadline by one in the far future."""
    return lambda *_, from_time, **__: from_time + 1e6


def _believes_at_once(original: Any) -> Callable[..., Any]:
    """Replace ``Belief.failed``: whatever fails is taken for a refusal that has lasted."""
    return lambda *_: original.__globals__["Doubt"].REFUSED


_ACTED_ON = (
    "marked failed",
    "marked success",
    "DAG run set failed",
    "dagrun_timeout",
    "marked failed, its connection in the metadata database",
    "marked failed during a status call, the cancel call fails once",
    "marked failed during a status call, the cancel call answers 522 once",
)
_IN_THE_START = ("marked failed during the start request",)
_GIVEN_UP = ("the watching crashes, given up before its retry",)
_REFUSED = ("all calls refused for a while",)
_MISSING = ("the run is not found at first",)
_NOT_IN_THE_TRIGGERER = (
    "connection missing in the triggerer",
    "certificate not trusted in the triggerer",
)
_TIMED_OUT = ("the deferral times out while no triggerer is alive, given up before its retry",)
_LOST_IN_THE_START = ("whole worker killed during the start request, a retry left",)
_ROTATED = ("API key rotated", "API key rotated, the old one revoked first")
_START_LOST = ("the start's answer lost, a retry left",)
_NO_STATUS = (
    "status answers 503 several times",
    "status connection dropped several times",
    "status never answered several times",
)

MECHANISMS = {
    "on_kill": Mechanism(
        "the operator's `on_kill`",
        ("operators.stably", "StablyRunTestsOperator.on_kill"),
        _returns(None),
        becomes="LEAK",
        sync=(*_ACTED_ON, *_IN_THE_START),
        deferrable=_IN_THE_START,
    ),
    "kill_flag": Mechanism(
        "that `execute` stops after a kill that came before the run's id",
        ("execution.ownership", "Ownership.is_killed"),
        _is(property(lambda _: False, lambda *_: None)),
        becomes="LEAK",
        sync=_IN_THE_START,
        deferrable=_IN_THE_START,
    ),
    "kill_repeat": Mechanism(
        "that `on_kill` repeats its request",
        ("execution.kill", "KILL_REPEAT_SECONDS"),
        _is(-1.0),
        becomes="LEAK",
        sync=(
            "marked failed during a status call, the cancel call fails once",
            "marked failed during a status call, the cancel call answers 522 once",
        ),
    ),
    "trigger_on_kill": Mechanism(
        "the trigger's `on_kill`",
        ("triggers.stably", "StablyRunTrigger.cancel_if_abandoned"),
        _returns(None),
        becomes="LEAK",
        deferrable=_ACTED_ON,
    ),
    "awaited": Mechanism(
        "that the trigger asks whether its task is still deferred",
        ("tasks.triggerer", "is_still_deferred"),
        _returns(False),
        becomes="NOT AS DOCUMENTED",
        deferrable=("triggerer stalls, another takes over",),
    ),
    "deadline": Mechanism(
        "the deadline in the trigger",
        ("tasks.deadline", "deferred_deadline"),
        _never,
        becomes="LEAK",
        deferrable=("execution_timeout", "the operator's timeout"),
    ),
    "abandon": Mechanism(
        "that the task's process cancels the run that it stops watching",
        ("execution.give_up", "GiveUp.cancel"),
        _returns(None),
        becomes="LEAK",
        sync=_GIVEN_UP,
        deferrable=_TIMED_OUT,
    ),
    "resume": Mechanism(
        "that a task resumed without its trigger cancels the run that its XCom names",
        ("execution.run_tests", "RunTests.cancel_pushed_run"),
        _returns(None),
        becomes="LEAK",
        deferrable=_TIMED_OUT,
    ),
    "callback": Mechanism(
        "the failure callback that the operator attaches to itself",
        ("execution.own_callback", "cancel_own_run"),
        _returns(None),
        becomes="LEAK",
        sync=("whole worker killed, no retry left", "whole worker killed, mapped task, no retry left"),
    ),
    "start_record": Mechanism(
        "reading the start record of an earlier try",
        ("tasks.start_record", "StartRecords.read"),
        _returns(None),
        becomes="DUP",
        sync=(
            "task process killed, a retry left",
            "whole worker killed, a retry left",
            "whole worker killed, mapped task, a retry left",
            *_LOST_IN_THE_START,
        ),
        deferrable=_LOST_IN_THE_START,
    ),
    "one_start": Mechanism(
        "that a start whose answer was lost is not sent again",
        ("api.retries", "may_replay"),
        _returns(True),
        becomes="DUP",
        sync=_START_LOST,
        deferrable=_START_LOST,
    ),
    "no_retry": Mechanism(
        "that a start whose answer was lost is not retried by the task",
        ("execution.fail_for_good", "may_retry"),
        _returns(True),
        becomes="DUP",
        sync=_START_LOST,
        deferrable=_START_LOST,
    ),
    "tolerance": Mechanism(
        "that failed status calls are tolerated",
        ("runs.belief", "Belief.failed"),
        _believes_at_once,
        becomes="NOT AS DOCUMENTED",
        sync=_NO_STATUS,
        deferrable=_NO_STATUS,
    ),
    "refusal_window": Mechanism(
        "that a refusal has to last before it is believed",
        ("runs.belief", "REFUSED_SECONDS"),
        _is(0.0),
        becomes="NOT AS DOCUMENTED",
        sync=_REFUSED,
        deferrable=_REFUSED,
    ),
    "missing_window": Mechanism(
        "that a 404 has to last before it is believed",
        ("runs.belief", "MISSING_SECONDS"),
        _is(0.0),
        becomes="NOT AS DOCUMENTED",
        sync=_MISSING,
        deferrable=_MISSING,
    ),
    "hand_back": Mechanism(
        "that a triggerer that cannot watch a run hands it back to the worker",
        ("triggers.stably", "HAND_BACK_SECONDS"),
        _is(float("inf")),
        becomes="LEAK",
        deferrable=_NOT_IN_THE_TRIGGERER,
    ),
    "first_event": Mechanism(
        "that the trigger fires no event right after the deferral",
        ("triggers.stably", "FIRST_EVENT_SECONDS"),
        _is(0.0),
        becomes="FALSE RED",
        deferrable=("over at once, the worker's exit slow",),
    ),
    "reconnect": Mechanism(
        "that the connection is looked up anew after a refusal",
        ("runs.belief", "Belief.may_be_the_connection"),
        _is(property(lambda _: False)),
        becomes="NOT AS DOCUMENTED",
        sync=_ROTATED,
        deferrable=_ROTATED,
    ),
    "unknown_live": Mechanism(
        "that a status this version does not know is taken as live",
        ("api.models", "Run.is_finished"),
        _final_unless_known,
        becomes="FALSE RED",
        sync=("unknown status",),
        deferrable=("unknown status",),
    ),
    "cancelled_final": Mechanism(
        "that no retry starts a run again that somebody cancelled",
        ("runs.watch_result", "WatchResult.may_retry"),
        _returns(True),
        becomes="LEAK",
        sync=("cancelled in the dashboard, a retry left",),
        deferrable=("cancelled in the dashboard, a retry left",),
    ),
    "teardown": Mechanism(
        "the cancel operator, in the teardown",
        ("execution.cancel_runs", "CancelRuns.execute"),
        _returns([]),
        becomes="LEAK",
        sync=("teardown recipe, the task's process killed",),
    ),
}
"""The mechanisms by their value of ``MUTATE``."""


def as_markdown() -> str:
    """Return the table of mechanisms for the docs."""
    table = [
        (f"`{name}`", each.does, *("; ".join(getattr(each, mode)) for mode in MODES), each.becomes)
        for name, each in MECHANISMS.items()
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in (_HEADINGS, ["---"] * len(_HEADINGS), *table))

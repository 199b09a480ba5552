"""The mechanisms of the cancellation matrix, each with the cells that turn red without it.

A cell that stays as it is without the mechanism that it is to prove proves nothing. Also read at the start of
each process of a test Airflow, see ``mutations/sitecustomize.py``: imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

HEADINGS = ("`MUTATE=`", "what is switched off", "what its cells turn into")


@dataclass(frozen=True)
class Mechanism:
    """What can be switched off.

    :param does: For people.
    :param place: The module it is in, within the package, and its name there.
    :param instead: Makes what stands in for it from what it was.
    :param owns: Scenario's name and mode to what stands in the matrix without it.
    """

    does: str
    place: tuple[str, str]
    instead: Callable[[Any], Any]
    owns: Mapping[tuple[str, str], str]


def _returns(value: object) -> Callable[[Any], Any]:
    """Let a function return something at once."""
    return lambda _: lambda *_, **__: value


def _is(value: object) -> Callable[[Any], Any]:
    """Let a constant be something else."""
    return lambda _: value


def _returns_async(_: object) -> Callable[..., Any]:
    """Let a coroutine return at once."""

    async def nothing(*_: object, **__: object) -> None:
        """Stand in for it."""

    return nothing


def _never(_: object) -> Callable[..., float]:
    """Let a deadline lie far ahead."""
    return lambda *_, from_time, **__: from_time + 1e6


def _without_reconnecting(reply: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Let a conversation's wish to reconnect be passed over."""

    def reply_again(conversation: Any, answer: Any) -> Any:
        step = reply(conversation, answer)
        return reply(conversation, None) if type(step).__name__ == "Reconnect" else step

    return reply_again


def _cells(becomes: str, modes: str, *scenarios: str) -> dict[tuple[str, str], str]:
    return {(name, mode): becomes for name in scenarios for mode in modes.split(" and ")}


_BOTH = "sync and deferrable"
_ACTED_ON = (
    "marked failed",
    "marked success",
    "DAG run set failed",
    "dagrun_timeout",
    "marked failed, the cancel call fails once",
)
_IN_THE_START = "marked failed during the start request"
_GIVEN_UP = "the watching crashes, given up before its retry"
_START_LOST = "the start's answer lost, a retry left"

MECHANISMS = {
    "on_kill": Mechanism(
        "the operator's `on_kill`",
        ("operators.stably", "StablyRunTestsOperator.on_kill"),
        _returns(None),
        _cells("LEAK", "sync", *_ACTED_ON) | _cells("LEAK", _BOTH, _IN_THE_START),
    ),
    "kill_flag": Mechanism(
        "that `execute` heeds a kill that came before the run's id",
        ("execution.run_tests", "RunTests._stop_if_killed"),
        _returns(None),
        _cells("LEAK", _BOTH, _IN_THE_START),
    ),
    "kill_repeat": Mechanism(
        "that `on_kill` repeats its request",
        ("execution.run_tests", "KILL_REPEAT_SECONDS"),
        _is(-1.0),
        _cells("LEAK", "sync", "marked failed, the cancel call fails once"),
    ),
    "trigger_on_kill": Mechanism(
        "the trigger's `on_kill`",
        ("triggers.stably", "StablyRunTrigger._cancel_if_abandoned"),
        _returns_async,
        _cells("LEAK", "deferrable", *_ACTED_ON),
    ),
    "awaited": Mechanism(
        "that the trigger looks whether its task still waits",
        ("awaiting", "is_awaited"),
        _returns(False),
        _cells("NOT AS DOCUMENTED", "deferrable", "triggerer stalls, another takes over"),
    ),
    "deadline": Mechanism(
        "the deadline in the trigger",
        ("deadline", "deferred_deadline"),
        _never,
        _cells("LEAK", "deferrable", "execution_timeout", "the operator's timeout"),
    ),
    "abandon": Mechanism(
        "that the task's process cancels when it stops watching",
        ("execution.run_tests", "RunTests._cancel_own_run"),
        _returns(None),
        _cells("LEAK", _BOTH, _GIVEN_UP),
    ),
    "resume": Mechanism(
        "that a task resumed without its trigger cancels",
        ("execution.run_tests", "RunTests.cancel_pushed_run"),
        _returns(None),
        _cells("LEAK", "deferrable", _GIVEN_UP),
    ),
    "callback": Mechanism(
        "the failure callback that the operator attaches to itself",
        ("own_run", "cancel_own_run"),
        _returns(None),
        _cells(
            "LEAK",
            "sync",
            "whole worker killed, no retry left",
            "whole worker killed, mapped task, no retry left",
        ),
    ),
    "ledger": Mechanism(
        "reading what an earlier try noted of its start",
        ("start_record", "StartLedger.read"),
        _returns(None),
        _cells(
            "DUP",
            "sync",
            "task process killed, a retry left",
            "whole worker killed, a retry left",
            "whole worker killed, mapped task, a retry left",
        )
        | _cells("DUP", _BOTH, "whole worker killed during the start request, a retry left"),
    ),
    "one_start": Mechanism(
        "that a start whose answer was lost is not sent again",
        ("api.protocol", "may_replay"),
        _returns(True),
        _cells("DUP", _BOTH, _START_LOST),
    ),
    "no_retry": Mechanism(
        "that a start whose answer was lost is not retried by the task",
        ("execution.run_tests", "_is_final"),
        _returns(False),
        _cells("DUP", _BOTH, _START_LOST),
    ),
    "tolerance": Mechanism(
        "that failed status calls are tolerated",
        ("watching", "_fatal_end"),
        _returns("denied"),
        _cells(
            "NOT AS DOCUMENTED",
            _BOTH,
            "status answers 503 several times",
            "status connection dropped several times",
            "status never answered several times",
        ),
    ),
    "reconnect": Mechanism(
        "that a refused key is looked up anew",
        ("conversation", "_reply"),
        _without_reconnecting,
        _cells("FALSE RED", _BOTH, "API key rotated"),
    ),
}
"""The values of ``MUTATE``."""


def as_markdown() -> str:
    """Return the table for the docs."""
    lines = [HEADINGS, ("---",) * len(HEADINGS)]
    for name, mechanism in MECHANISMS.items():
        lines.append((f"`{name}`", mechanism.does, "<br>".join(_grouped(mechanism.owns))))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _grouped(owns: Mapping[tuple[str, str], str]) -> list[str]:
    def group(cell: tuple[str, str]) -> tuple[str, str]:
        return owns[cell], cell[1]

    return [
        f"{becomes}, {mode}: {'; '.join(name for name, _ in cells)}"
        for (becomes, mode), cells in groupby(sorted(owns, key=group), key=group)
    ]

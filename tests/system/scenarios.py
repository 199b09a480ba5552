"""The scenarios of the matrix: what happens to a task while its Stably run is live, and how both must end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_stably.testing import Fault
from tests.system import plays
from tests.system.matrix_cell import MatrixCell
from tests.system.mechanisms import MODES
from tests.system.verdicts import CellVerdict
from tests.system.versions import is_airflow


@dataclass(frozen=True)
class KnownGap:
    """A known reason why a cell cannot be ok, on some versions of Airflow.

    :param verdict: The verdict expected instead. A better one fails the test, too, so that somebody updates
        the docs. None: the cell cannot be played at all.
    :param reason: The cause, and what users can do about it.
    :param modes: The modes that have the gap.
    :param on: The versions of Airflow that have it, as a pip specifier; empty means all.
    :param at_times: Whether it is a race, so that the verdict may also be ok.
    """

    verdict: CellVerdict | None
    reason: str
    modes: tuple[str, ...] = MODES
    on: str = ""
    at_times: bool = False

    @property
    def verdicts(self) -> set[CellVerdict | None]:
        """The verdicts that the test accepts."""
        return {self.verdict, CellVerdict.OK} if self.at_times else {self.verdict}

    def __str__(self) -> str:
        return f"known gap: {self.reason}"


@dataclass(frozen=True)
class Scenario:
    """A row of the matrix.

    :param play: What is done to the task once its DAG run is triggered, see ``plays.py``.
    :param ends: The states that the task may end in.
    :param starts: How many runs are started.
    :param starts_another: The versions of Airflow that start one more, as a pip specifier; None: none do.
    :param variant: The DAG's variant, see ``dags/matrix.py`` and, for recipes, ``dags/examples.py``.
    :param script: The emulator's script that the run follows.
    :param task: Task id and map index of the task under test.
    :param modes: The modes that the scenario exists in.
    :param only_because: Why it does not exist in the other mode.
    :param alone: Whether it must be played alone, because it disturbs other cells.
    :param is_race: Whether to play it several times, see ``test_matrix.py``: once may be luck.
    :param marked_by_user: Whether a user sets the task's final state.
    :param start_fault: How the first start request fails; None means it does not.
    :param known_gaps: Why its cells cannot be ok; the first that applies to the mode and this Airflow counts.
    """

    name: str
    play: Callable[[MatrixCell], None]
    ends: tuple[str, ...] = ("failed",)
    starts: int = 1
    starts_another: str | None = None
    variant: str = "plain"
    script: str = "hangs"
    task: tuple[str, int] = ("tests", -1)
    modes: tuple[str, ...] = MODES
    only_because: str = ""
    alone: bool = False
    is_race: bool = False
    marked_by_user: bool = False
    start_fault: Fault | None = None
    known_gaps: tuple[KnownGap, ...] = ()

    def starts_here(self) -> int:
        """Return how many runs this Airflow starts."""
        return self.starts + (self.starts_another is not None and is_airflow(self.starts_another))

    def known_gap(self, mode: str) -> KnownGap | None:
        """Return why the cell of a mode cannot be ok on this Airflow; None if it can."""
        return next((each for each in self.known_gaps if mode in each.modes and is_airflow(each.on)), None)


_SLOW = Fault(delay=4)
"""A slow start request, but faster than the 5 s that Airflow leaves a terminated task."""
_ON_3_0 = ">=3,<3.1"
"""Airflow 3.0, whose dag processor makes a lost task's callbacks and cannot read XComs."""
_NO_STORE = "<3.3"
"""Versions of Airflow without the task state store: a retry does not know its earlier run."""
_NO_PROCESS = "a deferred task has no process"
_NO_SLOW_EXIT = "not played on Airflow 2.11"
_NO_TRIGGER = "no triggerer is involved"
_NO_KEY = "the cancel is tried, and refused as well: stop the run in the dashboard"
_NOT_CLEARED = "Airflow 2.11 forgets a clear by REST of a running task: it goes on, or fails and cancels"
_NOT_RESTARTED = "the run is cancelled; Airflow 3.0 never starts a task again that is cleared on the worker"
_NO_TRIGGERER = "at times Airflow deletes the trigger without calling it; the teardown recipe covers it"
_NOBODY_LEFT = "nobody watches the run until the retry; the teardown recipe covers it"
_NOTHING_CALLED = "Airflow 3 calls nothing of the task then; the teardown recipe covers it"
_NOT_RETRIED = "Airflow 3.0 does not retry then: it is as if no retry was left"
_OVERLAP = "at times the next run starts seconds before the trigger cancels; before 3.3 it cannot know of it"
_TOO_LATE = "by then Airflow has cleared the XCom that named the run; a retry_delay of a minute prevents it"
_UNREAD = "Airflow 3.0's callback cannot read the XCom that names the run; the teardown recipe covers it"
_UNTRACKED = "the run's id never arrived; no other run is started beside it"
_UNTRACKED_AT_RETRY = "the run's id never arrived, and before 3.3 the next try cannot know of the start"

_UNREAD_AT_END = (KnownGap(CellVerdict.LEAK, _UNREAD, on=_ON_3_0),)
_UNREAD_BY_RETRY = (KnownGap(CellVerdict.DUP, _UNREAD, on=_ON_3_0),)


def _on_worker(name: str, play: Callable[[MatrixCell], None], **options: object) -> Scenario:
    return Scenario(name, play, modes=("sync",), only_because=_NO_PROCESS, **options)


def _handed_back(name: str, *, variant: str) -> Scenario:
    """Make a scenario of a triggerer that cannot watch a run that the worker can."""
    return Scenario(
        name,
        plays.hand_back,
        ends=("success",),
        variant=variant,
        modes=("deferrable",),
        only_because=_NO_TRIGGER,
    )


def _with_slow_exit(name: str, play: Callable[[MatrixCell], None], **options: object) -> Scenario:
    """Make a scenario of a worker whose process ends seconds after its task has deferred."""
    return Scenario(
        f"{name}, the worker's exit slow",
        play,
        modes=("deferrable",),
        only_because=_NO_TRIGGER,
        is_race=True,
        known_gaps=(KnownGap(None, _NO_SLOW_EXIT, on="<3"),),
        **options,
    )


def _on_triggerer(name: str, play: Callable[[MatrixCell], None], **options: object) -> Scenario:
    options = {"ends": ("success",)} | options
    return Scenario(name, play, modes=("deferrable",), only_because=_NO_TRIGGER, alone=True, **options)


SCENARIOS = (
    Scenario("marked failed", plays.mark_failed),
    Scenario("marked success", plays.mark_success, ends=("success",), marked_by_user=True),
    Scenario(
        "cleared",
        plays.clear_while_waiting,
        ends=("success",),
        starts=2,
        known_gaps=(
            KnownGap(None, _NOT_CLEARED, modes=("sync",), on="<3"),
            KnownGap(None, _NOT_RESTARTED, modes=("sync",), on=_ON_3_0),
            KnownGap(CellVerdict.DUP, _OVERLAP, modes=("deferrable",), on=_NO_STORE, at_times=True),
        ),
    ),
    Scenario("DAG run set failed", plays.fail_dag_run, ends=("failed", "skipped")),
    Scenario("execution_timeout", plays.just_wait, variant="execution_timeout"),
    Scenario("the operator's timeout", plays.just_wait, variant="timeout"),
    Scenario("dagrun_timeout", plays.just_wait, variant="dagrun_timeout", ends=("failed", "skipped")),
    Scenario("the watching crashes", plays.just_wait, variant="crash"),
    Scenario(
        "the watching crashes, given up before its retry", plays.give_up_before_retry, variant="crash_retry"
    ),
    _with_slow_exit("over at once", plays.end_at_once, variant="slow_exit", ends=("success",)),
    _with_slow_exit(
        "over at once, its sensor deferrable",
        plays.end_at_once,
        variant="slow_exit_sensor",
        task=("wait", -1),
        ends=("success",),
    ),
    _with_slow_exit(
        "the watching crashes, given up before its retry",
        plays.give_up_before_retry,
        variant="slow_exit_crash",
    ),
    Scenario("marked failed during the start request", plays.fail_while_starting, start_fault=_SLOW),
    Scenario("marked failed, its connection in the metadata database", plays.mark_failed, variant="stored"),
    Scenario(
        "marked failed during a status call, the cancel call fails once", plays.fail_with_cancel_failing_once
    ),
    Scenario(
        "marked failed during a status call, the cancel call answers 522 once",
        plays.fail_with_cancel_answering_522_once,
    ),
    _on_worker(
        "task process killed, a retry left",
        plays.kill_process_and_retry,
        variant="retry",
        ends=("success",),
        starts_another=_NO_STORE,
        known_gaps=(KnownGap(None, _NOT_RETRIED, on=_ON_3_0),),
    ),
    _on_worker(
        "task process terminated, a retry left",
        plays.terminate_process_and_retry,
        variant="retry",
        ends=("success",),
        starts=2,
    ),
    _on_worker(
        "task process killed, no retry left",
        plays.kill_process,
        known_gaps=(KnownGap(CellVerdict.LEAK, _NOTHING_CALLED, on=">=3"),),
    ),
    _on_worker(
        "whole worker killed, a retry left",
        plays.kill_worker_and_retry,
        variant="retry",
        ends=("success",),
        starts_another=_NO_STORE,
        known_gaps=_UNREAD_BY_RETRY,
    ),
    _on_worker(
        "whole worker killed, a retry left, the run not found at first",
        plays.kill_worker_and_hide_run,
        variant="retry",
        ends=("success",),
        starts_another=_NO_STORE,
        known_gaps=_UNREAD_BY_RETRY,
    ),
    _on_worker("whole worker killed, no retry left", plays.kill_worker, known_gaps=_UNREAD_AT_END),
    _on_worker(
        "whole worker killed, given up before its retry",
        plays.kill_worker_and_give_up,
        variant="late_retry",
        known_gaps=(*_UNREAD_AT_END, KnownGap(CellVerdict.LEAK, _NOBODY_LEFT, on=">=3.3")),
    ),
    _on_worker(
        "whole worker killed, mapped task, a retry left",
        plays.kill_worker_and_retry,
        variant="mapped_retry",
        ends=("success",),
        starts_another=_NO_STORE,
        known_gaps=_UNREAD_BY_RETRY,
        task=("tests", 0),
    ),
    _on_worker(
        "whole worker killed, mapped task, no retry left",
        plays.kill_worker,
        variant="mapped",
        known_gaps=_UNREAD_AT_END,
        task=("tests", 0),
    ),
    _on_worker(
        "whole worker killed, a retry left, callbacks delayed",
        plays.kill_worker_and_delay_callbacks,
        variant="shown",
        ends=("success",),
        starts_another=_NO_STORE,
        alone=True,
        known_gaps=(*_UNREAD_BY_RETRY, KnownGap(CellVerdict.DUP, _TOO_LATE, on=">=3.1,<3.3")),
    ),
    Scenario(
        "whole worker killed during the start request, a retry left",
        plays.kill_worker_while_starting,
        variant="retry",
        ends=("failed", "success"),
        starts_another=_NO_STORE,
        start_fault=Fault(delay=60),
        known_gaps=(
            KnownGap(CellVerdict.LEAK, _UNTRACKED, on=">=3.3"),
            KnownGap(CellVerdict.DUP, _UNTRACKED_AT_RETRY, on=_NO_STORE),
        ),
    ),
    Scenario("status answers 503 several times", plays.refuse_service, ends=("success",)),
    Scenario("status connection dropped several times", plays.cut_connections, ends=("success",)),
    Scenario(
        "status never answered several times", plays.never_answer, variant="impatient", ends=("success",)
    ),
    Scenario("all calls refused for a while", plays.refuse_for_a_while, ends=("success",)),
    Scenario(
        "all calls refused for good",
        plays.refuse_for_good,
        known_gaps=(KnownGap(CellVerdict.LEAK, _NO_KEY),),
    ),
    Scenario("the run is not found at first", plays.hide_at_first, ends=("success",)),
    Scenario("the run is not found for good, a retry left", plays.hide_for_good, starts=2, variant="retry"),
    Scenario("429 with Retry-After several times", plays.throttle, ends=("success",)),
    Scenario(
        "the start's answer lost, a retry left",
        plays.just_wait,
        variant="retry",
        start_fault=Fault(drop=True, processed=True),
        known_gaps=(KnownGap(CellVerdict.LEAK, _UNTRACKED),),
    ),
    Scenario("cancelled in the dashboard, a retry left", plays.cancel_in_dashboard, variant="retry"),
    Scenario("unknown status", plays.just_wait, script="pauses", ends=("success",)),
    Scenario("API key rotated", plays.rotate_key, variant="rotated", ends=("success",)),
    Scenario(
        "API key rotated, the old one revoked first",
        plays.revoke_key,
        variant="revoked",
        ends=("success",),
    ),
    Scenario("cleared after its end", plays.clear_after_the_end, ends=("success",), starts=2),
    _on_worker(
        "teardown recipe, the task's process killed",
        plays.kill_process,
        variant="teardown",
        task=("run_tests", -1),
    ),
    _handed_back("connection missing in the triggerer", variant="unknown"),
    _handed_back("certificate not trusted in the triggerer", variant="untrusted"),
    _on_triggerer("triggerer killed and started again", plays.kill_triggerer),
    _on_triggerer("triggerer terminated and started again", plays.terminate_triggerer),
    _on_triggerer("triggerer killed, another takes over", plays.take_over),
    _on_triggerer("triggerer stalls, another takes over", plays.stall_triggerer),
    _on_triggerer(
        "the deferral times out while no triggerer is alive, given up before its retry",
        plays.time_out_and_give_up,
        variant="timeout_retry",
        ends=("failed",),
    ),
    _on_triggerer(
        "marked failed while no triggerer is alive",
        plays.mark_without_triggerer,
        ends=("failed",),
        known_gaps=(KnownGap(CellVerdict.LEAK, _NO_TRIGGERER, at_times=True),),
    ),
)

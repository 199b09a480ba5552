"""An execution_timeout, or another interruption, wherever it strikes: no run is lost."""

import itertools
import math
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_stably.execution.uninterrupted import finish_despite_interrupt
from airflow_provider_stably.runs import watch
from airflow_provider_stably.tasks.start_record import START_RECORD_KEY
from airflow_provider_stably.testing import Fault
from tests.interruption import Interrupted, interrupt_at, interrupt_when
from tests.operators.run_operator import run_operator
from tests.waiting import wait_until


def test_an_interrupted_start_does_not_lose_the_run(emulator, context):
    """An execution_timeout in the middle of the start cancels what came of it."""
    emulator.inject(Fault(delay=0.4), call="start")

    with interrupt_when(lambda: emulator.requests("start")), pytest.raises(Interrupted):
        run_operator().execute(context)

    assert len(emulator.runs) == 1
    assert emulator.live_runs() == []


def test_an_interruption_after_the_answer_is_raised(monkeypatch):
    """It may strike between the end of a call and what is done with its value."""
    interruptions = iter([Interrupted])

    class Queue(SimpleQueue):
        def put(self, item):
            super().put(item)
            if isinstance(item, Future):
                time.sleep(0.3)  # not a wait for anything: the thread is alive when the interruption strikes

        def get(self, **options):
            item = super().get(**options)
            if isinstance(item, Future):
                for interruption in interruptions:
                    raise interruption
            return item

    monkeypatch.setattr("airflow_provider_stably.execution.uninterrupted.SimpleQueue", Queue)

    raised = []

    def wait():
        try:
            finish_despite_interrupt(lambda: "done", when_interrupted=lambda: None)
        except Interrupted as interruption:
            raised.append(interruption)

    thread = threading.Thread(target=wait, daemon=True)  # so that a wait without end can be seen
    thread.start()
    thread.join(10)

    assert (thread.is_alive(), len(raised)) == (False, 1)


def test_a_second_interruption_does_not_lose_the_run(emulator, context):
    """Nor does a kill that follows an execution_timeout."""
    emulator.inject(Fault(delay=0.6), call="start")

    with interrupt_when(lambda: emulator.requests("start"), again_after=0.2), pytest.raises(Interrupted):
        run_operator().execute(context)

    assert len(emulator.runs) == 1
    assert emulator.live_runs() == []


def test_an_interrupted_start_keeps_the_id_to_resume(emulator, context, store):
    """With cancel_on_kill=False the next try resumes the run."""
    emulator.inject(Fault(delay=0.2), call="start")

    with interrupt_when(lambda: emulator.requests("start")), pytest.raises(Interrupted):
        run_operator(cancel_on_kill=False).execute(context)

    assert [store[START_RECORD_KEY]["run_id"]] == emulator.live_runs()


def test_a_thread_that_cannot_start_sends_no_start(emulator, context, store, monkeypatch):
    """Nothing was sent, so the next try simply starts a run."""
    genuine = threading.Thread.start

    def start(thread):
        if thread.name == "stably-uninterrupted":
            raise RuntimeError("can't start new thread")
        genuine(thread)

    monkeypatch.setattr(threading.Thread, "start", start)

    with pytest.raises(RuntimeError, match="new thread"):
        run_operator().execute(context)

    assert (emulator.requests("start"), store) == ([], {})


def test_an_interruption_at_any_line_loses_no_run(emulator, context):
    """What was sent is waited for and cancelled, what was not is not sent any more."""
    emulator.inject(Fault(delay=0.02), call="start", times=math.inf)
    lost = []
    for number in itertools.count(1):
        with suppress(Interrupted), interrupt_at(number, finish_despite_interrupt) as struck:
            run_operator(wait_for_completion=False).execute(context)
        if not struck.is_set():
            break
        lost += [number] if emulator.live_runs() else []

    assert (number > 5, lost) == (True, [])
    wait_until(lambda: not _sends_still())
    assert len(emulator.live_runs()) == 1


def test_an_interruption_in_thread_start_loses_no_run(emulator, context, monkeypatch):
    """Thread.start waits until the thread runs; that may be interrupted when it does already."""
    genuine = threading.Thread.start

    def start(thread):
        genuine(thread)
        if thread.name.startswith("stably-uninterrupted"):
            thread.join(0.2)  # long enough to send, if nothing holds it back
            raise Interrupted

    monkeypatch.setattr(threading.Thread, "start", start)
    emulator.inject(Fault(delay=1), call="start")

    with pytest.raises(Interrupted):
        run_operator().execute(context)

    wait_until(lambda: not _sends_still())
    assert emulator.live_runs() == []


def _sends_still():
    return any(thread.name.startswith("stably-uninterrupted") for thread in threading.enumerate())


def test_a_retry_of_an_interrupted_start_starts_anew(emulator, context, store):
    """The run is known and cancelled, so the next try simply starts another."""
    emulator.inject(Fault(delay=0.4), call="start")
    emulator.run_seconds = 0.1

    with interrupt_when(lambda: emulator.requests("start")), pytest.raises(Interrupted):
        run_operator().execute(context)
    live = emulator.live_runs()
    context["ti"].try_number = 2
    run_operator(playwright_project_name="passes").execute(context)

    assert (live, store) == ([], {})
    assert len(emulator.runs) == 2


def test_an_interruption_between_attempts_ends_a_start(emulator, context, store):
    """A refused start is not sent again for a task that has ended, and leaves no open record."""
    emulator.inject(Fault(status=429, headers={"Retry-After": "60"}), call="start")
    began = time.monotonic()

    with interrupt_when(lambda: emulator.requests("start")), pytest.raises(Interrupted):
        run_operator().execute(context)

    assert time.monotonic() - began < 30
    assert (len(emulator.requests("start")), emulator.runs, store) == (1, {}, {})


def test_a_lost_start_is_not_retried_when_interrupted(emulator, context):
    """The run may exist, and without a task state store the next try would start another beside it."""
    emulator.inject(Fault(delay=0.4, drop=True, processed=True), call="start")

    with (
        interrupt_when(lambda: emulator.requests("start")),
        pytest.raises(AirflowFailException, match="untracked run may exist"),
    ):
        run_operator().execute(context)

    assert len(emulator.live_runs()) == 1


def test_an_interrupted_failing_start_is_interrupted(emulator, context, store):
    """What went wrong with the start is logged, and does not replace the reason for the task's end."""
    emulator.inject(Fault(delay=1, drop=True), call="start")

    with interrupt_when(lambda: emulator.requests("start")), pytest.raises(Interrupted):
        run_operator().execute(context)

    assert len(emulator.requests("start")) == 1


def test_an_interruption_has_time_for_a_slow_api(emulator, context):
    """An API that takes seconds to answer may drop the request of a client that does not wait for it."""
    emulator.inject(Fault(delay=2.5), call="cancel")

    with interrupt_when(lambda: emulator.requests("get")), pytest.raises(Interrupted):
        run_operator().execute(context)

    assert len(emulator.requests("cancel")) == 1


def test_an_interruption_while_waiting_cancels(emulator, context):
    """At the execution_timeout the run is cancelled before the error goes on."""
    with interrupt_when(lambda: emulator.requests("get")), pytest.raises(Interrupted):
        run_operator().execute(context)

    assert len(emulator.runs) == 1
    assert emulator.live_runs() == []


def test_an_interrupted_clean_up_is_not_retried(emulator, context, monkeypatch):
    """No record tells a retry of the run, which the API, being down, has not cancelled yet."""
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 10.0)
    emulator.inject(Fault(status=503), call="cancel", times=math.inf)
    emulator.inject(Fault(status=503), call="get", times=math.inf)
    context["ti"].xcom_push.side_effect = RuntimeError("no database")

    with (
        interrupt_when(lambda: len(emulator.requests("cancel")) > 1),
        pytest.raises(AirflowFailException, match="may still be running, so this task is not retried"),
    ):
        run_operator().execute(context)

    assert len(emulator.live_runs()) == 1


def test_a_clean_up_finds_a_run_whose_start_was_interrupted(emulator, context):
    """The run is known, and could not be cancelled: teardowns and a DAG's callbacks go by its XCom."""
    emulator.inject(Fault(delay=0.3), call="start")
    emulator.inject(Fault(status=503), call="cancel", times=math.inf)

    with (
        interrupt_when(lambda: emulator.requests("start")),
        pytest.raises((Interrupted, AirflowFailException)),
    ):
        run_operator().execute(context)

    assert [context["xcom"]["stably_run"]["run_id"]] == emulator.live_runs()

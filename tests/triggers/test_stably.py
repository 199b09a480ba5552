"""What the trigger does when it is ended; whether its task still waits is Airflow's to say."""

import asyncio
import inspect
import math
import time
from itertools import product
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.testing import Fault
from airflow_provider_stably.triggers import driver, stably
from airflow_provider_stably.triggers.stably import StablyRunTrigger, wait_in_triggerer
from tests.constants import PROJECT
from tests.triggers.in_triggerer import in_triggerer
from tests.waiting import wait_until


def _deferred_trigger(run):
    """Return the trigger that a task leaves a run to."""
    with pytest.raises(TaskDeferred) as deferral:
        wait_in_triggerer(
            run,
            stably_conn_id="stably_default",
            deadline=time.time() + 7200,
            poll_interval=0.01,
            cancel_on_kill=True,
        )
    return deferral.value.trigger


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *product(
            ["started_at", "deadline", "poll_interval", "queue_deadline"],
            [-1, 0, math.nan, math.inf, -math.inf, "5", [1]],
        ),
        *product(["started_at", "deadline", "poll_interval"], [None]),
    ],
    ids=repr,
)
async def test_arguments_that_flood_or_never_end_are_refused(emulator, trigger, argument, value):
    """They crossed a database; a poll interval of -1 s would be a thousand requests a second."""
    setattr(trigger, argument, value)

    with pytest.raises(ValueError, match=f"{argument} is a number of seconds"):
        await anext(trigger.run())

    assert emulator.requests("get") == []
    assert emulator.live_runs() == []  # nobody watches it


async def _run_until_cancelled(emulator, trigger):
    """Run a trigger until it has polled once, and cancel it as Airflow does; it is about to end then."""

    async def run():
        return [event async for event in trigger.run()]

    task = asyncio.create_task(run())
    await asyncio.to_thread(wait_until, lambda: emulator.requests("get"))
    task.cancel("ended")
    return task


async def _run_and_end(emulator, trigger):
    ending = await _run_until_cancelled(emulator, trigger)
    with pytest.raises(asyncio.CancelledError):
        await ending


@pytest.mark.parametrize(
    ("answer", "cancelled"),
    [(False, True), (True, False), (RuntimeError("no answer"), True)],
    ids=["abandoned", "taken over by another triggerer", "cannot tell"],
)
async def test_on_kill_cancels_unless_the_task_still_waits(emulator, trigger, says, answer, cancelled):
    """Airflow also ends a trigger that another triggerer took over; that is no reason to cancel."""
    says(answer)

    await trigger.on_kill()

    assert (emulator.live_runs() == []) is cancelled


@pytest.mark.parametrize(
    ("answer", "cancelled"),
    [(False, True), (True, False), (RuntimeError("shutting down"), False)],
    ids=["abandoned", "shutdown", "cannot tell"],
)
async def test_without_on_kill_an_abandoned_run_is_cancelled(
    emulator, trigger, says, answer, cancelled, monkeypatch
):
    """On Airflow before 3.3 an ended trigger cancels only if its task is known not to wait any more."""
    monkeypatch.setattr(stably, "HAS_TRIGGER_ON_KILL", False)
    says(answer)

    await _run_and_end(emulator, trigger)

    assert (emulator.live_runs() == []) is cancelled


async def test_with_on_kill_the_end_of_run_cancels_nothing(emulator, trigger, says, monkeypatch):
    """From Airflow 3.3 on the end of run() may be a restart; on_kill cancels where that is due."""
    monkeypatch.setattr(stably, "HAS_TRIGGER_ON_KILL", True)
    says(False)

    await _run_and_end(emulator, trigger)

    assert emulator.requests("cancel") == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=503), id="503"),
        pytest.param(Fault(drop=True), id="dropped"),
        pytest.param(Fault(body={"cancelled": []}), id="200 without the id"),
    ],
)
async def test_on_kill_outlasts_a_passing_failure(emulator, trigger, says, fault):
    """Airflow gives a trigger half a minute, so the cancellation is finished."""
    says(False)
    emulator.inject(fault, call="cancel")

    await trigger.on_kill()

    assert emulator.live_runs() == []


async def test_on_kill_outlasts_an_answer_that_never_comes(emulator, trigger, says, monkeypatch):
    """One request that is lost without a word leaves time for the next."""
    says(False)
    monkeypatch.setattr(driver, "KILL_REQUEST_SECONDS", 0.3)
    emulator.inject(Fault(delay=math.inf, drop=True), call="cancel")

    await trigger.on_kill()

    assert emulator.live_runs() == []


def test_a_kill_leaves_time_for_two_requests():
    """What a lost request may take, twice, is less than Airflow gives."""
    assert 2 * driver.KILL_REQUEST_SECONDS < stably.KILL_SECONDS < 30


async def test_on_kill_never_raises(emulator, trigger, says, monkeypatch):
    """A cancellation that fails, or takes too long, is logged."""
    says(False)
    monkeypatch.setattr(stably, "KILL_SECONDS", 1)
    emulator.inject(Fault(delay=math.inf), call="cancel")

    await trigger.on_kill()

    assert len(emulator.requests("cancel")) == 1


@pytest.mark.parametrize("has_on_kill", [True, False], ids=["on_kill", "the end of run"])
async def test_cancelling_survives_airflows_repeated_cancels(emulator, trigger, monkeypatch, has_on_kill):
    """Airflow 3 cancels a trigger every second until it has ended; the cancelling is finished."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slowly(ti, run_id):
        asked.set()
        await answer.wait()
        return False

    monkeypatch.setattr(stably, "is_still_deferred", slowly)
    monkeypatch.setattr(stably, "HAS_TRIGGER_ON_KILL", has_on_kill)
    if has_on_kill:
        ending = asyncio.create_task(trigger.on_kill())
    else:
        ending = await _run_until_cancelled(emulator, trigger)
    await asked.wait()
    ending.cancel("once more")
    with pytest.raises(asyncio.CancelledError):
        await ending

    answer.set()
    await asyncio.wait(list(driver._kept_work), timeout=5)

    assert emulator.live_runs() == []


async def test_a_trigger_may_leave_the_run_alone(emulator, trigger, says):
    """cancel_on_kill=False holds in the triggerer."""
    says(False)
    trigger.cancel_on_kill = False

    await trigger.on_kill()

    assert emulator.requests() == []


async def test_a_trigger_that_crashes_cancels_its_run(emulator, trigger, monkeypatch):
    """Airflow may fail the task without resuming it."""
    monkeypatch.setattr(stably, "watch", create_autospec(stably.watch, side_effect=ZeroDivisionError))

    with pytest.raises(ZeroDivisionError):
        [event async for event in trigger.run()]

    assert emulator.live_runs() == []


async def test_an_interrupted_inline_trigger_cancels_its_run(emulator, trigger):
    """In dag.test() there is no triggerer, so nobody goes on after Ctrl-C."""
    in_triggerer(trigger, None)

    await _run_and_end(emulator, trigger)

    assert emulator.live_runs() == []


async def test_an_inline_trigger_cancels_whatever_interrupts_it(emulator, trigger, monkeypatch):
    """What pytest-timeout raises is neither an error nor asyncio's interruption."""
    in_triggerer(trigger, None)
    monkeypatch.setattr(stably, "watch", create_autospec(stably.watch, side_effect=pytest.fail.Exception))

    with pytest.raises(pytest.fail.Exception):
        [event async for event in trigger.run()]

    assert emulator.live_runs() == []


@pytest.mark.parametrize("ahead", [-3600, 0, 60])
async def test_a_trigger_fires_no_sooner_than_it_must(emulator, monkeypatch, ahead):
    """Airflow 3.3 fails a task whose trigger is faster than the worker's exit; their clocks may differ."""
    monkeypatch.setattr(stably, "FIRST_EVENT_SECONDS", 0.5)
    run = RunReference(emulator.add_run(project_id=PROJECT, statuses=["PASSED"]), PROJECT)
    trigger = _deferred_trigger(run)
    in_triggerer(trigger, SimpleNamespace(key="its key"))
    genuine = time.time
    monkeypatch.setattr(time, "time", lambda: genuine() + ahead)

    began = time.monotonic()
    [event] = [event async for event in trigger.run()]
    took = time.monotonic() - began

    assert event.payload["run"]["status"] == "PASSED"
    assert 0.5 <= took < 5


async def test_a_kill_outlasts_a_long_retry_after(emulator, trigger, says, monkeypatch):
    """A rate limit that asks for more than Airflow gives on_kill does not cost the second attempt."""
    monkeypatch.setattr(driver, "HEEDED_IN_HASTE_SECONDS", 0.1)
    monkeypatch.setattr(stably, "KILL_SECONDS", 10.0)
    says(False)
    emulator.inject(Fault(status=429, headers={"Retry-After": "30"}))

    await trigger.on_kill()

    assert emulator.live_runs() == []


def test_a_trigger_is_rebuilt_from_what_it_serializes(trigger):
    """Class path and all arguments make the same trigger, with no secret among them."""
    path, kwargs = trigger.serialize()

    again = StablyRunTrigger(**kwargs)

    assert path == f"{StablyRunTrigger.__module__}.{StablyRunTrigger.__qualname__}"
    assert again.serialize() == (path, kwargs)
    assert kwargs.keys() == inspect.signature(StablyRunTrigger).parameters.keys()
    assert {type(value) for value in kwargs.values()} <= {str, float, int, bool, type(None)}


def test_a_trigger_of_an_earlier_version_is_read(trigger):
    """What was serialized before an upgrade has no newer arguments, and is watched on."""
    _, kwargs = trigger.serialize()
    newer = {"key_has_worked", "queue_deadline"}

    again = type(trigger)(**{name: value for name, value in kwargs.items() if name not in newer})

    assert again.queue_deadline is None
    again._check_arguments()

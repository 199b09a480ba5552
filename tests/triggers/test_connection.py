"""How the trigger comes by its connection, and what it does without one."""

import asyncio
import socket
import threading

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_stably.api import async_transport
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.testing import Fault
from airflow_provider_stably.triggers import driver
from airflow_provider_stably.triggers.stably import StablyRunTrigger
from tests.constants import PROJECT
from tests.waiting import wait_until


async def test_on_kill_outlasts_a_missing_connection(emulator, trigger, says, hide_connection):
    """A secrets backend that fails for a moment, just then, does not cost the cancel."""
    says(False)
    hide_connection(times=3)

    await trigger.on_kill()

    assert emulator.live_runs() == []


@pytest.fixture
def names(emulator, monkeypatch):
    """A function after which the API's name is not found any more; the connection has one."""
    host = emulator.url.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT, host=host))
    monkeypatch.setattr(async_transport, "LOOK_UP_AGAIN_SECONDS", 0.1)
    over, genuine = threading.Event(), socket.getaddrinfo

    def lose(*, how):
        def getaddrinfo(host, *rest, **options):
            if host == "localhost":
                over.wait(10 if how == "stall" else 0)
                raise socket.gaierror(socket.EAI_AGAIN, "not now")
            return genuine(host, *rest, **options)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    yield lose
    over.set()


@pytest.mark.parametrize("how", ["fail", "stall"])
async def test_on_kill_needs_no_name_look_up(emulator, trigger, says, names, how):
    """The triggerer has reached the API a moment before, and Airflow leaves half a minute."""
    says(False)
    watching = asyncio.create_task(anext(trigger.run()))
    await asyncio.to_thread(wait_until, lambda: emulator.requests("get"))
    watching.cancel("marked")
    await asyncio.wait([watching])
    names(how=how)

    await trigger.on_kill()

    assert emulator.live_runs() == []


async def test_on_kill_asks_for_no_connection_that_is_known(emulator, trigger, says, unanswered):
    """A secrets backend that does not answer then does not cost the cancel."""
    unanswered(but=1)
    says(False)
    watching = asyncio.create_task(anext(trigger.run()))
    await asyncio.to_thread(wait_until, lambda: emulator.requests("get"))
    watching.cancel("marked")
    await asyncio.wait([watching])

    await trigger.on_kill()

    assert emulator.live_runs() == []


async def test_triggers_that_start_at_once_ask_once(emulator, trigger, monkeypatch):
    """A thousand look-ups, each of half a second, would hand most runs back before they had begun."""
    emulator.runs[trigger.run_id].statuses = ["PASSED"]
    genuine, asked, answer = StablyHook.get_connection, [], threading.Event()

    def get_connection(conn_id):
        asked.append(conn_id)
        answer.wait(10)
        return genuine(conn_id)

    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))
    triggers = [StablyRunTrigger(**trigger.serialize()[1]) for _ in range(20)]
    waits = [asyncio.create_task(anext(trigger.run())) for trigger in triggers]
    await asyncio.sleep(0)  # each of them begins

    answer.set()
    events = await asyncio.gather(*waits)

    assert {event.payload["run"]["status"] for event in events} == {"PASSED"}
    assert asked == ["stably_default"]


async def test_asking_for_the_connection_is_not_cut_off(trigger, monkeypatch):
    """On Airflow 3.0 and 3.1 an answer that nobody waits for any more ends the triggerer."""
    asked, answer, was_taken = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slowly(hook):
        asked.set()
        await answer.wait()
        was_taken.set()

    monkeypatch.setattr(StablyHook, "get_async_client", slowly)
    starting = asyncio.create_task(anext(trigger.run()))
    await asked.wait()
    starting.cancel("marked")
    with pytest.raises(asyncio.CancelledError):
        await starting

    answer.set()

    await asyncio.wait_for(was_taken.wait(), timeout=5)


@pytest.mark.parametrize("error", [RuntimeError("database is away"), AirflowNotFoundException()], ids=repr)
async def test_an_unreadable_connection_is_waited_for(emulator, trigger, hide_connection, error):
    """A hiccup of Airflow's own database does not end the wait."""
    emulator.runs[trigger.run_id].statuses = ["PASSED"]
    hide_connection(times=3, error=error)

    [event] = [event async for event in trigger.run()]

    assert event.payload["run"]["status"] == "PASSED"


async def test_a_missing_connection_hands_the_run_back(emulator, trigger, hide_connection):
    """What only the triggerer lacks, the worker may have; the run goes on."""
    hide_connection(times=1000, error=RuntimeError("secrets backend is away"))

    [event] = [event async for event in trigger.run()]

    assert (event.payload["end"], event.payload["deadline"]) == ("handed_back", trigger.deadline)
    assert "RuntimeError" in event.payload["detail"]
    assert len(emulator.live_runs()) == 1


@pytest.fixture
def unanswered(monkeypatch):
    """Let look-ups of the connection stay without an answer, all but the first ones."""
    over = threading.Event()
    genuine, asked = StablyHook.get_connection, []

    def unanswered(*, but):
        def get_connection(conn_id):
            asked.append(conn_id)
            if len(asked) > but:
                over.wait(10)
            return genuine(conn_id)

        monkeypatch.setattr(driver, "LOOK_UP_SECONDS", 0.05)
        monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))
        return asked

    yield unanswered
    over.set()


async def test_a_look_up_without_an_answer_hands_the_run_back(trigger, unanswered):
    """A secrets backend that hangs is asked once, or its threads would fill the triggerer."""
    asked = unanswered(but=0)

    [event] = [event async for event in trigger.run()]

    assert event.payload["end"] == "handed_back"
    assert "no answer in" in event.payload["detail"]
    assert len(asked) == 1


async def test_a_look_up_whose_answer_is_lost_is_made_anew(emulator, trigger, monkeypatch):
    """The secrets backend answers every later question: the connection is not spoiled for good."""
    emulator.runs[trigger.run_id].statuses = ["PASSED"]
    genuine, over, asked = StablyHook.get_connection, threading.Event(), []

    def get_connection(conn_id):
        asked.append(conn_id)
        if len(asked) == 1:
            over.wait(10)
        return genuine(conn_id)

    monkeypatch.setattr(driver, "LOOK_UP_SECONDS", 0.05)
    monkeypatch.setattr(driver, "ASK_ANEW_SECONDS", 0.1)
    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))
    [event] = [event async for event in trigger.run()]
    over.set()

    assert event.payload["run"]["status"] == "PASSED"
    assert len(asked) == 2


async def test_a_look_up_without_an_answer_leaves_the_old_connection(emulator, trigger, unanswered):
    """A wrong 403 has the connection read again; meanwhile the old key works once more."""
    emulator.runs[trigger.run_id].statuses = ["RUNNING", "PASSED"]
    emulator.inject(Fault(status=403), call="get")
    unanswered(but=1)

    [event] = [event async for event in trigger.run()]

    assert event.payload["run"]["status"] == "PASSED"


async def test_a_rotated_key_is_picked_up(emulator, trigger, monkeypatch):
    """After a 401 the connection is read once more and the wait goes on."""
    emulator.runs[trigger.run_id].statuses = ["RUNNING", "RUNNING", "PASSED"]
    respond = emulator.respond

    def rotate_at_the_second_look(request):
        if len(emulator.requests("get")) == 2:
            emulator.api_key = "sk-rotated-key"
            monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT))
        return respond(request)

    emulator.respond = rotate_at_the_second_look

    [event] = [event async for event in trigger.run()]

    assert event.payload["run"]["status"] == "PASSED"
    assert emulator.requests()[-1].headers["authorization"] == "Bearer sk-rotated-key"

"""Names are looked up in threads that can be left behind, by both clients."""

import _thread
import asyncio
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from unittest.mock import create_autospec

import pytest

from airflow_provider_stably.api import async_transport, calls, names, transport
from airflow_provider_stably.api.async_client import AsyncStablyClient
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.exceptions import StablyUnreachableError
from tests.constants import PROJECT


@pytest.fixture
def by_name(emulator, endpoint, monkeypatch):
    """An endpoint with a name, which this process has not reached yet."""
    monkeypatch.setattr(names, "_found", {})
    monkeypatch.delitem(names.reached_at, "localhost", raising=False)
    return replace(endpoint, base_url=emulator.url.replace("127.0.0.1", "localhost"))


@pytest.fixture
def at_once(monkeypatch):
    """Let look-ups end at once, in this thread."""
    monkeypatch.setattr(_thread, "start_new_thread", lambda work, given: work(*given))


@pytest.mark.parametrize(
    ("host", "found"),
    [
        pytest.param("127.0.0.1", ["127.0.0.1"], id="address"),
        pytest.param("stably.invalid", socket.gaierror, id="no name"),
        pytest.param(f"{'a' * 64}.example", UnicodeError, id="too long"),
    ],
)
def test_a_look_up_tells_addresses_or_why_there_are_none(at_once, host, found):
    """What it comes to is a value, whichever thread it ends in."""
    told = []

    names.look_up(host, 443, told.append)

    assert told == [found] or isinstance(told[0], found)


def test_a_look_up_may_end_when_nobody_waits(at_once):
    """Its event loop is closed: the thread ends without a word on standard error."""
    tell = create_autospec(print, side_effect=RuntimeError("Event loop is closed"))

    names.look_up("127.0.0.1", 443, tell)

    assert tell.called


async def test_an_address_stands_in_for_a_name_that_is_not_found_in_time(emulator, by_name, monkeypatch):
    """One poll has reached the API; at the next, with a connection of its own, the look-up stalls."""
    monkeypatch.setattr(async_transport, "LOOK_UP_AGAIN_SECONDS", 0.05)
    call = calls.get_run(PROJECT, emulator.add_run(project_id=PROJECT))
    async with AsyncStablyClient(by_name) as client:
        await client.send_once(call)
    over, told = threading.Event(), asyncio.Event()
    loop, genuine = asyncio.get_running_loop(), socket.getaddrinfo

    def stall(*given, **options):
        over.wait(10)
        loop.call_soon_threadsafe(loop.call_later, 0.05, told.set)  # after what it has found
        return genuine(*given, **options)

    monkeypatch.setattr(socket, "getaddrinfo", stall)
    async with AsyncStablyClient(by_name) as client:
        assert not (await client.send_once(call)).is_finished

    over.set()
    await asyncio.wait_for(told.wait(), timeout=5)  # nothing fails as the look-up ends


async def test_a_name_is_not_looked_up_where_no_thread_can_be_had(emulator, by_name, monkeypatch):
    """On an event loop it would hold all others up: the API counts as unreachable, unless it was reached."""
    call = calls.get_run(PROJECT, emulator.add_run(project_id=PROJECT))
    no_thread = create_autospec(_thread.start_new_thread, side_effect=RuntimeError("can't start new thread"))
    monkeypatch.setattr(_thread, "start_new_thread", no_thread)
    async with AsyncStablyClient(by_name) as client:
        with pytest.raises(StablyUnreachableError):
            await client.send_once(call)
        monkeypatch.setitem(names.reached_at, "localhost", "127.0.0.1")

        assert not (await client.send_once(call)).is_finished


class Resolver:
    """Answers each look-up of the API's name ``seconds`` late."""

    def __init__(self, monkeypatch, *addresses, seconds):
        self.addresses, self.seconds = addresses, seconds
        self._genuine = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host, port, *given, **options):
        if host != "localhost":
            return self._genuine(host, port, *given, **options)
        time.sleep(self.seconds)  # as a dead first name server makes it
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        pytest.param(["127.0.0.2"], ["127.0.0.1"], id="it has moved"),
        pytest.param(["127.0.0.2", "127.0.0.1"], ["127.0.0.2", "127.0.0.1"], id="one of two is dead"),
    ],
)
@pytest.mark.parametrize("kind", ["kill", "trigger"])
async def test_a_slow_look_up_leads_the_next_call(emulator, by_name, monkeypatch, before, now, kind):
    """It takes longer than is waited where the name was reached before, and that address is dead by now."""
    monkeypatch.setattr(async_transport, "LOOK_UP_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(transport, "LOOK_UP_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(transport, "_gone_to", set())
    monkeypatch.setitem(names.reached_at, "localhost", "127.0.0.2")
    monkeypatch.setitem(names._found, "localhost", before)
    Resolver(monkeypatch, *now, seconds=0.15)
    call = calls.get_run(PROJECT, emulator.add_run(project_id=PROJECT))

    async def ask():
        if kind == "trigger":
            async with AsyncStablyClient(by_name) as client:
                return await client.send_once(call)
        with StablyClient(by_name, by_address=True) as client:
            return client.send_once(call)

    answers = []
    for _ in range(4):
        with suppress(StablyUnreachableError):
            answers.append(await ask())
        await asyncio.sleep(0.1)  # as calls are sent again

    assert answers

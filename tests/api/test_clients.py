"""Both clients, over real sockets, held to the same expectations."""

import asyncio
import gzip
import json
import math
from contextlib import suppress
from dataclasses import replace

import pytest

from airflow_provider_stably.api import answers, calls, retries
from airflow_provider_stably.api.async_client import AsyncStablyClient
from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyAuthError,
    StablyError,
    StablyHTTPError,
    StablyNotFoundError,
    StablyResponseError,
    StablyUnreachableError,
)
from airflow_provider_stably.testing import Fault
from tests.constants import KEY, PROJECT

DROP = Fault(drop=True)
LATER = Fault(status=503, headers={"Retry-After": "1"})


async def test_the_three_calls_work(emulator, send):
    """A run is started, read and cancelled."""
    run_id = await send(calls.start_run(PROJECT, playwright_project_name="hangs", env_overrides={"A": "ü"}))
    before = await send(calls.get_run(PROJECT, run_id))
    cancelled = await send(calls.cancel_run(PROJECT, run_id))
    after = await send(calls.get_run(PROJECT, run_id))

    assert cancelled == (run_id,)
    assert (before.is_finished, after.status) == (False, "CANCELLED")
    assert emulator.requests("start")[0].json()["envOverrides"] == {"A": "ü"}


async def test_requests_are_authenticated_and_say_who_asks(emulator, send):
    """Every request carries the key as a bearer token, and the User-Agent."""
    with pytest.raises(StablyNotFoundError):
        await send(calls.get_run(PROJECT, "nope"))

    headers = emulator.requests()[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["user-agent"] == "test-agent/1"


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        pytest.param(calls.get_run, ("r",), id="get"),
        pytest.param(calls.cancel_run, ("r",), id="cancel"),
        pytest.param(calls.start_run, (), id="start"),
    ],
)
async def test_a_refused_key_is_an_auth_error_at_once(emulator, endpoint, send, call, arguments):
    """A 401 is not replayed."""
    with pytest.raises(StablyAuthError):
        await send(call(PROJECT, *arguments), replace(endpoint, api_key="wrong-key"))

    assert len(emulator.requests()) == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(DROP, id="dropped"),
        pytest.param(Fault(drop=True, processed=True), id="dropped after processing"),
        *[pytest.param(Fault(status=status), id=str(status)) for status in (429, 500, 502, 503, 504)],
        pytest.param(LATER, id="503 later"),
    ],
)
async def test_reads_and_cancels_outlast_passing_failures(emulator, send, fault):
    """Reads and cancels are sent again after what may pass."""
    run_id = emulator.add_run(project_id=PROJECT)
    emulator.inject(fault, call="get", times=3)

    run = await send(calls.get_run(PROJECT, run_id))

    assert run.status in {"QUEUED", "RUNNING"}
    assert len(emulator.requests("get")) == 4
    assert send.sleeps  # not three for each: aiohttp repeats a dropped GET once by itself


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 501])
async def test_a_definite_no_is_not_replayed(emulator, send, status):
    """An answer that repeating cannot change is raised at once."""
    emulator.inject(Fault(status=status), times=math.inf)

    with pytest.raises(StablyHTTPError) as caught:
        await send(calls.cancel_run(PROJECT, "r"))

    assert caught.value.status == status
    assert len(emulator.requests()) == 1


async def test_replays_are_bounded_in_number(emulator, send):
    """An API that stays down is asked five times, then the last failure is raised."""
    emulator.inject(Fault(status=502), times=math.inf)

    with pytest.raises(StablyHTTPError, match="502"):
        await send(calls.get_run(PROJECT, "r"))

    assert len(emulator.requests()) == retries.MAX_ATTEMPTS == 5


async def test_replays_are_bounded_in_time(emulator, send, monkeypatch):
    """A wait that would end after the total time is not begun."""
    monkeypatch.setattr(retries, "MAX_REPLAY_SECONDS", 50)
    emulator.inject(Fault(status=429, headers={"Retry-After": "60"}), times=math.inf)

    with pytest.raises(StablyHTTPError, match="429"):
        await send(calls.get_run(PROJECT, "r"))

    assert send.sleeps == []


async def test_retry_after_is_heeded(emulator, send):
    """Retry-After lengthens the wait before the next attempt, up to a minute, and is jittered upwards."""
    run_id = emulator.add_run(project_id=PROJECT)
    emulator.inject(Fault(status=429, headers={"Retry-After": "7"}))
    emulator.inject(Fault(status=503, headers={"Retry-After": "9999"}))

    await send(calls.get_run(PROJECT, run_id))

    assert 7 <= send.sleeps[0] <= 7 * 1.25
    assert 60 <= send.sleeps[1] <= 60 * 1.25


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(drop=True, processed=True), id="dropped after processing"),
        pytest.param(DROP, id="dropped before"),
        pytest.param(Fault(delay=math.inf, processed=True), id="no answer"),
        pytest.param(Fault(status=500, processed=True), id="500"),
        pytest.param(Fault(status=502, processed=True), id="502"),
        pytest.param(Fault(status=503, processed=True), id="503"),
        pytest.param(Fault(status=504, processed=True), id="504"),
        pytest.param(Fault(body="<html>", processed=True), id="HTML"),
        pytest.param(Fault(body={}, processed=True), id="no id"),
        pytest.param(Fault(status=302, headers={"Location": "/elsewhere"}), id="redirect"),
    ],
)
async def test_a_start_whose_answer_is_lost_is_sent_once(emulator, endpoint, send, fault):
    """One request, and an error that says that an untracked run may exist."""
    emulator.inject(fault, times=math.inf)

    with pytest.raises(StablyAmbiguousStartError, match="untracked run may exist"):
        await send(calls.start_run(PROJECT), replace(endpoint, read_timeout=0.3))

    assert len(emulator.requests("start")) == 1


@pytest.mark.parametrize("fault", [LATER, Fault(status=429)], ids=["503 later", "429"])
async def test_a_start_that_was_turned_away_is_sent_again(emulator, send, fault):
    """A start that provably was not accepted is replayed, and one run comes of it."""
    emulator.inject(fault, times=2)

    run_id = await send(calls.start_run(PROJECT))

    assert list(emulator.runs) == [run_id]
    assert len(emulator.requests("start")) == 3


async def test_a_start_that_never_left_is_not_ambiguous(endpoint, send, closed_port):
    """A refused connection is tried again and then is an ordinary, retryable error."""
    with pytest.raises(StablyUnreachableError, match="ConnectionRefusedError") as caught:
        await send(calls.start_run(PROJECT), replace(endpoint, base_url=f"http://127.0.0.1:{closed_port}"))

    assert not caught.value.request_sent
    assert len(send.sleeps) == 4


@pytest.mark.parametrize("before", [StablyError, KeyboardInterrupt])
async def test_a_failure_is_not_mixed_with_an_earlier_one(endpoint, send, closed_port, before):
    """Runs are cancelled while another error is being handled."""
    nowhere = replace(endpoint, base_url=f"http://127.0.0.1:{closed_port}")
    try:
        raise before("of the task")
    except before:
        with pytest.raises(StablyUnreachableError) as caught:
            await send(calls.get_run(PROJECT, "r"), nowhere, once=True)

    assert "reached (ConnectionRefusedError)" in str(caught.value)


async def test_a_silent_server_is_given_up_on(emulator, endpoint, send):
    """No answer within the timeout is an error that says the request was sent."""
    emulator.inject(Fault(delay=math.inf))

    with pytest.raises(StablyUnreachableError) as caught:
        await send(calls.get_run(PROJECT, "r"), replace(endpoint, read_timeout=0.2), once=True)

    assert caught.value.request_sent


async def test_a_trickling_body_is_given_up_on(emulator, endpoint, send):
    """A body that comes byte by byte does not outlast the timeout."""
    emulator.inject(Fault(body=b" " * 2000, trickle=True))  # 40 s at the emulator's pace

    with pytest.raises(StablyUnreachableError):
        await send(calls.get_run(PROJECT, "r"), replace(endpoint, read_timeout=0.2), once=True)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"x" * (answers.MAX_ANSWER_BYTES + 1), {}, id="plain"),
        pytest.param(
            gzip.compress(b"x" * (4 * answers.MAX_ANSWER_BYTES)),
            {"Content-Encoding": "gzip"},
            id="gzip bomb",
        ),
        pytest.param(
            gzip.compress(b"x" * answers.MAX_ANSWER_BYTES) + gzip.compress(b"x"),
            {"Content-Encoding": "gzip"},
            id="gzip members",
        ),
    ],
)
async def test_a_huge_body_is_not_read_to_its_end(emulator, send, body, headers):
    """A body beyond the bound is an error, compressed or not."""
    emulator.inject(Fault(body=body, headers=headers))

    # aiohttp 3.13.3 has a bound of its own on what it decompresses.
    with pytest.raises(StablyError, match=r"longer than|DecompressSizeError"):
        await send(calls.get_run(PROJECT, "r"), once=True)


async def test_a_compressed_answer_is_read(emulator, send):
    """An answer may come compressed."""
    body = gzip.compress(json.dumps({"status": "PASSED"}).encode())
    emulator.inject(Fault(body=body, headers={"Content-Encoding": "gzip"}))

    assert (await send(calls.get_run(PROJECT, "r"))).is_passed


async def test_a_proxys_web_page_is_an_error_with_its_facts(emulator, send):
    """HTML with status 200 is an error that shows content type and the page's start."""
    emulator.inject(Fault(body="<html>Please log in</html>", headers={"Content-Type": "text/html"}))

    with pytest.raises(StablyResponseError, match="Please log in") as caught:
        await send(calls.get_run(PROJECT, "r"))

    assert caught.value.content_type == "text/html"


async def test_a_key_that_a_server_echoes_is_not_shown(emulator, send):
    """The key is taken out of what an error shows of an answer."""
    emulator.inject(Fault(status=400, body={"error": f"bad header: Bearer {KEY}"}))

    with pytest.raises(StablyHTTPError, match=r"bad header: Bearer \*\*\*") as caught:
        await send(calls.get_run(PROJECT, "r"))

    assert KEY not in str(caught.value) + caught.value.detail


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(drop=True), id="dropped"),
        pytest.param(Fault(body=b"x", headers={"Content-Encoding": "br"}), id="encoding unknown"),
        pytest.param(Fault(body=b"x", headers={"Content-Encoding": "gzip"}), id="gzip broken"),
        pytest.param(Fault(status=302, headers={"Location": "http://[::1"}), id="redirect to nowhere"),
        pytest.param(
            Fault(status=400, headers={"Retry-After": "Mon, 01 Jan 2027 00:00:00 +9999999999999999"}),
            id="date",
        ),
        pytest.param(
            Fault(status=400, body='{"error": "key ' + KEY.replace("-", "\\u002d") + '"}'), id="escaped key"
        ),
        pytest.param(Fault(body="x", headers={"Content-Type": f"text/{KEY}"}), id="key as content type"),
    ],
)
async def test_no_answer_shows_a_library_error_or_the_key(emulator, send, fault):
    """The error is one of ours, and nothing that hangs on it shows the key."""
    emulator.inject(fault, times=math.inf)

    with pytest.raises(StablyError) as caught:
        await send(calls.get_run(PROJECT, "r"), once=True)

    error = caught.value
    shown = [repr(error), str(vars(error)), *_hanging_on(error)]
    assert not any(KEY in text for text in shown)


def _hanging_on(error):
    """What a reporter that prints local variables shows of other errors that hang on ours."""
    while (error := error.__cause__ or error.__context__) is not None:
        yield repr(error) + repr(vars(error))


async def test_trickling_headers_are_given_up_on(endpoint):
    """Headers that come byte by byte do not outlast a trigger's timeouts."""

    async def trickle(reader, writer):
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1024), 0.02)
        writer.close()

    async with await asyncio.start_server(trickle, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        slow = replace(endpoint, base_url=f"http://127.0.0.1:{port}", connect_timeout=2, read_timeout=0.2)
        async with AsyncStablyClient(slow) as client:
            with pytest.raises(StablyUnreachableError, match="TimeoutError") as caught:
                await asyncio.wait_for(client.send_once(calls.get_run(PROJECT, "r")), 5)

    assert caught.value.request_sent

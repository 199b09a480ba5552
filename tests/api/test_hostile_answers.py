"""What a hostile server can and cannot do to either client."""

import asyncio
import gc
import gzip
import json
import threading
import time
import tracemalloc
import zlib
from contextlib import nullcontext, suppress
from dataclasses import replace

import pytest

from airflow_provider_stably.api import answers, calls
from airflow_provider_stably.api.answers import Answer, read_answer
from airflow_provider_stably.api.async_client import AsyncStablyClient
from airflow_provider_stably.api.async_transport import _BoundedProtocol
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.api.retries import as_ambiguous_start
from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyError,
    StablyHTTPError,
    StablyResponseError,
    StablyUnreachableError,
)
from tests.api import hostile
from tests.api.hostile import (
    ENDLESS,
    HEADS,
    HEAVY,
    OK,
    PASSED,
    HostileServer,
    always,
    answer,
)
from tests.constants import KEY, PROJECT

GET = calls.get_run(PROJECT, "r")
START = calls.start_run(PROJECT)
LONG = 20
"""Seconds that nothing here takes, however loaded the machine is."""


@pytest.fixture
def ask(send, endpoint):
    """Send a call once, with either client, to a server that answers with a script."""

    async def ask(script, call=GET, **settings):
        with HostileServer(script) as server:
            # In a thread, so that a client that hangs fails the test: the server ends before the thread.
            asked = replace(endpoint, base_url=server.url, **settings)
            sending = asyncio.to_thread(asyncio.run, send(call, asked, once=True))
            return await asyncio.wait_for(sending, LONG)

    return ask


@pytest.mark.parametrize("name", ENDLESS)
async def test_an_answer_without_end_is_given_up_on(ask, name):
    """However it goes on, a call ends after connecting and two read timeouts."""
    with pytest.raises(StablyError) as caught:
        await ask(ENDLESS[name], connect_timeout=0.3, read_timeout=0.3)

    if isinstance(caught.value, StablyUnreachableError):
        assert caught.value.request_sent


@pytest.mark.unmeasured
@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_without_end_costs_little_cpu(endpoint, name):
    """Other triggers go on meanwhile, and after: 0.15 s was measured, the bound is for a loaded machine."""

    async def ask(asked):
        async with AsyncStablyClient(asked) as client:
            with pytest.raises(StablyError):
                await client.send_once(GET)

    with HostileServer(ENDLESS[name]) as server:
        asked = replace(endpoint, base_url=server.url, connect_timeout=0.3, read_timeout=0.3)
        began = time.thread_time()
        asyncio.run(ask(asked))

    assert time.thread_time() - began < 1


@pytest.mark.parametrize("pause", [(), (0.1,)], ids=["at once", "later"])
async def test_an_answer_nobody_asked_for_is_not_read(endpoint, pause):
    """It is not taken for that to the next request over the same connection."""
    was_sent = threading.Event()
    asked_for = OK + b'Content-Length: 14\r\n\r\n{"runId": "r"}'
    unasked = OK + b"Content-Length: 20\r\n\r\n" + PASSED

    def script(_):
        yield from [asked_for, *pause, unasked] if pause else [asked_for + unasked]
        was_sent.set()
        yield 3600.0

    with HostileServer(script) as server:
        async with AsyncStablyClient(replace(endpoint, base_url=server.url)) as client:
            call = replace(START, replayable=True)
            runs = [await client.send_once(call)]
            await asyncio.to_thread(was_sent.wait, LONG)
            runs.append(await client.send_once(call))

    assert runs == ["r", "r"]


async def test_an_event_loop_receives_little_at_once(endpoint, monkeypatch):
    """A server that sends fast gets no more of a triggerer's time in one go than a few milliseconds."""
    sizes = []
    receive = _BoundedProtocol.data_received

    def data_received(self, data):
        sizes.append(len(data))
        receive(self, data)

    monkeypatch.setattr(_BoundedProtocol, "data_received", data_received)
    with HostileServer(always(b"HTTP/1.1 200 OK\r\n\r\n", *[b" " * 1_000_000] * 4)) as server:
        async with AsyncStablyClient(replace(endpoint, base_url=server.url)) as client:
            with pytest.raises(StablyResponseError):
                await client.send_once(GET)

    assert max(sizes) <= 128 * 1024


async def test_a_head_of_many_long_lines_is_given_up_on(ask):
    """Neither client keeps more than half a megabyte of headers."""
    lines = b"".join(b"X-%d: %s\r\n" % (line, b"x" * 60_000) for line in range(12))

    with pytest.raises(StablyUnreachableError) as caught:
        await ask(always(OK + lines + b"Content-Length: 20\r\n\r\n" + PASSED))

    assert not caught.value.is_local  # a worker would not read it either


@pytest.mark.parametrize("name", HEADS)
async def test_no_header_costs_much_or_loses_count_of_a_start(ask, name):
    """A start is read or ambiguous, and soon: 0.02 s was measured, the bound is for a loaded machine."""
    began = time.process_time()

    head = b"HTTP/1.1 200 OK\r\n" + HEADS[name] + b"\r\nContent-Length: 14\r\n\r\n"
    try:
        is_safe = await ask(always(head + b'{"runId": "r"}'), START) == "r"
    except StablyError as error:
        is_safe = isinstance(as_ambiguous_start(START, error), StablyAmbiguousStartError)

    assert is_safe
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "body",
    [b"14; a=b\r\n%s\r\n0\r\n\r\n", b"14\r\n%s\r\n0\r\nno colon\r\n\r\n"],
    ids=["blank before an extension", "trailer without a colon"],
)
async def test_a_body_that_only_a_worker_reads_is_told_at_once(endpoint, body):
    """A triggerer hands such a run back; it does not take it for silence, poll after poll."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with HostileServer(always(head, 0.2, body % PASSED, LONG)) as server:
        asked = replace(endpoint, base_url=server.url, read_timeout=LONG)
        async with AsyncStablyClient(asked) as client:
            with pytest.raises(StablyUnreachableError) as caught:
                await asyncio.wait_for(client.send_once(GET), LONG / 2)
        with StablyClient(asked) as client:
            read = await asyncio.to_thread(client.send_once, GET)

    assert caught.value.is_local
    assert read.is_passed


async def test_the_body_of_a_redirect_is_not_read_on_and_on(ask):
    """A redirect is refused as such, and not only once the time is up."""
    redirect = [b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", *[b" " * 100_000] * 10_000]

    with pytest.raises(StablyHTTPError, match="redirect"):
        await ask(always(*redirect), read_timeout=5)


async def test_an_answer_may_take_its_time(ask):
    """A read timeout is for each part of an answer, not for all of it."""
    slow = always(OK, 0.4, b"Content-Length: 20\r\n\r\n", 0.4, PASSED)

    assert (await ask(slow, read_timeout=0.6)).is_passed


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n" * 3,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
    ],
    ids=["103", "three times 102", "100 and 103"],
)
async def test_interim_answers_are_skipped(ask, interim):
    """An answer before the answer is not taken for it: a start's id is read."""
    script = always(interim + OK + b'Content-Length: 14\r\n\r\n{"runId": "r"}')

    assert await ask(script, START) == "r"


async def test_switching_protocols_is_no_interim_answer(ask):
    """After 101 no answer follows, so none is waited for."""
    with pytest.raises(StablyError):
        await ask(
            always(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 60.0)
        )


@pytest.mark.parametrize("size", [9_000, 60_000])
async def test_a_long_header_line_is_read(ask, size):
    """A Content-Security-Policy of many kilobytes is no reason to lose an answer."""
    assert (await ask(answer(PASSED, b"Content-Security-Policy: " + b"x" * size))).is_passed


@pytest.mark.parametrize(("headers", "is_read"), [(99, True), (100, False)])
async def test_both_clients_read_as_many_headers(ask, headers, is_read):
    """What a worker reads, a triggerer reads, too."""
    script = answer(PASSED, *(b"X-%d: x" % number for number in range(headers - 1)))

    with nullcontext() if is_read else pytest.raises(StablyUnreachableError):
        assert (await ask(script)).is_passed


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            answer(gzip.compress(PASSED)[:-8], b"Content-Encoding: gzip"), id="gzip without trailer"
        ),
        pytest.param(answer(gzip.compress(PASSED)[:-1], b"Content-Encoding: gzip"), id="gzip, a byte short"),
        pytest.param(
            answer(gzip.compress(PASSED) + gzip.compress(b" ")[:-1], b"Content-Encoding: gzip"),
            id="gzip, its second member a byte short",
        ),
        pytest.param(answer(gzip.compress(PASSED) + b"x", b"Content-Encoding: br"), id="brotli"),
        pytest.param(answer(PASSED, b"Content-Encoding: gzip"), id="not gzip"),
        pytest.param(always(hostile.CHUNKED + b"14\r\n" + PASSED + b"\r\n"), id="no last chunk"),
        pytest.param(always(OK + b"Content-Length: 21\r\n\r\n" + PASSED), id="shorter than it says"),
    ],
)
async def test_a_cut_body_is_no_answer(ask, script):
    """What came reads as PASSED, but not all came."""
    with pytest.raises((StablyResponseError, StablyUnreachableError)):
        await ask(script)


@pytest.mark.parametrize("end", [b"0", b"0\r\n", b"0;x=y\r\n", b"0\r\nX-Trailer: 1\r\n"])
async def test_a_body_that_ends_with_its_last_chunk_is_read_or_local(ask, end):
    """A worker, whose requests reads it, can watch on where the triggerer's aiohttp does not."""
    chunk = b"%x\r\n%s\r\n" % (len(PASSED), PASSED)
    asking = ask(always(hostile.CHUNKED + chunk + end))
    try:
        is_read_or_local = (await asking).is_passed
    except StablyUnreachableError as error:
        is_read_or_local = error.is_local

    assert is_read_or_local


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"]
)
async def test_a_cut_head_is_no_answer(ask, head):
    """So a read is sent again; as an answer without a body it would not be."""
    with pytest.raises(StablyUnreachableError, match="No whole answer came"):
        await ask(always(head))


@pytest.mark.parametrize(
    "encoding", ["gzip", "x-gzip", "GZIP", "gzip, in members", "deflate", "raw deflate", "identity"]
)
async def test_what_is_offered_is_read(ask, encoding):
    """Both clients offer gzip and deflate, and read them, with and without zlib's header."""
    raw = zlib.compressobj(wbits=-15)
    bodies = {
        "deflate": zlib.compress(PASSED),
        "raw deflate": raw.compress(PASSED) + raw.flush(),
        "identity": PASSED,
        "gzip, in members": b"".join(map(gzip.compress, (b"", PASSED[:9], PASSED[9:], b""))) + b"padding",
    }
    body = bodies.get(encoding, gzip.compress(PASSED))
    offered = []

    def script(request):
        offered.append(b"Accept-Encoding: gzip, deflate\r\n" in request)
        return answer(body, b"Content-Encoding: " + encoding.partition(",")[0].split()[-1].encode())(request)

    assert (await ask(script)).is_passed
    assert offered == [True]


async def test_a_line_that_is_no_header_does_not_lose_a_run(send, endpoint, caplog):
    """A start's id is read all the same by the client that starts runs, and nothing of it is logged."""
    caplog.set_level("DEBUG", logger="")
    script = always(b"HTTP/1.1 200 OK\r\nnot a header\r\nX: " + KEY.encode() + b'\r\n\r\n{"runId": "r"}')

    with HostileServer(script) as server, StablyClient(replace(endpoint, base_url=server.url)) as client:
        assert client.send_once(START) == "r"

    assert KEY not in caplog.text


@pytest.mark.parametrize("name", HEAVY)
async def test_a_heavy_answer_does_not_hold_the_loop(endpoint, name):
    """Other triggers go on meanwhile: 0.03 s of CPU was measured at most, and 0.15 s if read on the loop."""
    gaps = []

    async def tick():
        while True:
            began = time.process_time()
            await asyncio.sleep(0.001)
            gaps.append(time.process_time() - began)

    with HostileServer(HEAVY[name]) as server:
        async with AsyncStablyClient(replace(endpoint, base_url=server.url)) as client:
            ticking = asyncio.create_task(tick())
            for call in (GET, START):
                with suppress(StablyError):
                    await asyncio.wait_for(client.send_once(call), LONG)
            ticking.cancel()

    assert max(gaps) < 0.1


async def test_a_big_body_is_decompressed_off_the_loop(endpoint, monkeypatch):
    """Half a second for 3 MB of empty blocks was measured, however little comes out of them."""
    threads = []
    decompressed = answers._decompressed

    def recorded(*args):
        threads.append(threading.current_thread())
        return decompressed(*args)

    monkeypatch.setattr(answers, "_decompressed", recorded)
    raw = zlib.compressobj(wbits=-15)
    body = b"\0\0\0\xff\xff" * 4000 + raw.compress(PASSED) + raw.flush()

    with HostileServer(answer(body, b"Content-Encoding: deflate")) as server:
        async with AsyncStablyClient(replace(endpoint, base_url=server.url)) as client:
            assert (await client.send_once(GET)).is_passed

    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.unmeasured
@pytest.mark.parametrize("name", HEAVY)
def test_a_heavy_answer_costs_little_memory(endpoint, name):
    """Less than 50 MB to read it."""
    script = HEAVY[name]
    [raw] = script(b"")
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = [tuple(line.split(": ", 1)) for line in lines[1:]]
    del raw
    gc.collect()

    tracemalloc.start()
    try:
        for call in (GET, START):
            try:
                read_answer(call, Answer.received(int(lines[0].split()[1]), headers, body), endpoint)
            except StablyError:
                continue
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 50e6


async def test_ten_thousand_test_cases_are_read(ask):
    """The bounds leave room for the biggest suites."""
    case = {"title": "x" * 200, "status": "PASSED", "durationMs": 12345, "retries": 0, "tags": ["a", "b"]}
    body = json.dumps({"status": "PASSED", "results": {"testCases": [case] * 10_000}}).encode()

    run = await ask(answer(gzip.compress(body), b"Content-Encoding: gzip"))

    assert len(run.test_results) == 10_000


def test_no_thread_is_left(endpoint):
    """The bound needs no watchdog thread, so it holds in a signal handler too."""
    before = threading.active_count()
    with (
        HostileServer(ENDLESS["trailers, trickled"]) as server,
        StablyClient(replace(endpoint, base_url=server.url, read_timeout=0.1)) as client,
        pytest.raises(StablyUnreachableError),
    ):
        client.send_once(GET)

    assert threading.active_count() == before

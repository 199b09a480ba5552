"""No secret comes out of a call, whatever a server that echoes it does."""

import asyncio
import json
import logging
import os
import pickle
import signal
import traceback
import warnings
from collections import OrderedDict
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_stably.api import calls, redaction
from airflow_provider_stably.api.async_client import AsyncStablyClient
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.api.endpoint import Endpoint
from airflow_provider_stably.exceptions import StablyError
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary
from tests.api.hostile import HostileServer, always, answer
from tests.constants import KEY, PROJECT
from tests.shown import held_by_frames

VALUE = 'p\u00e4ss "w0rd"\tof the start'
EXAMPLES = int(os.environ.get("STABLY_EXAMPLES", "100"))
CALLS = (
    calls.start_run(PROJECT, env_overrides={"TOKEN": VALUE}),
    calls.get_run(PROJECT, "r"),
    calls.cancel_run(PROJECT, "r"),
)
FORMS = [KEY, f"Bearer {KEY}", VALUE, json.dumps(VALUE), json.dumps({"a": json.dumps(VALUE)})]

secret = st.sampled_from(FORMS)
noise = st.text(st.characters(codec="utf-8"), max_size=5)
echo = st.builds("{}{}{}".format, noise, secret, noise)
one_line_echo = echo.map(lambda text: text.replace("\n", " ").replace("\r", " "))
header = st.builds(
    "{}{}{}".format,
    st.sampled_from(["X: ", "Set-Cookie: ", "Set-Cookie: a=", "Location: http://", "Retry-After: "])
    | st.sampled_from(["Content-Type: ", "Content-Encoding: ", "Content-Length: ", "Transfer-Encoding: "])
    | st.sampled_from(["WWW-Authenticate: ", "", " ", ": ", "\tfolded ", "Trailer: "]),
    one_line_echo,
    st.sampled_from(["\r\n", "\n", "\r\nno header\r\n", "\r\n\tfolded\r\n", ": x\r\n"]),
)
status_line = st.sampled_from(
    [
        "HTTP/1.1 200 OK",
        "HTTP/1.1 201",
        "HTTP/1.1 302 Found",
        "HTTP/1.1 401 No",
        "HTTP/1.1 404 No",
        "HTTP/1.1 503 No",
    ]
) | st.builds("{}{}".format, st.sampled_from(["HTTP/1.1 200 ", "HTTP/1.1 400 ", "HTTP/", ""]), one_line_echo)
body = st.one_of(
    echo,
    st.builds(lambda text: json.dumps({"error": text}), echo),
    st.builds(lambda text: json.dumps({"message": json.dumps({"error": text})}), echo),
    st.builds(lambda text: json.dumps({"runId": text}), secret | echo),
    st.builds(lambda text: json.dumps({"status": text, "results": {}}), echo),
    st.builds(lambda text: json.dumps({"status": [text]}), echo),
    st.builds(
        lambda text: json.dumps(
            {
                "status": "FAILED",
                "branchName": text,
                "results": {"testCases": [{"title": text, "status": text}]},
            }
        ),
        echo,
    ),
    st.builds(lambda text: json.dumps({"cancelled": [{"runId": text}]}), secret),
    st.builds(lambda text, many: text * many, secret, st.integers(1, 200)),
)
hostile_answer = st.builds(
    lambda *parts: "".join(parts).encode("utf-8", "replace"),
    status_line,
    st.just("\r\n"),
    st.lists(header, max_size=3).map("".join),
    st.sampled_from(
        ["\r\n", "Transfer-Encoding: chunked\r\n\r\n5;x=" + KEY + "\r\nhello\r\n0\r\nT: " + KEY + "\r\n\r\n"]
    ),
    body,
)


@pytest.fixture(scope="module")
def server():
    """A server whose script each example sets."""
    with HostileServer(always()) as server:
        yield server


class _Everything(logging.Handler):
    """Keeps whatever any logger says at any level, as it is and as arguments."""

    def __init__(self):
        super().__init__(level=0)
        self.texts = []

    def emit(self, record):
        self.texts += [record.getMessage(), repr(record.args), self.format(record)]


@contextmanager
def _all_that_is_logged():
    handler, root = _Everything(), logging.getLogger()
    names = ["", "urllib3", "requests", "aiohttp", "asyncio", "http", "airflow_provider_stably"]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(1)
    root.addHandler(handler)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            yield handler.texts
        finally:
            root.removeHandler(handler)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
    handler.texts += [str(warning.message) for warning in warned]


def _shown(value):
    """What is printed, stored or sent on of a result or an error."""
    yield from (str(value), repr(value), repr(getattr(value, "__dict__", "")))
    if isinstance(value, BaseException):
        yield from (repr(value.args), pickle.dumps(value, protocol=0).decode("raw-unicode-escape"))
        yield from _shown(value.__cause__ or value.__context__ or "")
    elif hasattr(value, "status"):
        yield json.dumps(value.to_json())
        yield json.dumps(RunSummary.of(RunReference("r", PROJECT), value).to_json(), ensure_ascii=False)


async def _sent(client, call):
    try:
        result = client.send_once(call)
        return await result if asyncio.iscoroutine(result) else result
    except StablyError as error:
        return error


async def _with_both(endpoint):
    with StablyClient(endpoint) as client:
        results = [await _sent(client, call) for call in CALLS]
    async with AsyncStablyClient(endpoint) as client:
        return results + [await _sent(client, call) for call in CALLS]


@settings(
    max_examples=EXAMPLES, derandomize=EXAMPLES < 1000, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(hostile_answer)
def test_no_secret_is_shown_whatever_a_server_echoes(server, answer):
    """Not in a log line at any level, nor in an error, a result, a repr, a pickle, or what goes into XCom."""
    server.script = always(answer)
    endpoint = Endpoint(server.url, KEY, connect_timeout=5, read_timeout=5)

    with _all_that_is_logged() as logged:
        results = asyncio.run(_with_both(endpoint))

    for text in [*logged, *(text for result in results for text in _shown(result))]:
        for hidden in (KEY, VALUE, VALUE[-12:], json.dumps(VALUE)[1:-1], "w0rd"):
            assert hidden not in text


@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "under way"])
async def test_a_start_without_its_answer_has_its_values_hidden(endpoint, send, monkeypatch, is_lost):
    """Later answers to the same process may echo them."""
    monkeypatch.setattr(redaction, "_sent", OrderedDict())
    was_sent = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(request):
        if request.startswith(b"GET"):
            yield from answer(json.dumps({"status": "FAILED", "branchName": VALUE}).encode())(request)
            return
        loop.call_soon_threadsafe(was_sent.set)
        if not is_lost:
            yield 60.0  # the server stops before

    with HostileServer(script) as server:
        there = replace(endpoint, base_url=server.url)
        start = asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(_sent_by(send, CALLS[0], there))))
        await (start if is_lost else was_sent.wait())
        run = await send(calls.get_run(PROJECT, "r"), there)
    await start

    assert run.branch_name == "***"


async def _sent_by(send, call, endpoint):
    with suppress(StablyError):
        await send(call, endpoint, once=True)


def test_proxies_and_settings_show_no_secret(endpoint):
    """Nor do the objects that make the calls."""
    secretive = replace(endpoint, proxy="http://user:hush@proxy.example")
    with StablyClient(secretive) as client:
        holders = [secretive, client, client.session, AsyncStablyClient(secretive)]

        for holder in holders:
            shown = repr(holder) + repr(getattr(holder, "__dict__", ""))
            assert KEY not in shown
            assert "hush" not in shown


class _Interruption(BaseException):
    """Airflow's timeout of a task is no Exception either."""


@pytest.mark.parametrize("call", CALLS, ids=["start", "poll", "cancel"])
def test_an_interrupted_calls_frames_hold_no_secret(call):
    """It gets out as it is, and says where it was, but the libraries' locals, with the key, are gone."""
    interruption = _Interruption()

    def interrupt(*_):
        raise interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with HostileServer(always(10.0)) as server, StablyClient(Endpoint(server.url, KEY)) as client:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(_Interruption) as interrupted:
                client.send_once(call)
    finally:
        signal.signal(signal.SIGALRM, before)

    assert interrupted.value is interruption
    assert "urllib3" in "".join(traceback.format_exception(interruption))
    shown = held_by_frames(interruption)
    assert KEY not in shown
    assert "w0rd" not in shown


@pytest.mark.parametrize("call", CALLS, ids=["start", "poll", "cancel"])
async def test_a_cancelled_calls_frames_hold_no_secret(call):
    """A timeout of asyncio, which needs the very error that it made, still works."""
    with HostileServer(always(10.0)) as server:
        async with AsyncStablyClient(Endpoint(server.url, KEY)) as client:
            with pytest.raises(TimeoutError) as interrupted:
                async with asyncio.timeout(0.3):
                    await client.send_once(call)

    assert isinstance(interrupted.value.__context__, asyncio.CancelledError)
    assert "aiohttp" in "".join(traceback.format_exception(interrupted.value))
    shown = held_by_frames(interrupted.value)
    assert KEY not in shown
    assert "w0rd" not in shown


@pytest.mark.parametrize("status", ["200 OK", "407 No"])
def test_a_proxys_cookies_show_no_password(status):
    """One that cannot be read is not logged: aiohttp before 3.12.7 did."""
    cookie = f"HTTP/1.1 {status}\r\nSet-Cookie: user:hush-hush@x=1\r\n\r\n".encode()
    with HostileServer(always(cookie)) as proxy, _all_that_is_logged() as logged:
        address = proxy.url.replace("http://", "http://user:hush-hush@")
        asyncio.run(_with_both(Endpoint("https://api.example", KEY, proxy=address)))

    assert proxy.requests
    assert "hush-hush" not in " ".join(logged)

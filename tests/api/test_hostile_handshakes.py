"""What a hostile server can and cannot do to either client while connecting, and within TLS."""

import asyncio
import io
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from unittest.mock import create_autospec

import aiohttp
import pytest
import trustme

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.async_client import AsyncStablyClient
from airflow_provider_stably.api.async_transport import _BoundedProtocol
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.exceptions import (
    StablyUnreachableError,
)
from tests.api.hostile import (
    OK,
    PASSED,
    HostileProxy,
    HostileServer,
    TicketFlood,
    always,
    answer,
)
from tests.constants import PROJECT

GET = calls.get_run(PROJECT, "r")
LONG = 20
"""Seconds that nothing here takes, however loaded the machine is."""


async def test_what_follows_an_answer_within_tls_does_not_lose_it(endpoint, tls, ca_bundle, monkeypatch):
    """Bytes after the last that the head promised, in one TLS record with it, are nobody's."""
    head_came = threading.Event()
    feed_data = _BoundedProtocol.feed_data

    def fed_data(self, data, size=0):
        feed_data(self, data, size)
        head_came.set()

    def script(_):
        yield OK + b"Content-Length: 20\r\n\r\n"
        head_came.wait(LONG)
        yield PASSED + b"and more"

    monkeypatch.setattr(_BoundedProtocol, "feed_data", fed_data)
    with HostileServer(script, tls=tls) as server:
        asked = replace(endpoint, base_url=server.url, verify=ca_bundle)
        async with AsyncStablyClient(asked) as client:
            run = await client.send_once(GET)

    assert run.is_passed


@pytest.mark.parametrize(
    ("by_proxy", "verifies"),
    [(False, True), (True, True), (True, False)],
    ids=["direct", "https proxy", "https proxy, not verified"],
)
def test_an_unasked_answer_within_tls_is_not_read(endpoint, tls, ca_bundle, by_proxy, verifies):
    """One that comes in a TLS record with the answer before it is not taken for that to the next request."""
    asked_for = b'Content-Length: 20\r\n\r\n{"status": "QUEUED"}'
    padding = b"X: " + b"x" * (io.DEFAULT_BUFFER_SIZE - len(OK + asked_for) - 5) + b"\r\n"
    sent = OK + padding + asked_for + OK + b"Content-Length: 20\r\n\r\n" + PASSED

    direct = HostileServer(always(sent, 3600.0), tls=tls)
    with HostileProxy(tls, sends=sent) if by_proxy else direct as server:
        way = {"base_url": "https://stably.example", "proxy": server.url}
        asked = replace(endpoint, **(way if by_proxy else {"base_url": server.url}))
        with StablyClient(replace(asked, verify=ca_bundle if verifies else False)) as client:
            runs = [client.send_once(GET), client.send_once(GET)]

    assert [run.status for run in runs] == ["QUEUED", "QUEUED"]


@pytest.mark.parametrize(
    "connected",
    [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"],
    ids=["100", "103"],
)
async def test_interim_answers_of_a_proxy_are_skipped(send, endpoint, tls, ca_bundle, connected):
    """What it says before it opens the way to the API is not taken for a refusal."""
    passed = OK + b"Content-Length: 20\r\n\r\n" + PASSED

    with HostileProxy(tls, sends=passed, connected=connected + b"HTTP/1.1 200 OK\r\n\r\n") as proxy:
        way = {"base_url": "https://stably.example", "proxy": proxy.url, "verify": ca_bundle}
        sending = asyncio.to_thread(asyncio.run, send(GET, replace(endpoint, **way), once=True))
        assert (await asyncio.wait_for(sending, LONG)).is_passed


def test_a_slow_proxy_leaves_the_handshake_its_time(endpoint, tls, ca_bundle):
    """CONNECT has a timeout of its own, and so has the TLS handshake after it."""
    passed = OK + b"Content-Length: 20\r\n\r\n" + PASSED

    with HostileProxy(tls, sends=passed, waits=1.2) as proxy:
        way = {"base_url": "https://stably.example", "proxy": proxy.url, "verify": ca_bundle}
        with StablyClient(replace(endpoint, **way, connect_timeout=2, read_timeout=2)) as client:
            assert client.send_once(GET).is_passed


async def test_a_handshake_without_end_is_given_up_on(send, endpoint):
    """A TLS record that comes byte by byte does not outlast the connect timeout; nothing was sent by then."""
    record = always(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", *[b"\x00", 0.02] * 16_000)
    with HostileServer(record, reads_request=False) as server:
        url = server.url.replace("http:", "https:")
        asked = replace(endpoint, base_url=url, connect_timeout=0.3, read_timeout=0.3)

        with pytest.raises(StablyUnreachableError):
            await asyncio.wait_for(asyncio.to_thread(asyncio.run, send(GET, asked, once=True)), LONG)


FFDHE2048 = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""
"""As RFC 7919 defines it: short enough for the machine that runs this test."""


@pytest.mark.parametrize("verifies", [True, False])
async def test_no_server_chooses_how_long_a_handshake_takes(send, endpoint, authority, tmp_path, verifies):
    """TLS 1.2's DHE is not offered: with parameters of 10,000 bits it holds an event loop for seconds."""
    bundle, parameters = tmp_path / "ca.pem", tmp_path / "dh.pem"
    authority.cert_pem.write_to_path(bundle)
    parameters.write_text(FFDHE2048)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA).configure_cert(tls)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers("DHE-RSA-AES256-GCM-SHA384")
    tls.load_dh_params(str(parameters))

    with HostileServer(answer(PASSED), tls=tls) as server:
        asked = replace(endpoint, base_url=server.url, verify=str(bundle) if verifies else False)
        with pytest.raises(StablyUnreachableError):
            await send(GET, asked, once=True)

    assert server.requests == []


@pytest.fixture
def resolve(monkeypatch):
    """Let a name have some of loopback's addresses; the system's resolver can be told no such thing."""

    def resolve(numbers, port):
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", port)) for n in numbers]
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *a, **k: found if host == "many.example" else real(host, *a, **k),
        )
        return f"http://many.example:{port}"

    return resolve


@pytest.fixture
def silent(resolve):
    """A host with eight addresses, none of which ever answers."""
    port, numbers = 0, range(1, 9)
    with ExitStack() as opened:
        for number in numbers:
            listening = opened.enter_context(socket.socket())
            listening.bind((f"127.0.0.{number}", port))
            listening.listen(0)
            port = listening.getsockname()[1]
            for _ in range(3):  # once its queue is full, it is silent
                waiting = opened.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listening.getsockname())
        yield resolve(numbers, port)


async def test_an_address_that_refuses_is_passed_over(send, endpoint, resolve):
    """A host is reached at the next of its addresses."""
    with HostileServer(answer(PASSED)) as server:
        host = resolve([3, 2, 1], int(server.url.rpartition(":")[2]))

        run = await send(GET, replace(endpoint, base_url=host), once=True)

    assert run.is_passed


async def test_a_host_of_many_addresses_is_given_up_on(send, endpoint, silent):
    """All of them together take two connect timeouts, so that a name server cannot hold a call."""
    asked = replace(endpoint, base_url=silent, connect_timeout=0.5, read_timeout=0.2)
    began = time.monotonic()

    with pytest.raises(StablyUnreachableError):
        await asyncio.to_thread(asyncio.run, send(GET, asked, once=True))

    assert time.monotonic() - began < 3


async def test_a_handshake_has_the_whole_timeout(send, endpoint, resolve):
    """The share of it that each of many addresses has to be reached is not all that the handshake has."""
    with HostileServer(always(3600.0), reads_request=False) as server:
        host = resolve(range(1, 9), int(server.url.rpartition(":")[2])).replace("http:", "https:")
        asked = replace(endpoint, base_url=host, connect_timeout=0.6, read_timeout=0.3)
        began = time.monotonic()

        with pytest.raises(StablyUnreachableError):
            await asyncio.to_thread(asyncio.run, send(GET, asked, once=True))

    assert time.monotonic() - began > 0.5


@pytest.mark.parametrize("shakes_hands", [False, True], ids=["handshake", "answer"])
async def test_tls_within_tls_is_given_up_on(send, endpoint, tls, ca_bundle, shakes_hands):
    """Through an https proxy, a record of the API's that comes byte by byte does not hold a call."""
    with HostileProxy(tls, shakes_hands=shakes_hands) as proxy:
        asked = replace(
            endpoint,
            base_url="https://stably.example",
            proxy=proxy.url,
            verify=ca_bundle,
            connect_timeout=0.5,
            read_timeout=0.3,
        )

        with pytest.raises(StablyUnreachableError):
            await asyncio.wait_for(asyncio.to_thread(asyncio.run, send(GET, asked, once=True)), LONG)

    assert [b"GET /v1/" in request for request in proxy.requests] == [True] * shakes_hands


async def test_asyncios_own_failure_in_tls_within_tls_is_one_of_the_connection(endpoint, monkeypatch):
    """Debian 12's Python 3.11.2 trips over what it has closed; later ones do not."""
    fails = create_autospec(aiohttp.TCPConnector.connect, side_effect=AttributeError("_abort"))
    monkeypatch.setattr(aiohttp.TCPConnector, "connect", fails)
    async with AsyncStablyClient(endpoint) as client:
        with pytest.raises(StablyUnreachableError, match="cannot be reached"):
            await client.send_once(GET)


async def test_asyncios_own_failure_to_end_tls_is_none_of_the_calls(endpoint, tls, ca_bundle, monkeypatch):
    """The same Python trips over a connection that TLS has ended already."""
    aborted = []

    def abort(transport):
        aborted.append(transport)
        transport._ssl_protocol = None  # as it is by then
        raise AttributeError("_abort")

    with HostileServer(answer(PASSED), tls=tls) as server:
        asked = replace(endpoint, base_url=server.url, verify=ca_bundle)
        async with AsyncStablyClient(asked) as client:
            monkeypatch.setattr(asyncio.sslproto._SSLProtocolTransport, "abort", abort)
            assert (await client.send_once(GET)).is_passed

    assert aborted


@pytest.mark.parametrize("by_proxy", [False, True], ids=["direct", "https proxy"])
async def test_session_tickets_without_end_are_given_up_on(
    send, endpoint, tls, ca_bundle, tmp_path, by_proxy
):
    """Records that come fast and hold no data do not hold a call, although TLS itself reads on and on."""
    tls.num_tickets = 0
    tls.keylog_filename = str(tmp_path / "keys")
    with TicketFlood(tls) as server:
        way = {"base_url": "https://stably.example", "proxy": server.url}
        asked = replace(endpoint, verify=ca_bundle, **(way if by_proxy else {"base_url": server.url}))
        asked = replace(asked, connect_timeout=2, read_timeout=0.3)

        with pytest.raises(StablyUnreachableError):
            await asyncio.wait_for(asyncio.to_thread(asyncio.run, send(GET, asked, once=True)), LONG / 2)

    assert server.requests[0].startswith(b"CONNECT" if by_proxy else b"GET /v1/")

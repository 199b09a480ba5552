"""Whether both clients use a proxy, which one, and what it gets to know."""

import asyncio
import base64
from dataclasses import replace
from urllib.parse import quote

import pytest
from requests.utils import select_proxy

from airflow_provider_stably.api import answers, calls
from airflow_provider_stably.api.client import StablyClient, StablySession
from airflow_provider_stably.api.endpoint import Endpoint
from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyHTTPError,
    StablyNotFoundError,
    StablyUnreachableError,
)
from tests.api.hostile import ENDLESS, HostileProxy, HostileServer, always, answer
from tests.constants import KEY, PROJECT


@pytest.mark.parametrize("to_tls", [False, True], ids=["plain", "tunnel"])
async def test_a_start_that_a_proxy_drops_is_sent_once(endpoint, send, tls, ca_bundle, to_tls):
    """The API may have it: so it is ambiguous, through any proxy, as it is without one."""
    with HostileProxy(tls, drops=True) if to_tls else HostileServer(always()) as proxy:
        base_url = f"{'https' if to_tls else 'http'}://stably.example"
        through = replace(endpoint, base_url=base_url, proxy=proxy.url, verify=ca_bundle)
        with pytest.raises(StablyAmbiguousStartError):
            await asyncio.to_thread(asyncio.run, send(calls.start_run(PROJECT), through))

    assert [request[:4] for request in proxy.requests] == [b"POST"]


async def test_a_connect_that_is_dropped_is_not_ambiguous(endpoint, send):
    """A proxy that goes away before the way to the API is open has had no request for it."""
    with HostileServer(always()) as proxy:
        through = replace(endpoint, base_url="https://stably.invalid", proxy=proxy.url)

        with pytest.raises(StablyUnreachableError) as caught:
            await send(calls.start_run(PROJECT), through)

    assert not caught.value.request_sent
    assert {request[:7] for request in proxy.requests} == {b"CONNECT"}


async def test_a_proxy_on_the_way_to_tls_does_not_get_the_key(endpoint, send):
    """It is asked to connect, in clear text, and what it is sent for that is without the key."""
    with HostileServer(answer(b"", status=b"502 Bad Gateway")) as proxy:
        through = replace(endpoint, base_url="https://stably.invalid", proxy=proxy.url)

        with pytest.raises(StablyUnreachableError):
            await send(calls.get_run(PROJECT, "r"), through, once=True)

    assert [request[:7] for request in proxy.requests] == [b"CONNECT"]
    assert KEY.encode() not in proxy.requests[0]


@pytest.mark.parametrize(
    "password", ["hush!hush", "pw1", "p\u00e4\u00df!"], ids=["long", "short", "not ASCII"]
)
async def test_a_proxys_password_is_hidden_where_it_echoes_it(endpoint, send, password):
    """A proxy that is sent the requests themselves, over plain http, may put them into its error page."""

    def echo(request):
        body = f"http://user:{quote(password)} was refused: {password}, ".encode() + request
        return [b"HTTP/1.1 502 Bad\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)]

    with HostileServer(echo) as server:
        proxy = server.url.replace("//", f"//user:{quote(password)}@")
        through = replace(endpoint, base_url="http://stably.invalid", proxy=proxy)

        with pytest.raises(StablyHTTPError) as caught:
            await send(calls.get_run(PROJECT, "r"), through, once=True)

    assert "***" in str(caught.value)
    pairs = [base64.b64encode(f"user:{password}".encode(name)).decode() for name in ("latin-1", "utf-8")]
    for secret in (password, quote(password), *pairs):
        assert secret not in str(caught.value)


def test_the_password_of_a_proxy_that_opens_tls_is_hidden(endpoint):
    """Such a proxy answers in the API's place, and knows its own password from the CONNECT."""
    through = replace(endpoint, base_url="https://stably.invalid", proxy="http://user:hush%21hush@proxy")
    page = answers.Answer(502, {}, b"user hush!hush was refused")

    with pytest.raises(StablyHTTPError) as caught:
        answers.read_answer(calls.get_run(PROJECT, "r"), page, through)

    assert "was refused" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("own", "environment", "no_proxy", "trust_env", "used"),
    [
        pytest.param(False, False, "", True, None, id="none"),
        pytest.param(True, False, "", True, "own", id="own"),
        pytest.param(False, True, "", True, "environment", id="environment"),
        pytest.param(True, True, "", True, "own", id="own before environment"),
        pytest.param(False, True, "", False, None, id="environment not trusted"),
        pytest.param(True, True, "", False, "own", id="own, environment not trusted"),
        pytest.param(False, True, "stably.invalid", True, None, id="no_proxy"),
    ],
)
async def test_the_connections_proxy_beats_the_environments(
    endpoint, send, monkeypatch, own, environment, no_proxy, trust_env, used
):
    """Which way a request takes is the same for both clients."""
    no = answer(b"{}", status=b"404 Not Found")
    with HostileServer(no) as own_proxy, HostileServer(no) as environments_proxy:
        monkeypatch.setenv("no_proxy", no_proxy)
        if environment:
            monkeypatch.setenv("http_proxy", environments_proxy.url)
        proxied = replace(
            endpoint,
            base_url="http://stably.invalid",
            proxy=own_proxy.url if own else None,
            trust_env=trust_env,
        )

        with pytest.raises(StablyNotFoundError if used else StablyUnreachableError):
            await send(calls.get_run(PROJECT, "r"), proxied)

        asked = {"own": own_proxy, "environment": environments_proxy}
        assert [name for name, server in asked.items() if server.requests] == ([used] if used else [])


async def test_a_socks_proxy_is_refused(endpoint, send, monkeypatch):
    """It is told neither its own password nor the key, the error says why, and no start was sent."""
    with HostileServer(always()) as proxy:
        monkeypatch.setenv("all_proxy", proxy.url.replace("http://", "socks5://user:hush@"))
        through = replace(endpoint, base_url="https://stably.invalid")

        with pytest.raises(StablyUnreachableError, match="Only http:// and https:// proxies") as caught:
            await send(calls.start_run(PROJECT), through)

    assert (caught.value.request_sent, proxy.requests) == (False, [])
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:hush@",
        "https://hush@",
        "user:hush@",
        "http://user:hush@:3128",
        "http://user:hush@proxy:99999",
        "http://user:hush#hush@proxy:3128",
        "http://user:hush@[",
        "socks5://user:hush@proxy",
    ],
)
async def test_a_proxy_without_a_valid_host_is_refused(endpoint, send, monkeypatch, proxy):
    """Both clients say so, and so does the session; no error shows its password, no start was sent."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    nowhere = replace(endpoint, base_url="https://stably.invalid")

    with pytest.raises(StablyUnreachableError) as caught:
        await send(calls.start_run(PROJECT), nowhere)
    with StablySession(nowhere) as session, pytest.raises(StablyUnreachableError) as of_session:
        session.get("/v1")

    assert not caught.value.request_sent
    assert "hush" not in f"{caught.value} {of_session.value}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("own", [False, True], ids=["environment's", "own"])
async def test_loopback_is_reached_without_a_proxy(emulator, endpoint, send, monkeypatch, host, own):
    """A proxy would get the key in clear text: plain http is allowed there."""
    with HostileServer(answer(b"{}")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        direct = replace(
            endpoint,
            base_url=endpoint.base_url.replace("127.0.0.1", host),
            proxy=proxy.url if own else None,
        )

        with pytest.raises(StablyNotFoundError):
            await send(calls.get_run(PROJECT, "r"), direct)

        assert (len(emulator.requests()), proxy.requests) == (1, [])


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("", False),
        ("*", True),
        ("10.1.2.3", True),
        ("10.1.2.4", False),
        ("10.0.0.0/8", True),
        ("127.0.0.0/8, 10.0.0.0/8", True),
        ("127.0.0.0/8", False),
        ("10.1.2.3:8080", False),  # ports are compared for names only
        ("[::1]", False),
        ("example.com", False),
    ],
)
def test_no_proxy_is_read_as_requests_reads_it(monkeypatch, no_proxy, direct):
    """NO_PROXY may hold networks."""
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", no_proxy)

    assert (Endpoint("http://10.1.2.3:8080", KEY).effective_proxy() is None) == direct


@pytest.mark.parametrize(
    "no_proxy",
    [
        "::1",
        "[::1]",
        "fd00::1",
        "stably.example",
        ".stably.example",
        "stably.example:8443",
        "le",
        "10.0.0.0/8",
    ],
)
@pytest.mark.parametrize(
    "base_url",
    [
        "http://[fd00::1]:8484",
        "https://api.stably.example",
        "https://stably.example:8443",
        "http://10.1.2.3:8080",
    ],
)
def test_a_session_and_an_endpoint_agree_on_the_proxy(monkeypatch, base_url, no_proxy):
    """The async client gets the proxy that requests would use, for names and IPv6 too."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "proxy.example:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    endpoint = Endpoint(base_url, KEY)

    with StablyClient(endpoint) as client:
        settings = client.session.merge_environment_settings(base_url, {}, None, None, None)

    theirs = select_proxy(base_url, settings["proxies"])
    assert endpoint.effective_proxy() == (theirs and f"http://{theirs}")


def test_proxied_connections_are_kept_and_bounded(endpoint):
    """What bounds an answer does so through a proxy too, at the second request as at the first."""
    with HostileServer(answer(b'{"status": "PASSED"}')) as proxy:
        proxied = replace(endpoint, base_url="http://stably.invalid", proxy=proxy.url, read_timeout=0.2)
        with StablyClient(proxied) as client:
            assert client.send_once(calls.get_run(PROJECT, "r")).is_passed
            proxy.script = ENDLESS["trailers, trickled"]
            with pytest.raises(StablyUnreachableError):
                client.send_once(calls.get_run(PROJECT, "r"))

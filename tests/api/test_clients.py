"""Both clients, over real sockets, held to the same expectations."""

import asyncio
import gzip
import inspect
import json
import math
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from unittest.mock import create_autospec
from urllib.parse import urlsplit

import certifi
import pytest
import requests
import trustme
from requests.utils import select_proxy

from airflow_provider_stably.api import async_client, protocol
from airflow_provider_stably.api.async_client import AsyncStablyClient
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.api.endpoint import Endpoint, trust_only
from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyAuthError,
    StablyError,
    StablyHTTPError,
    StablyNotFoundError,
    StablyResponseError,
    StablyUnreachableError,
)
from airflow_provider_stably.testing import Fault, StablyEmulator
from tests.constants import KEY, PROJECT

DROP = Fault(drop=True)
LATER = Fault(status=503, headers={"Retry-After": "1"})


@pytest.fixture
def endpoint(emulator):
    """The emulator as an endpoint, with a short timeout."""
    return Endpoint(emulator.url, KEY, read_timeout=2, user_agent="test-agent/1")


@pytest.fixture(params=["requests", "aiohttp"])
def send(request, endpoint):
    """Send one call with either client; ``sleeps`` collects what it would have waited."""
    sleeps = []

    def send_sync(call, endpoint, method):
        with StablyClient(endpoint, sleep=sleeps.append) as client:
            return getattr(client, method)(call)

    async def send_async(call, endpoint, method):
        async def sleep(seconds):
            sleeps.append(seconds)

        async with AsyncStablyClient(endpoint, sleep=sleep) as client:
            return await getattr(client, method)(call)

    async def send(call, endpoint=endpoint, *, once=False):
        chosen = send_sync if request.param == "requests" else send_async
        result = chosen(call, endpoint, "send_once" if once else "send")
        return await result if inspect.isawaitable(result) else result

    send.sleeps = sleeps
    return send


@pytest.fixture
def closed_port():
    """A port on which nothing listens; kept bound, so that nobody else starts to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def authority():
    """A certificate authority that nobody trusts by default."""
    return trustme.CA()


@pytest.fixture
def private_emulator(authority):
    """An emulator that speaks TLS, with a certificate of the authority."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with StablyEmulator(api_key=KEY, tls=tls) as emulator:
        yield emulator


async def test_the_three_calls_work(emulator, send):
    """A run is started, read and cancelled."""
    run_id = await send(
        protocol.start_run(PROJECT, playwright_project_name="hangs", env_overrides={"A": "ü"})
    )
    before = await send(protocol.get_run(PROJECT, run_id))
    cancelled = await send(protocol.cancel_run(PROJECT, run_id))
    after = await send(protocol.get_run(PROJECT, run_id))

    assert cancelled == (run_id,)
    assert (before.is_finished, after.status) == (False, "CANCELLED")
    assert emulator.requests("start")[0].json()["envOverrides"] == {"A": "ü"}


async def test_requests_are_authenticated_and_say_who_asks(emulator, send):
    """Every request carries the key as a bearer token, and the User-Agent."""
    with pytest.raises(StablyNotFoundError):
        await send(protocol.get_run(PROJECT, "nope"))

    headers = emulator.requests()[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["user-agent"] == "test-agent/1"


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        pytest.param(protocol.get_run, ("r",), id="get"),
        pytest.param(protocol.cancel_run, ("r",), id="cancel"),
        pytest.param(protocol.start_run, (), id="start"),
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

    run = await send(protocol.get_run(PROJECT, run_id))

    assert run.status in {"QUEUED", "RUNNING"}
    assert len(emulator.requests("get")) == 4
    assert send.sleeps  # not three for each: aiohttp repeats a dropped GET once by itself


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 501])
async def test_a_definite_no_is_not_replayed(emulator, send, status):
    """An answer that repeating cannot change is raised at once."""
    emulator.inject(Fault(status=status), times=math.inf)

    with pytest.raises(StablyHTTPError) as caught:
        await send(protocol.cancel_run(PROJECT, "r"))

    assert caught.value.status == status
    assert len(emulator.requests()) == 1


async def test_replays_are_bounded_in_number(emulator, send):
    """An API that stays down is asked five times, then the last failure is raised."""
    emulator.inject(Fault(status=502), times=math.inf)

    with pytest.raises(StablyHTTPError, match="502"):
        await send(protocol.get_run(PROJECT, "r"))

    assert len(emulator.requests()) == protocol.MAX_ATTEMPTS == 5


async def test_replays_are_bounded_in_time(emulator, send, monkeypatch):
    """A wait that would end after the total time is not begun."""
    monkeypatch.setattr(protocol, "MAX_REPLAY_SECONDS", 50)
    emulator.inject(Fault(status=429, headers={"Retry-After": "60"}), times=math.inf)

    with pytest.raises(StablyHTTPError, match="429"):
        await send(protocol.get_run(PROJECT, "r"))

    assert send.sleeps == []


async def test_the_apis_wish_to_wait_is_honoured(emulator, send):
    """Retry-After decides how long is waited before the next attempt."""
    run_id = emulator.add_run(project_id=PROJECT)
    emulator.inject(Fault(status=429, headers={"Retry-After": "7"}))
    emulator.inject(Fault(status=503, headers={"Retry-After": "9999"}))

    await send(protocol.get_run(PROJECT, run_id))

    assert send.sleeps == [7, 60]


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
        await send(protocol.start_run(PROJECT), replace(endpoint, read_timeout=0.3))

    assert len(emulator.requests("start")) == 1


@pytest.mark.parametrize("fault", [LATER, Fault(status=429)], ids=["503 later", "429"])
async def test_a_start_that_was_turned_away_is_sent_again(emulator, send, fault):
    """A start that provably was not accepted is replayed, and one run comes of it."""
    emulator.inject(fault, times=2)

    run_id = await send(protocol.start_run(PROJECT))

    assert list(emulator.runs) == [run_id]
    assert len(emulator.requests("start")) == 3


async def test_a_start_that_never_left_is_not_ambiguous(endpoint, send, closed_port):
    """A refused connection is tried again and then is an ordinary, retryable error."""
    with pytest.raises(StablyUnreachableError, match="ConnectionRefusedError") as caught:
        await send(protocol.start_run(PROJECT), replace(endpoint, base_url=f"http://127.0.0.1:{closed_port}"))

    assert not caught.value.request_sent
    assert len(send.sleeps) == 4


@pytest.mark.parametrize(
    ("base_url", "environment"),
    [
        pytest.param("https://.stably.invalid", {}, id="empty label"),
        pytest.param(f"https://{'x' * 64}.invalid", {}, id="long label"),
        pytest.param(f"https://{'x' * 64}.invalid", {"https_proxy": "{emulator}"}, id="long label, proxy"),
        pytest.param("https://stably.invalid:99999", {}, id="port"),
        pytest.param("https://stably.invalid", {"all_proxy": "socks5://127.0.0.1:{port}"}, id="SOCKS proxy"),
        pytest.param("https://stably.invalid", {"https_proxy": "ftp://127.0.0.1:{port}"}, id="FTP proxy"),
        pytest.param("https://stably.invalid", {"https_proxy": "http://"}, id="proxy without host"),
        pytest.param("https://stably.invalid", {"https_proxy": "http://p:99999"}, id="proxy's port"),
        pytest.param(
            "https://stably.invalid", {"https_proxy": f"http://é.{'x' * 64}:1"}, id="proxy's long label"
        ),
        pytest.param("https://127.0.0.1:{port}", {"REQUESTS_CA_BUNDLE": "/nonexistent"}, id="CA bundle"),
    ],
)
async def test_a_start_that_is_misconfigured_is_not_ambiguous(
    emulator, endpoint, send, closed_port, monkeypatch, base_url, environment
):
    """Where no connection can be made of what is configured, nothing was sent, and the error knows it."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(port=closed_port, emulator=emulator.url))
    nowhere = replace(endpoint, base_url=base_url.format(port=closed_port))

    with pytest.raises(StablyUnreachableError) as caught:
        await send(protocol.start_run(PROJECT), nowhere)

    assert not caught.value.request_sent


@pytest.mark.parametrize("content", [None, "no certificates"], ids=["absent", "empty"])
async def test_a_ca_bundle_that_cannot_be_used_is_named_before_anything_is_sent(
    send, private_emulator, tmp_path, content
):
    """The error says which bundle is at fault; a start that failed so never left."""
    bundle = tmp_path / "bundle.pem"
    if content:
        bundle.write_text(content)

    with pytest.raises(StablyUnreachableError, match=r"CA bundle .*bundle\.pem.* cannot be used") as caught:
        await send(protocol.start_run(PROJECT), Endpoint(private_emulator.url, KEY, verify=str(bundle)))

    assert (caught.value.request_sent, private_emulator.requests()) == (False, [])


async def test_a_ca_bundle_matters_only_where_there_is_tls(emulator, endpoint, send):
    """A bundle that cannot be used does not keep a plain connection from being made."""
    assert await send(protocol.start_run(PROJECT), replace(endpoint, verify="/nonexistent")) in emulator.runs


@pytest.mark.parametrize("before", [StablyError, KeyboardInterrupt])
async def test_a_failure_is_not_told_as_the_one_that_led_to_the_call(endpoint, send, closed_port, before):
    """Runs are cancelled while another error is being handled."""
    nowhere = replace(endpoint, base_url=f"http://127.0.0.1:{closed_port}")
    try:
        raise before("of the task")
    except before:
        with pytest.raises(StablyUnreachableError) as caught:
            await send(protocol.get_run(PROJECT, "r"), nowhere, once=True)

    assert str(caught.value).endswith(": ConnectionRefusedError")


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "through a proxy that is down"])
async def test_a_host_without_address_is_unreachable(endpoint, send, closed_port, proxied):
    """Neither a name that does not resolve nor a dead proxy leaks the library's error."""
    proxy = f"http://user:pw@127.0.0.1:{closed_port}" if proxied else None
    nowhere = replace(endpoint, base_url="https://stably.invalid", proxy=proxy)

    with pytest.raises(StablyUnreachableError, match=r"stably\.invalid") as caught:
        await send(protocol.get_run(PROJECT, "r"), nowhere, once=True)

    assert not caught.value.request_sent
    assert "pw" not in str(caught.value)


async def test_a_silent_server_is_given_up_on(emulator, endpoint, send):
    """No answer within the timeout is an error that says the request was sent."""
    emulator.inject(Fault(delay=math.inf))

    with pytest.raises(StablyUnreachableError) as caught:
        await send(protocol.get_run(PROJECT, "r"), replace(endpoint, read_timeout=0.2), once=True)

    assert caught.value.request_sent


async def test_a_trickling_body_is_given_up_on(emulator, endpoint, send):
    """A body that comes byte by byte does not outlast the timeout."""
    emulator.inject(Fault(body=b" " * 2000, trickle=True))  # 40 s at the emulator's pace

    with pytest.raises(StablyUnreachableError):
        await send(protocol.get_run(PROJECT, "r"), replace(endpoint, read_timeout=0.2), once=True)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"x" * (protocol.MAX_ANSWER_BYTES + 1), {}, id="plain"),
        pytest.param(
            gzip.compress(b"x" * (4 * protocol.MAX_ANSWER_BYTES)),
            {"Content-Encoding": "gzip"},
            id="gzip bomb",
        ),
    ],
)
async def test_a_huge_body_is_not_read_to_its_end(emulator, send, body, headers):
    """A body beyond the bound is an error, compressed or not."""
    emulator.inject(Fault(body=body, headers=headers))

    with pytest.raises(StablyResponseError, match="longer than"):
        await send(protocol.get_run(PROJECT, "r"))


async def test_a_compressed_answer_is_read(emulator, send):
    """An answer may come compressed."""
    body = gzip.compress(json.dumps({"status": "PASSED"}).encode())
    emulator.inject(Fault(body=body, headers={"Content-Encoding": "gzip"}))

    assert (await send(protocol.get_run(PROJECT, "r"))).is_passed


async def test_a_proxys_web_page_is_an_error_with_its_facts(emulator, send):
    """HTML with status 200 is an error that shows content type and the page's start."""
    emulator.inject(Fault(body="<html>Please log in</html>", headers={"Content-Type": "text/html"}))

    with pytest.raises(StablyResponseError, match="Please log in") as caught:
        await send(protocol.get_run(PROJECT, "r"))

    assert caught.value.content_type == "text/html"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_refused(emulator, send, status):
    """The key is not carried along a redirect, whatever its kind."""
    with StablyEmulator(api_key=KEY) as other:
        emulator.inject(Fault(status=status, headers={"Location": f"{other.url}/v1/projects/p/runs/r"}))

        with pytest.raises(StablyHTTPError, match="redirect"):
            await send(protocol.get_run(PROJECT, "r"))

        assert other.requests() == []


async def test_netrc_does_not_replace_the_key(emulator, send, tmp_path, monkeypatch):
    """An entry for the host in ~/.netrc changes nothing."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    run_id = emulator.add_run(project_id=PROJECT)

    await send(protocol.get_run(PROJECT, run_id))

    assert emulator.requests()[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_server_that_echoes_the_key_does_not_get_it_shown(emulator, send):
    """The key is taken out of what an error shows of an answer."""
    emulator.inject(Fault(status=400, body={"error": f"bad header: Bearer {KEY}"}))

    with pytest.raises(StablyHTTPError, match=r"bad header: Bearer \*\*\*") as caught:
        await send(protocol.get_run(PROJECT, "r"))

    assert KEY not in str(caught.value) + caught.value.detail


@pytest.mark.parametrize(
    ("own", "environment", "no_proxy", "trust_env", "used"),
    [
        pytest.param(False, False, "", True, None, id="none"),
        pytest.param(True, False, "", True, "own", id="own"),
        pytest.param(False, True, "", True, "environment", id="environment"),
        pytest.param(True, True, "", True, "own", id="own before environment"),
        pytest.param(False, True, "", False, None, id="environment not trusted"),
        pytest.param(True, True, "", False, "own", id="own, environment not trusted"),
        pytest.param(False, True, "127.0.0.1", True, None, id="no_proxy"),
    ],
)
async def test_the_connections_proxy_comes_before_the_environments(
    emulator, endpoint, send, monkeypatch, own, environment, no_proxy, trust_env, used
):
    """Which way a request takes is the same for both clients."""
    with StablyEmulator(api_key=KEY) as own_proxy, StablyEmulator(api_key=KEY) as environments_proxy:
        monkeypatch.setenv("no_proxy", no_proxy)
        if environment:
            monkeypatch.setenv("http_proxy", environments_proxy.url)
        proxied = replace(endpoint, proxy=own_proxy.url if own else None, trust_env=trust_env)

        with pytest.raises(StablyNotFoundError):
            await send(protocol.get_run(PROJECT, "r"), proxied)

        asked = {None: emulator, "own": own_proxy, "environment": environments_proxy}
        assert [name for name, server in asked.items() if server.requests()] == [used]


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("", False),
        ("*", True),
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("127.0.0.0/8", True),
        ("10.0.0.0/8, 127.0.0.0/8", True),
        ("10.0.0.0/8", False),
        ("127.0.0.1:{port}", False),  # ports are looked at for names only
        ("[::1]", False),
        ("example.com", False),
    ],
)
async def test_both_clients_read_no_proxy_alike(emulator, endpoint, send, monkeypatch, no_proxy, direct):
    """NO_PROXY has one meaning, that of requests, whichever library asks."""
    with StablyEmulator(api_key=KEY) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", no_proxy.format(port=urlsplit(emulator.url).port))

        with pytest.raises(StablyNotFoundError):
            await send(protocol.get_run(PROJECT, "r"), endpoint)

        assert (len(emulator.requests()), len(proxy.requests())) == ((1, 0) if direct else (0, 1))


@pytest.mark.parametrize(
    "no_proxy",
    ["::1", "[::1]", "localhost", "stably.example", ".stably.example", "stably.example:8443", "le"],
)
@pytest.mark.parametrize(
    "base_url", ["http://[::1]:8484", "https://api.stably.example", "https://stably.example:8443"]
)
def test_a_session_and_an_endpoint_agree_about_the_proxy(monkeypatch, base_url, no_proxy):
    """What the async client is told is what requests would do, for names and IPv6 too."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "proxy.example:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    endpoint = Endpoint(base_url, KEY)

    with StablyClient(endpoint) as client:
        settings = client.session.merge_environment_settings(base_url, {}, None, None, None)

    theirs = select_proxy(base_url, settings["proxies"])
    assert endpoint.effective_proxy() == (theirs and f"http://{theirs}")


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
async def test_whatever_the_answer_no_library_error_and_no_key_come_out(emulator, send, fault):
    """The error is one of ours, and nothing that hangs on it shows the key."""
    emulator.inject(fault, times=math.inf)

    with pytest.raises(StablyError) as caught:
        await send(protocol.get_run(PROJECT, "r"), once=True)

    error = caught.value
    shown = [repr(error), str(vars(error)), *_hanging_on(error)]
    assert not any(KEY in text for text in shown)


def _hanging_on(error):
    """What a reporter that prints local variables shows of other errors that hang on ours."""
    while (error := error.__cause__ or error.__context__) is not None:
        yield repr(error) + repr(vars(error))


@pytest.mark.parametrize("status", [302, 307])
async def test_the_body_of_a_redirect_is_not_waited_for(emulator, endpoint, send, status):
    """A redirect is refused within the timeout, however slowly its body comes."""
    emulator.inject(Fault(status=status, headers={"Location": "/x"}, body=b" " * 2000, trickle=True))

    with pytest.raises(StablyError):
        await asyncio.wait_for(
            send(protocol.get_run(PROJECT, "r"), replace(endpoint, read_timeout=0.2), once=True), 5
        )


@pytest.mark.parametrize(
    ("verify", "trusted"),
    [("authority", True), (True, False), (False, True)],
    ids=["its CA", "others", "none"],
)
async def test_a_certificate_is_verified_as_the_connection_says(
    send, authority, private_emulator, tmp_path, verify, trusted
):
    """A CA bundle, or no verification, lets a private server in; a start that failed so never left."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    endpoint = Endpoint(private_emulator.url, KEY, verify=str(bundle) if verify == "authority" else verify)

    if trusted:
        assert await send(protocol.start_run(PROJECT), endpoint) in private_emulator.runs
    else:
        with pytest.raises(StablyUnreachableError) as caught:
            await send(protocol.start_run(PROJECT), endpoint)
        assert (caught.value.request_sent, private_emulator.requests()) == (False, [])


def test_a_ca_folder_is_a_ca_bundle_too(tmp_path):
    """What requests takes as a path, aiohttp gets as well."""
    context = trust_only(str(tmp_path))

    assert context.verify_mode is ssl.CERT_REQUIRED


def test_arguments_of_a_call_by_hand_come_first(emulator, endpoint):
    """A timeout or a CA bundle given to a request of the session wins over the connection's."""
    emulator.inject(Fault(delay=math.inf))

    with StablyClient(replace(endpoint, read_timeout=60)) as client, pytest.raises(requests.Timeout):
        client.session.get(f"{emulator.url}/v1/projects", timeout=0.1, verify=False)


def test_a_session_used_by_hand_is_safe(emulator, endpoint):
    """The session gives the key to its own host only, follows no redirect and never waits for ever."""
    run_id = emulator.add_run(project_id=PROJECT)
    with StablyEmulator(api_key=KEY) as other, StablyClient(replace(endpoint, read_timeout=0.2)) as client:
        url = f"{emulator.url}/v1/projects/{PROJECT}/runs/{run_id}"

        own = client.session.get(url)
        foreign = client.session.get(f"{other.url}/v1/projects/p/runs/r")
        emulator.inject(Fault(status=302, headers={"Location": other.url}))
        redirected = client.session.get(url, allow_redirects=True)
        emulator.inject(Fault(delay=math.inf))
        with pytest.raises(requests.Timeout):
            client.session.get(url)

        assert own.json()["status"] in {"QUEUED", "RUNNING"}
        assert "authorization" not in other.requests()[0].headers
        assert (foreign.status_code, redirected.status_code, len(other.requests())) == (401, 302, 1)


def test_threads_share_a_client(emulator, endpoint):
    """Many threads at once each get their own answer."""
    run_ids = [emulator.add_run(project_id=PROJECT) for _ in range(40)]

    with StablyClient(endpoint) as client, ThreadPoolExecutor(8) as pool:
        cancelled = list(pool.map(lambda run_id: client.send(protocol.cancel_run(PROJECT, run_id)), run_ids))

    assert cancelled == [(run_id,) for run_id in run_ids]


def test_cookies_are_not_kept(emulator, endpoint):
    """A cookie that the server sets is not sent back: sessions are shared between threads."""
    emulator.inject(Fault(headers={"Set-Cookie": "a=b; Path=/"}), times=math.inf)
    with StablyClient(endpoint) as client:
        for _ in range(2):
            with pytest.raises(StablyNotFoundError):
                client.send(protocol.get_run(PROJECT, "r"))

    assert all("cookie" not in request.headers for request in emulator.requests())


async def test_cookies_are_not_kept_by_sessions_of_a_loop(emulator, endpoint):
    """A cookie that the server sets is not sent back: sessions are shared between triggers."""
    emulator.inject(Fault(headers={"Set-Cookie": "a=b; Path=/"}), times=math.inf)
    # By its name: aiohttp's own jar would keep no cookie of an IP address.
    named = replace(endpoint, base_url=endpoint.base_url.replace("127.0.0.1", "localhost"))
    async with AsyncStablyClient(named) as client:
        for _ in range(2):
            with pytest.raises(StablyNotFoundError):
                await client.send(protocol.get_run(PROJECT, "r"))

    assert len(emulator.requests()) == 2
    assert all("cookie" not in request.headers for request in emulator.requests())


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
                await asyncio.wait_for(client.send_once(protocol.get_run(PROJECT, "r")), 5)

    assert caught.value.request_sent


async def test_an_idle_connection_is_kept_longer_than_triggers_pause(emulator, endpoint, monkeypatch):
    """A connection that was idle for four minutes is used again."""
    call = protocol.get_run(PROJECT, emulator.add_run(project_id=PROJECT))
    async with AsyncStablyClient(endpoint) as client:
        await client.send(call)

        monkeypatch.setattr("aiohttp.connector.monotonic", lambda: time.monotonic() + 240)
        monkeypatch.setattr(
            asyncio.get_running_loop(), "time", lambda: time.monotonic() + 240
        )  # aiohttp 3.10
        await client.send(call)

    assert emulator.connections == 1


async def test_clients_on_one_loop_share_connections(emulator, endpoint):
    """Clients that overlap on a loop use one session; the last to leave closes it."""
    run_id = emulator.add_run(project_id=PROJECT)
    call = protocol.get_run(PROJECT, run_id)

    async with AsyncStablyClient(endpoint) as first:
        async with AsyncStablyClient(replace(endpoint)) as second:
            await first.send(call)
            await second.send(call)
        await first.send(call)
        async with AsyncStablyClient(replace(endpoint, api_key="other")) as stranger:
            with pytest.raises(StablyAuthError):
                await stranger.send(call)
        session = first._session

    assert (second._session, session.closed) == (session, True)
    assert stranger._session is not session
    assert emulator.connections == 2


async def test_clients_that_enter_at_once_share_too(emulator, endpoint, monkeypatch):
    """A CA bundle that takes time to read is read once, and makes one session."""
    made, new_session = [], async_client._new_session
    monkeypatch.setattr(
        async_client, "_new_session", lambda *given: made.append(new_session(*given)) or made[-1]
    )
    reads = create_autospec(trust_only, side_effect=trust_only)
    monkeypatch.setattr(async_client, "trust_only", reads)
    bundled = replace(endpoint, base_url="https://stably.invalid", verify=certifi.where())
    all_inside = asyncio.Barrier(5)

    async def enter():
        async with AsyncStablyClient(bundled) as client:
            await all_inside.wait()
            return client._session

    sessions = await asyncio.gather(*[enter() for _ in range(5)])

    assert len(set(map(id, sessions))) == 1
    assert sessions[0].closed
    assert made == sessions[:1]
    assert reads.call_count == 1


async def test_a_ca_bundle_that_cannot_be_read_leaves_nothing_behind(endpoint, tmp_path):
    """After one could not enter, the next tries anew."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("no certificates")
    bundled = replace(endpoint, base_url="https://stably.invalid", verify=str(bundle))

    with pytest.raises(StablyUnreachableError, match=r"bundle\.pem.*SSLError"):
        await AsyncStablyClient(bundled).__aenter__()
    bundle.write_text(certifi.contents())

    async with AsyncStablyClient(bundled) as client:
        assert not client._session.closed


def test_a_new_loop_gets_a_new_session(endpoint):
    """Sessions do not outlive their loop: dag.test() makes a new one for each trigger."""

    async def session():
        async with AsyncStablyClient(endpoint) as client:
            return client._session

    assert asyncio.run(session()) is not asyncio.run(session())

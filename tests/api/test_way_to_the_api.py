"""How both clients get to the API, and to no other: proxies, TLS, redirects, ``~/.netrc``."""

import asyncio
import base64
import socket
import ssl
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import quote, urlsplit

import pytest
import requests
import urllib3
from requests.utils import select_proxy

from airflow_provider_stably.api import answers, async_client, calls, transport
from airflow_provider_stably.api.client import StablyClient, StablySession
from airflow_provider_stably.api.endpoint import Endpoint, tls_context_for
from airflow_provider_stably.api.exchange import note_sending, noting_what_is_sent
from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyError,
    StablyHTTPError,
    StablyNotFoundError,
    StablyUnreachableError,
)
from airflow_provider_stably.testing import Fault, StablyEmulator
from tests.api.hostile import ENDLESS, HostileProxy, HostileServer, always, answer
from tests.constants import KEY, PROJECT


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
async def test_a_misconfigured_start_is_not_ambiguous(
    emulator, endpoint, send, closed_port, monkeypatch, base_url, environment
):
    """Where no connection can be made of what is configured, nothing was sent, and the error knows it."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(port=closed_port, emulator=emulator.url))
    nowhere = replace(endpoint, base_url=base_url.format(port=closed_port))

    with pytest.raises(StablyUnreachableError) as caught:
        await send(calls.start_run(PROJECT), nowhere)

    assert not caught.value.request_sent


@pytest.mark.parametrize("content", [None, "no certificates"], ids=["absent", "empty"])
async def test_an_unusable_ca_bundle_is_named_before_sending(send, private_emulator, tmp_path, content):
    """The error says which bundle is at fault; a start that failed so never left."""
    bundle = tmp_path / "bundle.pem"
    if content:
        bundle.write_text(content)

    with pytest.raises(StablyUnreachableError, match=r"CA bundle .*bundle\.pem.* cannot be used") as caught:
        await send(calls.start_run(PROJECT), Endpoint(private_emulator.url, KEY, verify=str(bundle)))

    assert (caught.value.request_sent, private_emulator.requests()) == (False, [])


async def test_a_ca_bundle_matters_only_where_there_is_tls(emulator, endpoint, send):
    """A bundle that cannot be used does not keep a plain connection from being made."""
    assert await send(calls.start_run(PROJECT), replace(endpoint, verify="/nonexistent")) in emulator.runs


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "through a proxy that is down"])
async def test_a_host_without_address_is_unreachable(endpoint, send, closed_port, proxied):
    """Neither a name that does not resolve nor a dead proxy leaks the library's error."""
    proxy = f"http://user:pw@127.0.0.1:{closed_port}" if proxied else None
    nowhere = replace(endpoint, base_url="https://stably.invalid", proxy=proxy)

    with pytest.raises(StablyUnreachableError, match=r"stably\.invalid") as caught:
        await send(calls.get_run(PROJECT, "r"), nowhere, once=True)

    assert not caught.value.request_sent
    assert "pw" not in str(caught.value)


def test_an_address_that_is_no_longer_the_apis_is_left(emulator, endpoint, monkeypatch):
    """A client that goes by address tries it once: a server taken out of service may listen there."""
    run_id, port = emulator.add_run(project_id=PROJECT), urlsplit(emulator.url).port
    monkeypatch.setitem(transport._reached_at, "localhost", "127.0.0.2")
    asked = replace(endpoint, base_url=f"http://localhost:{port}", api_key=KEY, read_timeout=0.3)
    call = calls.get_run(PROJECT, run_id)
    with socket.create_server(("127.0.0.2", port)), StablyClient(asked, by_address=True) as client:
        with pytest.raises(StablyUnreachableError):
            client.send_once(call)

        assert not client.send_once(call).is_finished


@pytest.mark.parametrize("to_tls", [False, True], ids=["plain", "tunnel"])
async def test_a_start_that_a_proxy_drops_is_sent_once(endpoint, send, authority, tmp_path, to_tls):
    """The API may have it: so it is ambiguous, through any proxy, as it is without one."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "stably.example").configure_cert(tls)

    with HostileProxy(tls, drops=True) if to_tls else HostileServer(always()) as proxy:
        base_url = f"{'https' if to_tls else 'http'}://stably.example"
        through = replace(endpoint, base_url=base_url, proxy=proxy.url, verify=str(bundle))
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


def test_a_call_within_a_call_notes_its_own_request():
    """A signal handler that sends in the middle of a start does not decide whether that was sent."""
    with noting_what_is_sent() as start:
        with noting_what_is_sent() as cancel:
            note_sending()
        assert (start, cancel) == ([], [True])
        note_sending()

    assert start == [True]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_refused(emulator, send, status):
    """The key is not carried along a redirect, whatever its kind."""
    with StablyEmulator(api_key=KEY) as other:
        emulator.inject(Fault(status=status, headers={"Location": f"{other.url}/v1/projects/p/runs/r"}))

        with pytest.raises(StablyHTTPError, match="redirect"):
            await send(calls.get_run(PROJECT, "r"))

        assert other.requests() == []


async def test_netrc_does_not_replace_the_key(emulator, send, tmp_path, monkeypatch):
    """An entry for the host in ~/.netrc changes nothing."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    run_id = emulator.add_run(project_id=PROJECT)

    await send(calls.get_run(PROJECT, run_id))

    assert emulator.requests()[0].headers["authorization"] == f"Bearer {KEY}"


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

    assert "was refused" in str(caught.value)
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


@pytest.mark.parametrize("status", [302, 307])
async def test_the_body_of_a_redirect_is_not_waited_for(emulator, endpoint, send, status):
    """A redirect is refused within the timeout, however slowly its body comes."""
    emulator.inject(Fault(status=status, headers={"Location": "/x"}, body=b" " * 2000, trickle=True))

    with pytest.raises(StablyError):
        await asyncio.wait_for(
            send(calls.get_run(PROJECT, "r"), replace(endpoint, read_timeout=0.2), once=True), 5
        )


@pytest.mark.parametrize(
    ("verify", "trusted"),
    [("authority", True), (True, False), (False, True)],
    ids=["its CA", "others", "none"],
)
async def test_certificates_are_verified_as_configured(
    send, authority, private_emulator, tmp_path, verify, trusted
):
    """A CA bundle, or no verification, lets a private server in; a start that failed so never left."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    endpoint = Endpoint(private_emulator.url, KEY, verify=str(bundle) if verify == "authority" else verify)

    if trusted:
        assert await send(calls.start_run(PROJECT), endpoint) in private_emulator.runs
    else:
        with pytest.raises(StablyUnreachableError) as caught:
            await send(calls.start_run(PROJECT), endpoint)
        assert (caught.value.request_sent, private_emulator.requests()) == (False, [])


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("trust_env", [True, False], ids=["trusted", "not trusted"])
async def test_the_environments_ca_bundle_is_used_by_both(
    send, authority, private_emulator, tmp_path, monkeypatch, variable, trust_env
):
    """What lets the worker in lets the triggerer in, too."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv(variable, str(bundle))
    asked = send(calls.start_run(PROJECT), Endpoint(private_emulator.url, KEY, trust_env=trust_env))

    if trust_env:
        assert await asked in private_emulator.runs
    else:
        with pytest.raises(StablyUnreachableError):
            await asked


async def test_verify_true_comes_before_the_environments_bundle(
    send, authority, private_emulator, tmp_path, monkeypatch
):
    """A connection that says true trusts certifi's certificates, whatever the environment names."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))

    with pytest.raises(StablyUnreachableError):
        await send(calls.start_run(PROJECT), Endpoint(private_emulator.url, KEY, verify=True))

    assert private_emulator.requests() == []


async def test_what_is_trusted_by_default_is_the_same(monkeypatch, endpoint):
    """Without a bundle both clients trust certifi's and not, as aiohttp by itself would, the system's."""
    made = []
    monkeypatch.setattr(
        async_client, "tls_context_for", lambda bundle: made.append(bundle) or tls_context_for(bundle)
    )

    async with async_client.AsyncStablyClient(replace(endpoint, base_url="https://stably.invalid")):
        pass

    assert made == [requests.certs.where()]


def test_a_ca_folder_is_a_ca_bundle_too(tmp_path):
    """What requests takes as a path, aiohttp gets as well."""
    context = tls_context_for(str(tmp_path))

    assert context.verify_mode is ssl.CERT_REQUIRED


def test_proxied_connections_are_kept_and_bounded(endpoint):
    """What bounds an answer does so through a proxy too, at the second request as at the first."""
    with HostileServer(answer(b'{"status": "PASSED"}')) as proxy:
        proxied = replace(endpoint, base_url="http://stably.invalid", proxy=proxy.url, read_timeout=0.2)
        with StablyClient(proxied) as client:
            assert client.send_once(calls.get_run(PROJECT, "r")).is_passed
            proxy.script = ENDLESS["trailers, trickled"]
            with pytest.raises(StablyUnreachableError):
                client.send_once(calls.get_run(PROJECT, "r"))


def test_a_caller_may_ask_for_no_timeout_over_tls(private_emulator):
    """By hand, each of the session's bounds can be lifted, within TLS, too."""
    with StablyClient(Endpoint(private_emulator.url, KEY, verify=False)) as client:
        response = client.session.get("/v1/x", timeout=urllib3.Timeout(None, None))

    assert response.status_code == 404


def test_another_librarys_tls_is_left_as_it_is(monkeypatch):
    """Some packages put pyOpenSSL's contexts into urllib3, which cannot be read piece by piece."""
    theirs = SimpleNamespace(wrap_socket="theirs")
    monkeypatch.setattr(transport, "create_urllib3_context", lambda **_: theirs)

    assert transport._tls_context(SimpleNamespace(cert_reqs=None)).wrap_socket == "theirs"

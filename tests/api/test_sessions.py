"""What the sessions of both clients keep and share: connections, cookies, the key."""

import asyncio
import copy
import math
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import create_autospec

import certifi
import pytest
import requests
import trustme

from airflow_provider_stably.api import async_client, calls
from airflow_provider_stably.api.async_client import AsyncStablyClient
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.api.endpoint import Endpoint, tls_context_for
from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyHTTPError,
    StablyNotFoundError,
    StablyUnreachableError,
)
from airflow_provider_stably.testing import Fault, StablyEmulator
from tests.api.hostile import HostileServer, answer
from tests.constants import KEY, PROJECT


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


def test_no_request_that_a_caller_sees_has_the_key(emulator, endpoint, closed_port):
    """Neither a prepared request, nor that of an answer or an error: a reporter would print its headers."""
    with StablyClient(endpoint) as client:
        prepared = client.session.prepare_request(requests.Request("GET", f"{emulator.url}/v1/x"))
        answered = client.session.send(prepared)
        emulator.inject(Fault(drop=True))
        with pytest.raises(requests.ConnectionError) as dropped:
            client.session.get(f"{emulator.url}/v1/x")

    assert [request.headers["authorization"] for request in emulator.requests()] == [f"Bearer {KEY}"] * 2
    for request in (prepared, answered.request, dropped.value.request):
        assert "Authorization" not in request.headers


def test_a_content_type_is_given_whole(endpoint):
    """A page that is read by hand is decoded by its charset."""
    page = answer("Prüfung".encode(), b"content-type:  text/html; charset=utf-8 ")
    with HostileServer(page) as server, StablyClient(replace(endpoint, base_url=server.url)) as client:
        read = client.session.get(server.url)

    assert (read.headers["Content-Type"], read.text) == ("text/html; charset=utf-8", "Prüfung")


def test_no_request_has_a_password_out_of_netrc(emulator, endpoint, tmp_path, monkeypatch):
    """Nothing of that file is in a request that a caller, an answer or an error holds."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with StablyClient(endpoint) as client:
        prepared = client.session.prepare_request(requests.Request("GET", f"{emulator.url}/v1/x"))

    assert "Authorization" not in prepared.headers


def test_a_request_to_another_host_carries_no_key(emulator, endpoint):
    """Nor does it if the caller put the header in by hand."""
    with StablyEmulator(api_key=KEY) as other, StablyClient(endpoint) as client:
        prepared = client.session.prepare_request(
            requests.Request("GET", f"{emulator.url}/v1/x", headers={"Authorization": f"Bearer {KEY}"})
        )
        prepared.url = f"{other.url}/v1/x"

        assert client.session.send(prepared).status_code == 401
        assert "authorization" not in other.requests()[0].headers


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_what_holds_the_key_is_not_pickled(endpoint, copied):
    """A session or a client in an XCom, or in a task's arguments, is refused."""
    with StablyClient(endpoint) as client:
        for holder in (endpoint, client.session, client, AsyncStablyClient(endpoint)):
            with pytest.raises(TypeError, match="API key"):
                copied(holder)


def test_a_start_goes_over_a_connection_of_its_own(emulator, endpoint):
    """A pooled one may have been dropped silently, and the start's answer would count as lost."""
    run_id = emulator.add_run(project_id=PROJECT)
    with StablyClient(endpoint) as client:
        for call in (calls.get_run, calls.cancel_run, calls.get_run):
            client.send(call(PROJECT, run_id))
        assert emulator.connections == 1
        client.send(calls.start_run(PROJECT))
        assert emulator.connections == 2


async def test_an_async_start_uses_its_own_connection(emulator, endpoint):
    """The same for the client of triggers."""
    run_id = emulator.add_run(project_id=PROJECT)
    async with AsyncStablyClient(endpoint) as client:
        for call in (calls.get_run, calls.cancel_run, calls.get_run):
            await client.send(call(PROJECT, run_id))
        assert emulator.connections == 1
        await client.send(calls.start_run(PROJECT))
        assert emulator.connections == 2


@pytest.mark.parametrize("status", [301, 403, 404, 429, 503])
def test_a_connection_that_gave_an_error_is_left(emulator, endpoint, status):
    """Behind a balancer it leads to one server, and another one may be well."""
    call = calls.get_run(PROJECT, emulator.add_run(project_id=PROJECT))
    emulator.inject(Fault(status=status), times=2)
    with StablyClient(endpoint) as client:
        for _ in range(2):
            with pytest.raises(StablyHTTPError):
                client.send_once(call)
        client.send_once(call)
        client.send_once(call)

    assert emulator.connections == 3


@pytest.mark.parametrize("status", [301, 403, 404, 429, 503])
async def test_an_async_connection_that_gave_an_error_is_left(emulator, endpoint, status):
    """The same for the client of triggers."""
    call = calls.get_run(PROJECT, emulator.add_run(project_id=PROJECT))
    emulator.inject(Fault(status=status), times=2)
    async with AsyncStablyClient(endpoint) as client:
        for _ in range(2):
            with pytest.raises(StablyHTTPError):
                await client.send_once(call)
        await client.send_once(call)
        await client.send_once(call)

    assert emulator.connections == 3


def test_threads_share_a_client(emulator, endpoint):
    """Many threads at once each get their own answer."""
    run_ids = [emulator.add_run(project_id=PROJECT) for _ in range(40)]

    with StablyClient(endpoint) as client, ThreadPoolExecutor(8) as pool:
        cancelled = list(pool.map(lambda run_id: client.send(calls.cancel_run(PROJECT, run_id)), run_ids))

    assert cancelled == [(run_id,) for run_id in run_ids]


def test_cookies_are_not_kept(emulator, endpoint):
    """A cookie that the server sets is not sent back: sessions are shared between threads."""
    emulator.inject(Fault(headers={"Set-Cookie": "a=b; Path=/"}), times=math.inf)
    with StablyClient(endpoint) as client:
        for _ in range(2):
            with pytest.raises(StablyNotFoundError):
                client.send(calls.get_run(PROJECT, "r"))

    assert all("cookie" not in request.headers for request in emulator.requests())


def test_long_cookies_cost_no_time(endpoint):
    """They are not even parsed: 0.02 s was measured, and 0.4 s before."""
    cookies = [b"Set-Cookie: " + b"a=b;" * 15_000] * 8
    with (
        HostileServer(answer(b"{}", *cookies)) as server,
        StablyClient(replace(endpoint, base_url=server.url)) as client,
    ):
        began = time.process_time()
        response = client.session.get("/v1/x")

    assert time.process_time() - began < 1.5
    assert not response.cookies


@pytest.mark.parametrize("by", ["session", "adapter"])
def test_no_prepared_request_goes_to_loopback_by_proxy(emulator, endpoint, by):
    """Nor does one for which the caller names a proxy: that would get the key in clear text."""
    with HostileServer(answer(b"{}")) as proxy, StablyClient(endpoint) as client:
        prepared = client.session.prepare_request(requests.Request("GET", f"{emulator.url}/v1/x"))
        sender = client.session if by == "session" else client.session.get_adapter(emulator.url)

        sender.send(prepared, proxies={"http": proxy.url}, verify=True)

        assert (len(emulator.requests()), proxy.requests) == (1, [])


@pytest.mark.parametrize("given", [{}, {"verify": True}, {"stream": True}], ids=str)
def test_a_prepared_request_goes_the_sessions_way(emulator, endpoint, monkeypatch, given):
    """Without a proxy to loopback, through the connection's to the API, with the connection's CA bundle."""
    with (
        HostileServer(answer(b"{}")) as proxy,
        HostileServer(answer(b"{}")) as environments,
        StablyClient(replace(endpoint, proxy=proxy.url)) as local,
        StablyClient(replace(endpoint, base_url="http://stably.example", proxy=proxy.url)) as proxied,
    ):
        monkeypatch.setenv("http_proxy", environments.url)
        for client in (local, proxied):
            url = f"{client.session.endpoint.base_url}/v1/x"
            prepared = client.session.prepare_request(requests.Request("GET", url))
            client.session.send(prepared, **given)

        assert (len(emulator.requests()), len(proxy.requests)) == (1, 1)
        assert environments.requests == []


def test_a_prepared_request_trusts_what_the_session_does(ca_bundle, private_emulator):
    """Its answer comes from a server that only the connection's CA bundle lets in."""
    with StablyClient(Endpoint(private_emulator.url, KEY, verify=ca_bundle)) as client:
        prepared = client.session.prepare_request(requests.Request("GET", f"{private_emulator.url}/v1/x"))

        assert client.session.send(prepared).status_code == 404


def test_a_prepared_request_without_verify_is_verified(private_emulator):
    """``verify=None`` means the connection's way, and not any certificate, as it does to requests."""
    with StablyClient(Endpoint(private_emulator.url, KEY)) as client:
        prepared = client.session.prepare_request(requests.Request("GET", f"{private_emulator.url}/v1/x"))

        with pytest.raises(requests.exceptions.SSLError):
            client.session.send(prepared, proxies={}, verify=None)

    assert private_emulator.requests() == []


async def test_cookies_are_not_kept_by_sessions_of_a_loop(emulator, endpoint):
    """A cookie that the server sets is not sent back: sessions are shared between triggers."""
    emulator.inject(Fault(headers={"Set-Cookie": "a=b; Path=/"}), times=math.inf)
    # By its name: aiohttp's own jar would keep no cookie of an IP address.
    named = replace(endpoint, base_url=endpoint.base_url.replace("127.0.0.1", "localhost"))
    async with AsyncStablyClient(named) as client:
        for _ in range(2):
            with pytest.raises(StablyNotFoundError):
                await client.send(calls.get_run(PROJECT, "r"))

    assert len(emulator.requests()) == 2
    assert all("cookie" not in request.headers for request in emulator.requests())


async def test_an_idle_connection_outlasts_a_triggers_pause(emulator, endpoint, monkeypatch):
    """A connection that was idle for four minutes is used again."""
    call = calls.get_run(PROJECT, emulator.add_run(project_id=PROJECT))
    async with AsyncStablyClient(endpoint) as client:
        await client.send(call)

        monkeypatch.setattr("aiohttp.connector.monotonic", lambda: time.monotonic() + 240)
        await client.send(call)

    assert emulator.connections == 1


async def test_clients_on_one_loop_share_connections(emulator, endpoint):
    """Clients that overlap on a loop use one session; the last to leave closes it."""
    run_id = emulator.add_run(project_id=PROJECT)
    call = calls.get_run(PROJECT, run_id)

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
    reads = create_autospec(tls_context_for, side_effect=tls_context_for)
    monkeypatch.setattr(async_client, "tls_context_for", reads)
    bundled = replace(endpoint, base_url="https://stably.invalid", verify=certifi.where())
    all_inside = asyncio.Barrier(5)

    async def enter():
        async with AsyncStablyClient(bundled) as client:
            await all_inside.wait()
            return client._session

    sessions = await asyncio.gather(*[enter() for _ in range(5)])

    assert len(set(map(id, sessions))) == 1
    assert sessions[0].closed
    assert reads.call_count == 1


async def test_an_unreadable_ca_bundle_leaves_nothing_behind(endpoint, tmp_path):
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


def test_a_caller_may_ask_for_no_timeout(emulator, endpoint):
    """By hand, each of the session's bounds can be lifted."""
    import urllib3

    with StablyClient(endpoint) as client:
        response = client.session.get(f"{emulator.url}/v1/x", timeout=urllib3.Timeout(None, None))

    assert response.status_code == 404


async def test_a_renewed_ca_bundle_is_read_while_others_use_the_old_one(
    endpoint, authority, private_emulator, tmp_path
):
    """A triggerer that always has some trigger would never trust the renewed certificate."""
    bundle = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(bundle)
    asked = replace(endpoint, base_url=private_emulator.url, verify=str(bundle))
    call = calls.get_run(PROJECT, private_emulator.add_run(project_id=PROJECT))
    async with AsyncStablyClient(asked) as early:
        with pytest.raises(StablyUnreachableError, match="SSLCertVerificationError"):
            await early.send_once(call)
        authority.cert_pem.write_to_path(bundle)
        os.utime(bundle, ns=(0, 0))  # the clock of some file systems is slow

        async with AsyncStablyClient(asked) as late:
            assert not (await late.send_once(call)).is_finished


async def test_a_client_is_entered_many_times_beside_a_renewed_ca_bundle(
    endpoint, private_emulator, ca_bundle
):
    """A callback enters one for each of its runs; each leaves the session that it has."""
    asked = replace(endpoint, base_url=private_emulator.url, verify=ca_bundle)
    call = calls.get_run(PROJECT, private_emulator.add_run(project_id=PROJECT))
    client = AsyncStablyClient(asked)
    async with client:
        os.utime(ca_bundle, ns=(0, 0))
        async with client:
            pass

        assert not (await client.send_once(call)).is_finished

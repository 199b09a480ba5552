"""How both clients get to the API, and to no other: proxies, TLS, redirects, ``~/.netrc``."""

import _thread
import asyncio
import socket
import ssl
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import create_autospec
from urllib.parse import urlsplit

import pytest
import requests
import urllib3

from airflow_provider_stably.api import async_client, calls, names, transport
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.api.endpoint import Endpoint, tls_context_for
from airflow_provider_stably.api.exchange import note_sending, noting_what_is_sent
from airflow_provider_stably.exceptions import (
    StablyError,
    StablyHTTPError,
    StablyUnreachableError,
)
from airflow_provider_stably.testing import Fault, StablyEmulator
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
    monkeypatch.setitem(names.reached_at, "localhost", "127.0.0.2")
    monkeypatch.setattr(transport, "_gone_to", set())
    asked = replace(endpoint, base_url=f"http://localhost:{port}", api_key=KEY, read_timeout=0.3)
    call = calls.get_run(PROJECT, run_id)
    with socket.create_server(("127.0.0.2", port)), StablyClient(asked, by_address=True) as client:
        with pytest.raises(StablyUnreachableError):
            client.send_once(call)

        assert not client.send_once(call).is_finished


@pytest.mark.parametrize("by_address", [False, True])
def test_a_name_is_looked_up_where_no_thread_can_be_had(emulator, endpoint, monkeypatch, by_address):
    """A process that has too many can reach the API all the same, or says why not."""
    monkeypatch.delitem(names.reached_at, "localhost", raising=False)
    monkeypatch.setattr(
        _thread, "start_new_thread", create_autospec(_thread.start_new_thread, side_effect=RuntimeError)
    )
    by_name = replace(endpoint, base_url=emulator.url.replace("127.0.0.1", "localhost"))
    run_id = emulator.add_run(project_id=PROJECT)
    with StablyClient(by_name, by_address=by_address) as client:
        assert not client.send_once(calls.get_run(PROJECT, run_id)).is_finished
    monkeypatch.setattr(
        socket, "getaddrinfo", create_autospec(socket.getaddrinfo, side_effect=socket.gaierror)
    )
    with (
        StablyClient(by_name, by_address=by_address) as client,
        pytest.raises(StablyUnreachableError, match="gaierror"),
    ):
        client.send_once(calls.get_run(PROJECT, run_id))


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
async def test_certificates_are_verified_as_configured(send, ca_bundle, private_emulator, verify, trusted):
    """A CA bundle, or no verification, lets a private server in; a start that failed so never left."""
    endpoint = Endpoint(private_emulator.url, KEY, verify=ca_bundle if verify == "authority" else verify)

    if trusted:
        assert await send(calls.start_run(PROJECT), endpoint) in private_emulator.runs
    else:
        with pytest.raises(StablyUnreachableError) as caught:
            await send(calls.start_run(PROJECT), endpoint)
        assert (caught.value.request_sent, private_emulator.requests()) == (False, [])


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("trust_env", [True, False], ids=["trusted", "not trusted"])
async def test_the_environments_ca_bundle_is_used_by_both(
    send, ca_bundle, private_emulator, monkeypatch, variable, trust_env
):
    """What lets the worker in lets the triggerer in, too."""
    monkeypatch.setenv(variable, ca_bundle)
    asked = send(calls.start_run(PROJECT), Endpoint(private_emulator.url, KEY, trust_env=trust_env))

    if trust_env:
        assert await asked in private_emulator.runs
    else:
        with pytest.raises(StablyUnreachableError):
            await asked


async def test_verify_true_comes_before_the_environments_bundle(
    send, ca_bundle, private_emulator, monkeypatch
):
    """A connection that says true trusts certifi's certificates, whatever the environment names."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_bundle)

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

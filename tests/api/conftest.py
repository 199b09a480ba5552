"""What tests of the clients share: an endpoint, a sender for either client, servers to fail at."""

import inspect
import socket
import ssl

import pytest
import trustme

from airflow_provider_stably.api.async_client import AsyncStablyClient
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.api.endpoint import Endpoint
from airflow_provider_stably.testing import StablyEmulator
from tests.constants import KEY


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
def ca_bundle(authority, tmp_path):
    """The path of that authority's certificate."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def tls(authority):
    """What a server of that authority's serves TLS with."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "stably.example").configure_cert(context)
    return context


@pytest.fixture
def private_emulator(tls):
    """An emulator that speaks TLS, with a certificate of the authority."""
    with StablyEmulator(api_key=KEY, tls=tls) as emulator:
        yield emulator

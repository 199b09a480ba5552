"""Send calls over aiohttp. Import lazily: aiohttp costs every DAG parse about 0.3 s."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
import tenacity
from aiohttp.http_exceptions import ContentEncodingError

from airflow_provider_stably.api import answers
from airflow_provider_stably.api.calls import Call
from airflow_provider_stably.api.endpoint import Endpoint, tls_context_for
from airflow_provider_stably.api.retries import as_ambiguous_start, replay_policy
from airflow_provider_stably.exceptions import StablyError

T = TypeVar("T")

_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,  # the proxy's too; that of a redirect is not looked at
)

KEEPALIVE_SECONDS = 300.0
"""How long an idle connection is kept: longer than triggers pause, or each poll would need a handshake."""


class AsyncStablyClient:
    """Send calls and read their answers on an event loop. Use as an async context manager.

    All clients of one endpoint on one event loop share one session, which lives from the first to enter to
    the last to leave: a triggerer polls thousands of runs over a handful of connections.

    :param endpoint: The API and how to reach it.
    :param sleep: Waits the given seconds between attempts.
    """

    def __init__(
        self, endpoint: Endpoint, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._endpoint = endpoint
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        self._proxy = self._endpoint.effective_proxy()
        self._session = await _enter_session(self._endpoint)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _leave_session(self._endpoint)

    async def send(self, call: Call[T]) -> T:
        """Send a call, again where that is allowed and may help, and return what it reads.

        :raises StablyError: as :meth:`airflow_provider_stably.api.client.StablyClient.send`.
        """
        retrying = tenacity.AsyncRetrying(sleep=self._sleep, **replay_policy(call))
        try:
            return await retrying(self.send_once, call)
        except StablyError as error:
            meaning = as_ambiguous_start(call, error)
            if meaning is error:
                raise
            raise meaning from error

    async def send_once(self, call: Call[T]) -> T:
        """Send a call a single time (a read that is dropped, aiohttp itself repeats once).

        :raises StablyError: as :meth:`airflow_provider_stably.api.client.StablyClient.send_once`.
        """
        url = self._endpoint.base_url + call.path
        try:
            async with self._session.request(
                call.route.method, url, json=call.body, proxy=self._proxy, allow_redirects=False
            ) as response:
                answer = await self._receive(response)
        except (aiohttp.ClientError, OSError, ValueError, ArithmeticError) as error:
            failure = answers.unreachable(
                call,
                error,
                self._endpoint,
                request_sent=_was_sent(error),
                is_local=_is_local(error),
            )
        else:
            return answers.read_answer(call, answer, self._endpoint)
        raise failure  # not from the library's error: that holds the request's headers, and so the key

    async def _receive(self, response: aiohttp.ClientResponse) -> answers.Answer:
        body = bytearray()
        async with asyncio.timeout(self._endpoint.read_timeout):  # a body that trickles is given up on
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > answers.MAX_ANSWER_BYTES:
                    break
        return answers.Answer(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=bytes(body[: answers.MAX_ANSWER_BYTES]),
            is_whole=len(body) <= answers.MAX_ANSWER_BYTES,
        )


@dataclass(slots=True)
class _SharedSession:
    users: int = 0
    session: aiohttp.ClientSession | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)


_shared_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Endpoint, _SharedSession]] = (
    WeakKeyDictionary()
)


async def _enter_session(endpoint: Endpoint) -> aiohttp.ClientSession:
    sessions = _shared_sessions.setdefault(asyncio.get_running_loop(), {})
    shared = sessions.setdefault(endpoint, _SharedSession())
    shared.users += 1
    try:
        async with shared.opening:  # else a thousand triggers that start at once read the CA bundle each
            if shared.session is None:
                shared.session = _new_session(endpoint, await _tls(endpoint))
            return shared.session
    except BaseException:
        await _leave_session(endpoint)
        raise


async def _leave_session(endpoint: Endpoint) -> None:
    sessions = _shared_sessions[asyncio.get_running_loop()]
    shared = sessions[endpoint]
    shared.users -= 1
    if not shared.users:
        del sessions[endpoint]
        if shared.session is not None:
            await shared.session.close()


def _new_session(endpoint: Endpoint, tls: ssl.SSLContext | bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, keepalive_timeout=KEEPALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Authorization": f"Bearer {endpoint.api_key}", "User-Agent": endpoint.user_agent},
        timeout=aiohttp.ClientTimeout(
            total=endpoint.connect_timeout + 2 * endpoint.read_timeout,
            sock_connect=endpoint.connect_timeout,
            sock_read=endpoint.read_timeout,
        ),
        # With trust_env, aiohttp would let ~/.netrc replace the Authorization header.
        trust_env=False,
    )


async def _tls(endpoint: Endpoint) -> ssl.SSLContext | bool:
    bundle = endpoint.ca_bundle()
    if bundle is None:
        return endpoint.effective_verify() is not False
    try:
        # Reading a CA bundle takes tens of milliseconds, too long for a loop that others wait on.
        return await asyncio.to_thread(tls_context_for, bundle)
    except OSError as error:
        raise answers.unusable_bundle(bundle, error) from error


def _was_sent(error: Exception) -> bool:
    """Whether the request may have reached the server; when in doubt, yes."""
    return not (isinstance(error, _NOT_SENT) or answers.is_unwritable(error))


def _is_local(error: Exception) -> bool:
    """Whether another machine, or another HTTP library, may reach the API where this one fails."""
    is_unreadable = isinstance(error, aiohttp.ClientResponseError)  # its headers
    is_undecodable = isinstance(error.__cause__, ContentEncodingError)
    return is_unreadable or is_undecodable or isinstance(error, aiohttp.ClientConnectorCertificateError)

"""Send calls over aiohttp. Import lazily: aiohttp costs every DAG parse about 0.3 s."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
import tenacity

from airflow_provider_stably.api import answers
from airflow_provider_stably.api.async_transport import EndpointConnector, UnreadableAnswerError
from airflow_provider_stably.api.calls import Call
from airflow_provider_stably.api.endpoint import READ_TIMEOUTS, Endpoint, tls_context_for
from airflow_provider_stably.api.exchange import (
    MAX_HEAD_LINE_BYTES,
    noting_what_is_sent,
    refuse_other_proxies,
)
from airflow_provider_stably.api.retries import (
    MAX_RETRY_AFTER_SECONDS,
    as_ambiguous_start,
    replay_policy,
)
from airflow_provider_stably.exceptions import StablyError, clearing_locals

if TYPE_CHECKING:
    from yarl import URL

T = TypeVar("T")
R = TypeVar("R")

_EXPIRED = 10
"""OpenSSL's code for a certificate that has expired."""

KEEPALIVE_SECONDS = 300.0
"""How long an idle connection is kept: longer than triggers pause, or each poll would need a handshake."""


class AsyncStablyClient:
    """Send calls and read their answers on an event loop. Use as an async context manager.

    All clients of one endpoint on one event loop share one session, which lives from the first to enter to
    the last to leave: a triggerer polls thousands of runs over a handful of connections. Another one begins
    when the CA bundle is written anew.

    :param endpoint: The API and how to reach it.
    :param sleep: Waits the given seconds between attempts.
    """

    def __init__(
        self, endpoint: Endpoint, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._endpoint = endpoint
        self._sleep = sleep
        self._key = (endpoint, endpoint.bundle_written_at())  # once: it may be entered many times

    async def __aenter__(self) -> Self:
        self._proxy = self._endpoint.effective_proxy()
        refuse_other_proxies(self._proxy, self._endpoint.label)
        self._session = await _enter_session(self._key)
        return self

    async def __aexit__(self, *_: object) -> None:
        await _leave_session(self._key)

    async def send(self, call: Call[T], *, heeded: float = MAX_RETRY_AFTER_SECONDS) -> T:
        """Send a call, again where that is allowed and may help, and return what it reads.

        :param heeded: As of :func:`~airflow_provider_stably.api.retries.replay_policy`.
        :raises StablyError: as :meth:`airflow_provider_stably.api.client.StablyClient.send`.
        """
        retrying = tenacity.AsyncRetrying(sleep=self._sleep, **replay_policy(call, heeded=heeded))
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
        with clearing_locals():
            try:
                with noting_what_is_sent() as sent:
                    answers.remember_secrets(call, self._endpoint)
                    answer = await self._answer(call)
            except (aiohttp.ClientError, OSError, ValueError, ArithmeticError) as error:
                failure = answers.unreachable(
                    call,
                    error,
                    self._endpoint,
                    request_sent=bool(sent),
                    is_local=_is_local(error),
                )
            else:
                return await _off_loop_if_big(answer.body, answers.read_answer, call, answer, self._endpoint)
            raise failure  # not from the library's error: that holds the request's headers, and so the key

    async def _answer(self, call: Call[T]) -> answers.Answer:
        if call.replayable:
            return await self._answer_over(self._session, call)
        # Over a connection of its own: a load balancer may have dropped the others silently.
        async with await _new_session(self._endpoint) as session:
            return await self._answer_over(session, call)

    async def _answer_over(self, session: aiohttp.ClientSession, call: Call[T]) -> answers.Answer:
        url = self._endpoint.base_url + call.path
        # Not of the session: aiohttp shows a session's headers to a proxy, in clear text.
        headers = {"Authorization": f"Bearer {self._endpoint.api_key}"}
        async with session.request(
            call.route.method,
            url,
            headers=headers,
            json=call.body,
            proxy=self._proxy,
            allow_redirects=False,
        ) as response:
            if response.content.is_eof():  # as a rule all has come with the head, and no timer is needed
                body = response.content.read_nowait()
            else:
                # aiohttp's own bound, for the whole call, has the connect timeout in it.
                async with asyncio.timeout(self._endpoint.read_timeout):
                    body = await _body(response)
        return await _off_loop_if_big(
            body, answers.Answer.received, response.status, response.headers.items(), body
        )


async def _off_loop_if_big(body: bytes, work: Callable[..., R], *args: object) -> R:
    """Do with a body what takes the longer the bigger it is."""
    return await asyncio.to_thread(work, *args) if answers.is_big(body) else work(*args)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > answers.MAX_ANSWER_BYTES:
            break
    return bytes(body)


@dataclass(slots=True)
class _SharedSession:
    users: int = 0
    session: aiohttp.ClientSession | None = None
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)


_Key = tuple[Endpoint, int | None]
_shared_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, _SharedSession]] = (
    WeakKeyDictionary()
)


async def _enter_session(key: _Key) -> aiohttp.ClientSession:
    sessions = _shared_sessions.setdefault(asyncio.get_running_loop(), {})
    shared = sessions.setdefault(key, _SharedSession())
    shared.users += 1
    try:
        async with shared.opening:  # else a thousand triggers that start at once read the CA bundle each
            if shared.session is None:
                shared.session = await _new_session(key[0])
            return shared.session
    except BaseException:
        await _leave_session(key)
        raise


async def _leave_session(key: _Key) -> None:
    sessions = _shared_sessions[asyncio.get_running_loop()]
    shared = sessions[key]
    shared.users -= 1
    if not shared.users:
        del sessions[key]
        if shared.session is not None:
            await shared.session.close()


async def _new_session(endpoint: Endpoint) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=EndpointConnector(ssl=await _tls(endpoint), keepalive_timeout=KEEPALIVE_SECONDS),
        cookie_jar=_NoCookieJar(),
        headers={"User-Agent": endpoint.user_agent, "Accept-Encoding": answers.ACCEPT_ENCODING},
        timeout=aiohttp.ClientTimeout(
            total=endpoint.connect_timeout + READ_TIMEOUTS * endpoint.read_timeout,
            sock_connect=endpoint.connect_timeout,
            sock_read=endpoint.read_timeout,
        ),
        auto_decompress=False,
        max_line_size=MAX_HEAD_LINE_BYTES,
        max_field_size=MAX_HEAD_LINE_BYTES,
        # With trust_env, aiohttp would let ~/.netrc replace the Authorization header.
        trust_env=False,
    )


class _NoCookieJar(aiohttp.DummyCookieJar):
    """Parses no cookie, so logs none: aiohttp 3.12 shows what it cannot read. Remove with 3.13."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        """Ignore cookies."""


async def _tls(endpoint: Endpoint) -> ssl.SSLContext | bool:
    if not endpoint.base_url.startswith("https:"):
        return True  # no TLS, so what is trusted does not matter
    # Reading a CA bundle takes tens of milliseconds, too long for a loop that others wait on.
    return await asyncio.to_thread(tls_context_for, endpoint.ca_bundle())


def _is_local(error: Exception) -> bool:
    """Whether it is this machine: it does not trust the certificate, or aiohttp cannot read the headers.

    Not one that has expired, nor a proxy that does not reach the API: those are the same everywhere.
    """
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return getattr(error.certificate_error, "verify_code", None) != _EXPIRED
    is_unreadable = isinstance(error, aiohttp.ClientResponseError | UnreadableAnswerError)
    return is_unreadable and not isinstance(error, aiohttp.ClientHttpProxyError)

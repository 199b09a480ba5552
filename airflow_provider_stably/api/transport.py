"""How requests reaches one endpoint: with its key, within a bounded time, and without a word in the log.

Nothing here takes a lock that what a signal handler interrupts could hold, so it works in one too.
"""

from __future__ import annotations

import socket
import time
import weakref
from contextlib import suppress
from functools import cache, partial
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs
from urllib3.util.ssltransport import SSLTransport

from airflow_provider_stably.api.address import is_loopback
from airflow_provider_stably.api.bounded_response import BoundedResponse
from airflow_provider_stably.api.endpoint import CONNECT_TIMEOUTS, Endpoint, leave_out_dhe
from airflow_provider_stably.api.exchange import note_sending, refuse_other_proxies
from airflow_provider_stably.api.names import (
    LOOK_UP_AGAIN_SECONDS,
    Found,
    addresses_of,
    last_known,
    look_up,
    reached_at,
)

MAX_CONNECTIONS = 8
"""How many calls of one session may be under way at once before connections are thrown away."""


class EndpointAdapter(HTTPAdapter):
    """Sends requests with the endpoint's key, if they go to the endpoint's own origin.

    The key is in no request that a caller holds, or that an error or an answer holds for it. A request to any
    other origin is sent without ``Authorization``.

    :param endpoint: The API and its key.
    :param by_address: Whether to connect to the IP address at which this process last reached the host, and
        not to look its name up: that may stall for longer than a killed task lives.
    """

    def __init__(self, endpoint: Endpoint, *, by_address: bool = False) -> None:
        self._endpoint = endpoint
        self._connection = _ByAddress if by_address else _Remembering
        super().__init__(pool_maxsize=MAX_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools for direct connections."""
        super().init_poolmanager(*args, **kwargs)  # type: ignore[no-untyped-call, unused-ignore] # by stubs
        _bound(self.poolmanager, self._connection)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools for connections through a proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        _bound(manager, self._connection)
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a copy of the request that has the key; to loopback without a proxy, whoever names one."""
        sent = request.copy()
        sent.headers.pop("Authorization", None)
        if sent.url and self._endpoint.owns(sent.url):
            sent.headers["Authorization"] = f"Bearer {self._endpoint.api_key}"
        if is_loopback(urlsplit(sent.url or "").hostname):
            kwargs["proxies"] = None  # a proxy would get the key in clear text
        refuse_other_proxies(select_proxy(sent.url or "", kwargs.get("proxies")), self._endpoint.label)
        try:
            response = super().send(sent, *args, **kwargs)
        except requests.RequestException as error:
            error.request = request
            raise
        response.request = request
        return response


class _TimedSocket(socket.socket):
    """A socket whose timeout is for all that TLS receives until it is set anew."""

    _deadline: float | None = None

    def settimeout(self, value: float | None) -> None:
        self._deadline = None if value is None else time.monotonic() + value
        super().settimeout(value)

    def recv(self, *args: Any) -> bytes:
        if self._deadline is None:
            return super().recv(*args)
        timeout, left = self.gettimeout(), self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no whole TLS record came in time")
        super().settimeout(left)
        try:
            return super().recv(*args)
        finally:
            super().settimeout(timeout)


class _TLS(SSLTransport):
    """TLS that comes back after each piece it receives, and within which there can be another one.

    Python's own reads on, and asks for no time, as long as records come that hold no data: session tickets.
    """

    @property
    def _io_refs(self) -> int:
        """How many files read from the socket."""
        return int(self.socket._io_refs)  # type: ignore[attr-defined] # private

    @_io_refs.setter
    def _io_refs(self, number: int) -> None:
        self.socket._io_refs = number  # type: ignore[attr-defined] # private


def _tls_context(connection: Any) -> Any:
    """Make what urllib3 would make for a connection, but for the kind of TLS."""
    context: Any = create_urllib3_context(cert_reqs=resolve_cert_reqs(connection.cert_reqs))
    if hasattr(context, "wrap_bio"):  # pyOpenSSL's, which other packages may have put there, has none
        leave_out_dhe(context)
        weak: Any = weakref.proxy(context)  # each connection has one, and no circle keeps it
        context.wrap_socket = partial(_TLS, ssl_context=weak)
    return context


_gone_to: set[str] = set()
"""The hosts that were connected to by their last address since; the next connection looks the name up."""


def _look_up(host: str, port: int) -> SimpleQueue[Found]:
    """Begin to look a name up; the queue gets what it comes to."""
    found: SimpleQueue[Found] = SimpleQueue()
    with suppress(RuntimeError):  # there are too many threads
        look_up(host, port, found.put)
        return found
    found.put(addresses_of(host, port))
    return found


class _Remembering:
    """A connection that remembers the address it reaches, and reads answers as :class:`.BoundedResponse`."""

    response_class = BoundedResponse
    remembers = True

    @property
    def is_connected(self: Any) -> bool:
        """Whether it can be used again: not if TLS has received already what nobody asked for."""
        unasked = _received(self.sock)  # urllib3 looks at the socket only
        return not unasked and super().is_connected  # type: ignore[misc] # of urllib3's, beside this

    def _addresses(self: Any) -> list[str]:
        """Return the addresses to try, in order."""
        return self._addresses_within(self.timeout)  # type: ignore[no-any-return]

    def _addresses_within(self: Any, seconds: float | None) -> list[str]:
        try:
            found = _look_up(self._dns_host.strip("[]"), self.port).get(timeout=seconds)
        except Empty:
            found = TimeoutError("the look-up did not end in time")
        if isinstance(found, OSError):
            # It only shows the reason.
            raise NameResolutionError(self.host, self, found) from found  # type: ignore[arg-type]
        return [self._dns_host] if isinstance(found, UnicodeError) else found  # urllib3 says what is wrong

    def _new_conn(self: Any) -> socket.socket:
        """Connect to the first address that answers; urllib3 would give each of them the whole timeout."""
        name, timeout = self._dns_host, self.timeout
        addresses = self._addresses()
        if timeout is not None:  # None: the caller asked for no timeout
            self.timeout = timeout * min(1, CONNECT_TIMEOUTS / len(addresses))
        try:
            for address in addresses:
                self._dns_host = address
                try:
                    made: socket.socket = super()._new_conn()  # type: ignore[misc] # of urllib3's, beside this
                    break
                except (NewConnectionError, ConnectTimeoutError) as error:
                    failure = error
            else:
                raise failure
        finally:
            self._dns_host, self.timeout = name, timeout
        sock = _TimedSocket(made.family, made.type, made.proto, made.detach())
        sock.settimeout(timeout)  # for the TLS handshake
        if self.remembers:
            reached_at[self.host] = sock.getpeername()[0]
            _gone_to.discard(self.host)
        return sock

    def connect(self: Any) -> None:
        """Connect, if by TLS then by :class:`_TLS`."""
        if isinstance(self, HTTPSConnection):
            self.ssl_context = _tls_context(self)
        super().connect()  # type: ignore[misc] # as above

    def endheaders(self: Any, *args: Any, **kwargs: Any) -> None:
        """Send a request, but not a CONNECT; connect before, where urllib3 has not yet."""
        if self.sock is None:
            self.connect()
        note_sending()
        super().endheaders(*args, **kwargs)  # type: ignore[misc] # as above

    def _tunnel(self: Any) -> None:
        """Ask a proxy for the way; the TLS handshake after it has a timeout of its own."""
        super()._tunnel()  # type: ignore[misc] # as above
        self.sock.settimeout(self.timeout)

    def _connect_tls_proxy(self: Any, hostname: str, sock: socket.socket) -> Any:
        """Connect to an https proxy, with the same trust as to the API."""
        context = _tls_context(self)
        if self.ca_certs or self.ca_cert_dir:
            context.load_verify_locations(self.ca_certs, self.ca_cert_dir)
        self.proxy_config = self.proxy_config._replace(ssl_context=context)
        return super()._connect_tls_proxy(hostname, sock)  # type: ignore[misc] # as above


def _received(sock: Any) -> int:
    """Return how many bytes TLS has received that were not read yet."""
    if not isinstance(sock, SSLTransport):
        return 0
    return int(sock.sslobj.pending() + sock.incoming.pending + _received(sock.socket))


class _ByAddress(_Remembering):
    """A connection to the address that was reached last; the next one is by name, if that is soon known.

    That address may take connections, and still not be the API's any more.
    """

    remembers = False

    def _addresses(self: Any) -> list[str]:
        address = reached_at.get(self.host)
        if address is None:
            return super()._addresses()
        if self.host in _gone_to:
            with suppress(NewConnectionError):
                return super()._addresses_within(LOOK_UP_AGAIN_SECONDS)
            return last_known(self.host)
        _gone_to.add(self.host)
        return [address]


def _bound(manager: PoolManager, connection: type) -> None:
    """Let a manager make connections of this kind."""
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _bounded(pool, connection) for scheme, pool in pools.items()}


@cache
def _bounded(pool: type[HTTPConnectionPool], connection: type) -> type[HTTPConnectionPool]:
    if issubclass(pool, _Bounded):
        return pool  # a proxy's manager is kept, and so was here before
    kind = type("BoundedConnection", (connection, pool.ConnectionCls), {})
    return type("BoundedPool", (_Bounded, pool), {"ConnectionCls": kind})


class _Bounded:
    """Marks the pools that are done."""

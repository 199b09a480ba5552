"""How aiohttp receives an answer: within bounds on its head, and only one that was asked for."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from airflow_provider_stably.api.exchange import MAX_HEAD_BYTES, MAX_HEAD_LINES, note_sending
from airflow_provider_stably.api.names import LOOK_UP_AGAIN_SECONDS, Found, last_known, look_up, reached_at

if TYPE_CHECKING:
    from aiohttp.client import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

MAX_FRAMING_BYTES = 128 * 1024
"""Most bytes of chunk sizes and trailers: enough for ten thousand chunks.

For aiohttp before 3.14 each chunk that has not been read yet costs as much as all of them.
"""

_PIECE_BYTES = 64 * 1024
"""How much is looked at at once. asyncio receives up to 256 KiB, if the socket has them.

TLS takes what was received in one go, and holds the event loop for 0.3 s if all of it is session tickets.
"""


_LAST_CHUNK = re.compile(rb"\n0+(;[^\n]*)?(\r?\n[^\0]*)?\Z")
"""How a body ends whose server closes after the last chunk, and leaves out what has to follow."""

_ENDING_BYTES = 256
"""In which that is looked for."""


class UnreadableAnswerError(aiohttp.ClientPayloadError):
    """An answer has more around its body than is read here; the other client may read it."""


class EndpointConnector(aiohttp.TCPConnector):
    """Makes connections that receive answers as :class:`_BoundedProtocol` does."""

    def __init__(self, **settings: Any) -> None:
        # That an address is dead has to be learned from the next look-up, so none is kept for longer.
        super().__init__(resolver=_Resolver(), ttl_dns_cache=int(LOOK_UP_AGAIN_SECONDS), **settings)
        self._factory: Any = self._bounded_protocol  # aiohttp has no public way to name one

    async def connect(self, req: ClientRequest, *args: Any, **kwargs: Any) -> Connection:
        """Connect, through a proxy and by TLS where they are; then aiohttp sends the request."""
        try:
            connection = await super().connect(req, *args, **kwargs)
        except AttributeError as error:  # asyncio of Debian 12's Python 3.11.2, when TLS within TLS fails
            raise aiohttp.ClientConnectionError("TLS failed within the proxy's") from error
        transport = connection.transport  # None, or without a peer: it has hung up
        peer = transport.get_extra_info("peername") if transport else None
        reached_at.update({str((req.proxy or req.url).host): peer[0]} if peer else {})
        note_sending()
        return connection

    def _bounded_protocol(self) -> ResponseHandler:
        return _BoundedProtocol(loop=self._loop)


class _Resolver(AbstractResolver):
    """Looks names up; one that is not found at once is where it last was, and found by the next call."""

    async def resolve(self, host: str, port: int = 0, *_: object, **__: object) -> list[ResolveResult]:
        """Return a name's addresses."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Found] = loop.create_future()

        def settle(addresses: Found) -> None:
            if not found.done():
                found.set_result(addresses)

        addresses: Found = TimeoutError("the look-up did not end in time")
        try:
            look_up(host, port, lambda addresses: loop.call_soon_threadsafe(settle, addresses))
            async with asyncio.timeout(LOOK_UP_AGAIN_SECONDS if last_known(host) else None):
                addresses = await found
        except RuntimeError as error:
            addresses = OSError(str(error))
        except TimeoutError:
            pass  # as it was
        if isinstance(addresses, Exception):
            failure, addresses = addresses, last_known(host)
            if not addresses:
                raise failure
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Close nothing: a look-up that goes on is left behind."""


class _BoundedProtocol(ResponseHandler):
    """Gives up on an answer with too much around its body, and on a connection that sends unasked.

    aiohttp would take what comes on an idle connection for the answer to the next request.
    """

    _lines = 0
    _bytes = 0
    _ending = b""
    _body: StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the system receive no more than a piece or two ahead."""
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE_BYTES)
        super().connection_made(transport)

    def set_response_params(self, **params: Any) -> None:
        """Begin to receive the answer to a request."""
        self._lines = self._bytes = 0
        self._ending = b""
        self._body = None
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the server; none, if aiohttp goes on with what it has."""
        if len(data) <= _PIECE_BYTES:
            self._receive(data)
            return
        for start in range(0, len(data), _PIECE_BYTES):
            self._receive(data[start : start + _PIECE_BYTES])

    def _receive(self, piece: bytes) -> None:
        if self.exception() is not None:
            return  # aiohttp would fail and close anew, and then ask TLS what that has forgotten
        is_head = self._body is None
        if piece and self._body is not None and self._body.is_eof():
            self._give_up("more came than the answer")
            return
        self._bytes += len(piece)
        self._ending = (self._ending + piece[-_ENDING_BYTES:])[-_ENDING_BYTES:]
        lines = piece.count(b"\n") if is_head else 0
        if self._lines + lines > MAX_HEAD_LINES:
            piece = self._after_head(piece)
        else:
            self._lines += lines
        if self.exception() is None:
            super().data_received(piece)
            self._tell_of_unreadable_body()
        if self._reading_paused:
            return  # aiohttp 3.14 has bytes that it has not counted yet
        if self._body is None:
            if self._bytes > MAX_HEAD_BYTES:
                self._give_up("too long a head")
            return
        if is_head:
            self._bytes = self._body.total_bytes
        if self._bytes - self._body.total_bytes > MAX_FRAMING_BYTES:
            self._give_up("too many bytes between those of the body", UnreadableAnswerError)

    def _tell_of_unreadable_body(self) -> None:
        """Tell who reads the body, as aiohttp does not, that it cannot be parsed any further."""
        if self.exception() is not None and self._body is not None and not self._body.is_eof():
            self._body.set_exception(UnreadableAnswerError("chunks or trailers that aiohttp does not read"))

    def _after_head(self, data: bytes) -> bytes:
        """Take the head line by line, and return what follows it."""
        while data and self._body is None and self.exception() is None:
            line, newline, data = data.partition(b"\n")
            self._lines += len(newline)
            if self._lines > MAX_HEAD_LINES:
                self._give_up("too many header lines")
            else:
                super().data_received(line + newline)
        return data

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take the head of an answer; its body may still come."""
        message, body = data
        if self._body is not None:
            self._give_up("more came than the answer")
            return
        if not 100 <= message.code <= 199 or message.code == 101:
            self._body = body
            if not 200 <= message.code <= 299:
                self.force_close()  # it may be the server at its end that is ill, behind a balancer
        super().feed_data(data, size)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take in that the connection has ended."""
        body = self._body
        if body is None or body.is_eof() or not _LAST_CHUNK.search(self._ending):
            super().connection_lost(exc)
            return
        error = UnreadableAnswerError("the body ends with the last chunk, and aiohttp expects more")
        body.set_exception(error)  # for who reads it by now
        super().connection_lost(exc)
        body.set_exception(error)  # for who will: aiohttp has set its own

    def close(self) -> None:
        """Close at once: while TLS says goodbye, for up to half a minute, it reads on."""
        transport = self.transport
        super().close()
        if transport is not None:
            with suppress(AttributeError):  # the same asyncio, if TLS has ended already
                transport.abort()

    def abort(self) -> None:
        """Do the same: aiohttp 3.13 and later does so where it has nobody to wait for."""
        self.close()

    def _give_up(
        self, reason: str, kind: type[aiohttp.ClientPayloadError] = aiohttp.ClientPayloadError
    ) -> None:
        error = kind(reason)
        self.set_exception(error)
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(error)
        cast("asyncio.Transport", self.transport).abort()

"""A raw socket server on loopback that answers with given bytes, and the worst of those."""

from __future__ import annotations

import gzip
import itertools
import socket
import ssl
import struct
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.constants import KEY

Script = Callable[[bytes], Iterable[bytes | float]]
"""From a request to what is sent: bytes, and seconds to wait."""

PACE = 0.02
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PASSED = b'{"status": "PASSED"}'


class HostileServer:
    """Answers each request with a script's bytes, then closes the connection. Use as a context manager.

    :param script: May be set anew between requests.
    :param reads_request: Whether a request is waited for: where TLS is expected, none that can be read comes.
    :param tls: Serve over TLS with this context.
    """

    def __init__(
        self, script: Script, *, reads_request: bool = True, tls: ssl.SSLContext | None = None
    ) -> None:
        self.script = script
        self._reads_request = reads_request
        self._tls = tls
        self.requests: list[bytes] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._stopped = Event()
        self._threads: list[Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._accepting = Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in [self._accepting, *self._threads]:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._threads.append(Thread(target=self._serve, args=(connection,), daemon=True))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError), ExitStack() as opened:
            opened.enter_context(connection)
            if self._tls is not None:
                connection = opened.enter_context(self._tls.wrap_socket(connection, server_side=True))
            request = _read_request(connection) if self._reads_request else b""
            self.requests.append(request)
            for part in self.script(request):
                if self._stopped.is_set():
                    return
                if isinstance(part, bytes):
                    connection.sendall(part)
                else:
                    self._stopped.wait(part)


class HostileProxy(HostileServer):
    """An https proxy, and behind it, in a TLS connection within the other, an API that trickles a record.

    :param tls: For both.
    :param shakes_hands: Whether the inner handshake ends, so that it is the answer that does not.
    :param sends: What the API sends instead of that record.
    :param waits: Seconds before it answers CONNECT, and again before the inner handshake.
    :param connected: How it answers CONNECT.
    :param drops: Whether the connection ends once the API has the request.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        shakes_hands: bool = True,
        sends: bytes = b"",
        waits: float = 0.0,
        connected: bytes = b"HTTP/1.1 200 Connected\r\n\r\n",
        drops: bool = False,
    ) -> None:
        super().__init__(always(), tls=tls)
        self._shakes_hands = shakes_hands
        self._sends = sends
        self._waits = waits
        self._connected = connected
        self._drops = drops

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with suppress(OSError), self._tls.wrap_socket(connection, server_side=True) as outer:
            _read_request(outer)
            self._stopped.wait(self._waits)
            outer.sendall(self._connected)
            self._stopped.wait(self._waits)
            if self._shakes_hands:
                self.requests.append(self._read_and_answer_within(outer))
            if self._drops:
                return
            if self._sends:
                self._stopped.wait()
            outer.sendall(b"\x17\x03\x03\x40\x00")  # a record of 16 kB
            while not self._stopped.wait(PACE):
                outer.sendall(b"x")

    def _read_and_answer_within(self, outer: ssl.SSLSocket) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        inner = self._tls.wrap_bio(incoming, outgoing, server_side=True)
        for step in (inner.do_handshake, inner.read):
            while True:
                try:
                    result = step()
                    break
                except ssl.SSLWantReadError:
                    outer.sendall(outgoing.read())
                    if not (received := outer.recv(65536)):
                        raise ConnectionResetError from None
                    incoming.write(received)
        if self._sends:
            inner.write(self._sends)
            outer.sendall(outgoing.read())
        return result or b""


class TicketFlood(HostileProxy):
    """An API that sends session tickets without end, in records as big as there are, in place of an answer.

    :param tls: Its keys are read from its ``keylog_filename``, as no library sends so many tickets.
    """

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with suppress(OSError), connection:
            self.requests.append(self._read_and_answer_within(connection))
            lines = Path(self._tls.keylog_filename).read_text().splitlines()
            secret = next(line.split()[2] for line in lines if line.startswith("SERVER_TRAFFIC_SECRET_0"))
            key, start = (_tls_key(bytes.fromhex(secret), *kind) for kind in ((b"key", 32), (b"iv", 12)))
            tickets = b"\x04\x00\x00\x0e" + struct.pack(">IIBHBH", 60, 1, 0, 1, 120, 0)
            record = tickets * 900 + b"\x16"  # handshake messages
            head = b"\x17\x03\x03" + struct.pack(">H", len(record) + 16)
            for number in itertools.takewhile(lambda _: not self._stopped.is_set(), itertools.count()):
                nonce = (int.from_bytes(start) ^ number).to_bytes(12)
                connection.sendall(head + AESGCM(key).encrypt(nonce, record, head))


def _tls_key(secret: bytes, name: bytes, length: int) -> bytes:
    """Derive a key as TLS 1.3 does with TLS_AES_256_GCM_SHA384, the suite that OpenSSL likes best."""
    label = b"tls13 " + name
    info = struct.pack(">HB", length, len(label)) + label + b"\x00"
    return HKDFExpand(SHA384(), length, info).derive(secret)


def _read_request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536) or b"\r\n\r\n"
    head, _, body = received.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line[:15] == b"Content-Length:"), 0)
    while len(body) < length:
        body += connection.recv(65536) or b" " * length
    return head + b"\r\n\r\n" + body


def always(*parts: bytes | float) -> Script:
    """Send the same to each request."""
    return lambda _: parts


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> Script:
    """Send a whole answer."""
    fields = b"".join(header + b"\r\n" for header in (b"Content-Length: %d" % len(body), *headers))
    return always(b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n" + body)


HEADS: dict[str, bytes] = {
    "a charset that does not exist": b"Content-Type: multipart/mixed; boundary*=undefined''x",
    "a boundary in a slow charset": b"Content-Type: multipart/mixed; boundary*=idna''xn--" + b"a" * 60_000,
    "a boundary in two ways": b"Content-Type: multipart/mixed; boundary*=x; boundary*0*=y",
    "a quote without end": b'Content-Type: multipart/mixed; a="' + b";" * 60_000,
    "a quote without end, folded": b'Content-Type: multipart/mixed; a="' + (b"\r\n " + b";" * 60_000) * 2,
    "messages within messages": b"Content-Type: message/rfc822\r\r" * 2000,
    "messages after no header": b"x\r\n" + b"Content-Type: message/rfc822\r\n\r" * 90,
    "lone CRs": b"\r\n".join([b"a:\r" * 16_000] * 7),
    "lone CRs, many": b"\r\n".join([b"a:\r" * 21_000] * 90),
}
"""Header lines that Python's mail parser makes much of."""


def _for_ever(start: bytes, part: bytes) -> Script:
    return lambda _: itertools.chain([start], itertools.repeat(part))


def _trickled(start: bytes, part: bytes) -> Script:
    return lambda _: itertools.chain([start], itertools.cycle([part, PACE]))


_GZIP_HEAD = gzip.compress(b"")[:10]
_EMPTY_BLOCKS = b"\x00\x00\x00\xff\xff" * 2000
_GZIPPED = OK + b"Content-Encoding: gzip\r\n\r\n" + _GZIP_HEAD

ENDLESS: dict[str, Script] = {
    "nothing": always(3600.0),
    "status line, trickled": _trickled(b"HTTP/1.1 200 ", b"O"),
    "header, trickled": _trickled(OK + b"X: ", b"x"),
    "headers, trickled": _trickled(OK, b"X: y\r\n"),
    "header without end": _for_ever(OK + b"X: ", b"x" * 10_000),
    "headers without end": _for_ever(OK, b"X: y\r\n"),
    "100 Continue, trickled": _trickled(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "100 Continue without end": _for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 Early Hints, trickled": _trickled(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "body, trickled": _trickled(OK + b"Content-Length: 100000\r\n\r\n", b" "),
    "body without length, trickled": _trickled(OK + b"\r\n", b" "),
    "body without end": _for_ever(OK + b"\r\n", b" " * 10_000),
    "chunk size, trickled": _trickled(CHUNKED, b"0"),
    "chunk extension, trickled": _trickled(CHUNKED + b"2;x=", b"y"),
    "chunks, trickled": _trickled(CHUNKED, b"1\r\n \r\n"),
    "trailers, trickled": _trickled(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: y\r\n"),
    "trailers without end": _for_ever(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: y\r\n" * 1000),
    "trailer, trickled": _trickled(CHUNKED + b"2\r\n{}\r\n0\r\nX: ", b"y"),
    "one-byte chunks without end": _for_ever(CHUNKED, b"1\r\n \r\n" * 2000),
    "chunk size without end": _for_ever(CHUNKED, b"0" * 10_000),
    "chunk extension without end": _for_ever(CHUNKED + b"2;x=", b"y" * 10_000),
    "chunk extensions without end": _for_ever(CHUNKED, b"1;x\r\n \r\n" * 2000),
    "gzip of empty blocks": _for_ever(_GZIPPED, _EMPTY_BLOCKS),
    "gzip of empty blocks, trickled": _trickled(_GZIPPED, _EMPTY_BLOCKS[:5]),
}
"""Answers that never end."""


def _deflated(start: bytes, part: bytes, times: int) -> bytes:
    """Compress, without ever having it in memory: a start, and a part many times over, compressed once."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    first = compressor.compress(start) + compressor.flush(zlib.Z_FULL_FLUSH)
    again = compressor.compress(part) + compressor.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(start)
    for _ in range(times):
        checksum = zlib.crc32(part, checksum)
    trailer = struct.pack("<II", checksum, len(start) + len(part) * times)
    return _GZIP_HEAD + first + again * times + compressor.flush() + trailer


def _with_cases(case: bytes, bytes_in_all: int) -> bytes:
    start = b'{"status": "FAILED", "results": {"testCases": ['
    many = max(1, 1_000_000 // len(case))
    return _deflated(start, case * many, max(1, bytes_in_all // (many * len(case))))


_GZIP = b"Content-Encoding: gzip"

HEAVY: dict[str, Script] = {
    "16 MB of test cases, gzip": answer(_with_cases(b'{"title":"a","status":"FAILED"},', 16_000_000), _GZIP),
    "1 GB, gzip": answer(_deflated(b"", b" " * 1_000_000, 1000), _GZIP),
    "150,000 empty gzip members": answer(gzip.compress(b"") * 150_000, _GZIP),
    "90 gzip members of 2.9 MB in all": answer(
        gzip.compress(b'{"status": "PASSED"}') + gzip.compress(b"") * 89 + b"x" * 2_900_000, _GZIP
    ),
    "2.9 MB of empty objects": answer(
        b'{"status":"PASSED","results":{"testCases":[' + b"{}," * 966_000 + b"{}]}}"
    ),
    "a status of 16 MB": answer(b'{"status": ["' + b"x" * 16_000_000 + b'"]}'),
    "a status of 2.9 MB": answer(b'{"status": "' + b"x" * 2_900_000 + b'", "results": {}}'),
    "a list as status": answer(b'{"status": [' + b'"xy",' * 149_000 + b'""]}'),
    "escapes": answer(b'{"error": "' + b"\\u0041" * 450_000 + b'"}', status=b"400 Bad Request"),
    "240 titles with escapes within escapes": answer(
        b'{"status":"FAILED","results":{"testCases":['
        + b",".join([b'{"title":"' + rb"\\" * 8 + b'u0041%2525252541&amp;amp;amp;lt;+"}'] * 240)
        + b"]}}"
    ),
    "backslashes": answer(b"\\" * 2_900_000, status=b"400 Bad Request"),
    "emoji": answer('{"status": "FAILED", "branchName": "\U0001f600'.encode() + b"x" * 2_900_000 + b'"}'),
    "149,000 keys": answer(b'{"status": "PASSED"' + b"".join(b',"%x":1' % i for i in range(149_000)) + b"}"),
    "nested": answer(b"[" * 149_000),
    "a number of 2.9 MB": answer(b'{"status": "PASSED", "x": 0.' + b"1" * 2_900_000 + b"}"),
    "600 numbers of 4,300 digits": answer(
        b'{"status": "PASSED", "x": [' + (b"1" * 4300 + b", ") * 600 + b"1]}"
    ),
    "600 fractions of 4,300 digits": answer(
        b'{"status": "PASSED", "x": [' + (b"0." + b"1" * 4300 + b", ") * 600 + b"1]}"
    ),
    "an error of 2.9 MB of empty objects": answer(
        b'{"error":"e","x":[' + b"{}," * 966_000 + b"{}]}", status=b"400 Bad Request"
    ),
    "an error of 140,000 objects": answer(
        b'{"error":"e","x":[' + b'{"":{}},' * 70_000 + b"{}]}", status=b"400 Bad Request"
    ),
    "an error of numbers": answer(
        b'{"error":"e","x":[' + (b"1" * 4300 + b",") * 600 + b"1]}", status=b"400 Bad Request"
    ),
    "Retry-After of 60 kB": answer(b"{}", b"Retry-After: " + b"9" * 60_000, status=b"429 Too Many"),
    "a Content-Type of 60 kB": answer(b"<html>", b"Content-Type: " + b"\\" * 60_000),
    "a redirect to accents": answer(
        b"{}", b"Location: http://" + "\u0301\u0316".encode() * 15_000, status=b"302 Found"
    ),
    "a run id of 2.9 MB": answer(b'{"runId": "' + b"x" * 2_900_000 + b'"}'),
    "the key, many times": answer((KEY.encode() + b" ") * 100_000, status=b"500 Oops"),
}
"""Answers that were made to cost time or memory."""

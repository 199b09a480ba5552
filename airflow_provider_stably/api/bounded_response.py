"""How requests receives an answer: in bounded time, and a head only of the kind that is read in no time."""

from __future__ import annotations

import io
import re
import socket
import time
from http.client import SWITCHING_PROTOCOLS, HTTPException, HTTPResponse
from typing import Any

from airflow_provider_stably.api.endpoint import READ_TIMEOUTS
from airflow_provider_stably.api.exchange import MAX_HEAD_BYTES, MAX_HEAD_LINE_BYTES, MAX_HEAD_LINES

_HEADER = re.compile(rb"[!-9;-~]+:")


class BoundedResponse(HTTPResponse):
    """An answer that has to be there, from the first header to the last trailer, within a bounded time."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = _HeadReader(_TimedReader(sock, self.fp.detach()))

    def _read_status(self) -> tuple[str, int, str]:
        """Read a status, of a CONNECT too; skip interim answers, of which ``http.client`` skips only 100."""
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc] # private
            if not 100 <= status <= 199 or status == SWITCHING_PROTOCOLS:
                return version, status, reason
            while self.fp.readline().strip():
                pass

    def begin(self) -> None:
        """Read status and headers."""
        super().begin()
        self.fp.is_past_head = True
        # It may be the server at the end of this connection that is ill, behind a balancer.
        self.will_close = self.will_close or not 200 <= self.status <= 299
        for content_type in self.fp.content_types:
            self.headers["Content-Type"] = content_type
        # requests would parse them, twice, for seconds if they are long.
        del self.headers["Set-Cookie"], self.headers["Set-Cookie2"]


class _HeadReader(io.BufferedReader):
    """Reads the lines of an answer's head, but for those of which ``http.client``'s mail parser makes more.

    It parses by Content-Type, in all the ways that mail knows; it takes a lone CR for the end of a line, and
    what follows a line that is no header for a body. That may take minutes, and raise any error.
    """

    is_past_head = False
    _is_status = True
    _bytes = 0
    _lines = 0

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw)
        self.content_types: list[str] = []

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line that is for the parser.

        :raises HTTPException: if the head is longer than is read, or cut off.
        """
        if self.is_past_head:
            return super().readline(size)
        while True:
            line = super().readline(MAX_HEAD_LINE_BYTES + 1)
            self._bytes += len(line)
            self._lines += 1
            is_long = len(line) > MAX_HEAD_LINE_BYTES or self._bytes > MAX_HEAD_BYTES
            if is_long or self._lines > MAX_HEAD_LINES:
                raise HTTPException("too long a head")
            is_status, self._is_status = self._is_status, line in {b"\r\n", b"\n"}
            if not line.endswith(b"\n") and (line or not is_status):  # none at all, http.client knows
                raise HTTPException("the head is cut off")
            if is_status or self._is_status:
                return line
            if _HEADER.match(line) is None:  # folded, for example
                continue
            name, _, value = line.rstrip(b"\r\n").replace(b"\r", b" ").partition(b":")
            if name.lower() != b"content-type":
                return b"%s:%s\r\n" % (name, value)
            self.content_types.append(value.strip().decode("latin-1"))


class _TimedReader(io.RawIOBase):
    """What a socket receives, until its time is up.

    A socket's own timeout starts anew with each byte.

    :param sock: Its timeout is the longest that a single read may take; all of them together may take
        :data:`~airflow_provider_stably.api.endpoint.READ_TIMEOUTS` times as long.
    :param raw: Reads from the socket.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._timeout = sock.gettimeout()
        self._deadline = time.monotonic() + READ_TIMEOUTS * (self._timeout or 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._timeout is not None:  # None: the caller asked for no timeout
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer was not complete in time")
            self._sock.settimeout(min(self._timeout, left))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()

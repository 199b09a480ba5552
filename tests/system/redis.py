"""A temporary Redis server: on a free port, with nothing saved."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.system.processes import Program, free_port
from tests.waiting import wait_until


class RedisServer:
    """A Redis server that runs while the context lasts.

    :param logs: The folder for its log.
    :raises FileNotFoundError: If Redis is not installed.
    """

    def __init__(self, logs: Path) -> None:
        self.port = free_port()
        self._binary = shutil.which("redis-server")
        self._logs = logs
        if self._binary is None:
            raise FileNotFoundError("No redis-server on PATH: install Debian's package 'redis-server'")

    @property
    def url(self) -> str:
        """The server's URL, without a database number."""
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="stably-redis-")
        settings = {"bind": "127.0.0.1", "port": self.port, "dir": self._folder.name, "save": ""}
        self.program = Program(
            "redis",
            [self._binary, *(word for name, value in settings.items() for word in (f"--{name}", str(value)))],
            environment={"PATH": os.environ["PATH"]},
            log=self._logs / "redis.log",
        )
        self.program.start()
        wait_until(self._accepts, what="Redis to accept connections", timeout=30)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.program.kill()
        self._folder.cleanup()

    def _accepts(self) -> bool:
        if self.program.ended_by_itself():
            raise RuntimeError(f"Redis does not start:\n{self.program.log.read_text()}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"
        return False

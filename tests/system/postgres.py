"""A temporary PostgreSQL server: own data directory, free port, no socket file, no durability."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.system.processes import Program, free_port
from tests.waiting import wait_until

_DEBIAN_BINARIES = "/usr/lib/postgresql"
_UNPRIVILEGED = "postgres"  # Debian's package makes this user; PostgreSQL refuses to be run by root
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class PostgresServer:
    """A PostgreSQL server that runs while the context lasts.

    :param logs: The folder for its log.
    :raises FileNotFoundError: If PostgreSQL is not installed.
    """

    def __init__(self, logs: Path) -> None:
        self.port = free_port()
        self._binaries = find_binaries()
        self._logs = logs

    @property
    def address(self) -> str:
        """The user, host, port and database, as in a URL."""
        return f"airflow@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self._folder = tempfile.TemporaryDirectory(prefix="stably-postgres-")
        folder = Path(self._folder.name)
        if user is not None:
            shutil.chown(folder, user, user)
        initdb = [self._binaries / "initdb", "--pgdata", folder / "data", "--username=airflow", "--no-sync"]
        subprocess.run(
            [*initdb, "--auth=trust", "--encoding=UTF8", "--locale=C"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        settings = [f"--{name}={value}" for name, value in (_SETTINGS | {"port": str(self.port)}).items()]
        self.program = Program(
            "postgres",
            [str(self._binaries / "postgres"), "-D", str(folder / "data"), *settings],
            environment={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            log=self._logs / "postgres.log",
            user=user,
        )
        self.program.start()
        wait_until(self._accepts, what="PostgreSQL to accept connections", timeout=30)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.program.terminate(by=signal.SIGINT)  # "fast": SIGKILL would leave shared memory behind
        self._folder.cleanup()

    def _accepts(self) -> bool:
        if self.program.ended_by_itself():
            raise RuntimeError(f"PostgreSQL does not start:\n{self.program.log.read_text()}")
        question = [self._binaries / "pg_isready", "--host=127.0.0.1", f"--port={self.port}", "--quiet"]
        question.append("--username=airflow")
        return subprocess.run(question, check=False).returncode == 0


def find_binaries() -> Path:
    """Return the folder with ``initdb`` and ``postgres`` of the newest version installed.

    :raises FileNotFoundError: If PostgreSQL is not installed.
    """
    on_path = shutil.which("initdb")
    versions = [path.parent for path in Path(_DEBIAN_BINARIES).glob("*/bin/initdb")]
    if versions:
        return max(versions, key=lambda folder: float(folder.parent.name))
    if on_path is not None:
        return Path(on_path).resolve().parent
    raise FileNotFoundError(
        f"No PostgreSQL server in {_DEBIAN_BINARIES} or on PATH: install Debian's package 'postgresql'"
    )

"""The programs that tests start: each in its own process group, ended by process id, none left running."""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.waiting import wait_until

_PR_SET_CHILD_SUBREAPER = 36
_PORTS = range(20000, 32000)  # below the range for outgoing connections
_handed_out: set[int] = set()


class Program:
    """A program with an environment and a log; it can be started again after it has ended.

    :param name: The program's name in reports.
    :param log: The file that its output is appended to.
    :param user: The user to run it as; None means the user who runs the tests.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.log = log
        self.user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> psutil.Process:
        """The process of the last start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return psutil.Process(self._process.pid)

    def start(self) -> None:
        """Start the program and append its output to its log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )

    def ended_by_itself(self) -> bool:
        """Whether the program has ended without :meth:`terminate` or :meth:`kill`."""
        return self._process is not None and self._process.poll() is not None

    def terminate(self, *, by: signal.Signals = signal.SIGTERM, timeout: float = 90) -> None:
        """Signal the program to end, wait for that, and kill its remaining descendants.

        :raises subprocess.TimeoutExpired: If it has not ended in time; it is killed even then.
        """
        if self._process is None:
            return
        tree = family(self._process.pid)
        self._process.send_signal(by)
        try:
            self._process.wait(timeout)
        finally:
            self._process = None
            kill(tree)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause the program and its descendants while the context lasts, as if their machine stalled."""
        tree = family(self.process.pid)
        signal_all(tree, signal.SIGSTOP)
        try:
            yield
        finally:
            signal_all(tree, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the program and its descendants with SIGKILL."""
        if self._process is None:
            return
        tree = family(self._process.pid)
        self._process.kill()
        self._process.wait()
        self._process = None
        kill(tree)


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants, oldest first; an empty list if it does not exist."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL to processes, in the order given, and wait until they have ended."""
    processes = list(processes)
    signal_all(processes, signal.SIGKILL)
    wait_until(lambda: all(map(is_gone, processes)), what="killed processes to end", timeout=10)


def signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to processes, in the order given; ignore those that have ended."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that :func:`kill_descendants` finds them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def kill_descendants(*, besides: Iterable[psutil.Process]) -> list[str]:
    """Kill all descendants of this process, and reap the adopted ones, which have no other parent to do it.

    :param besides: Descendants to leave alone.
    :returns: The ids and names of those that were still alive.
    """
    left_alone, found = set(besides), []
    while left := [process for process in family(os.getpid())[1:] if process not in left_alone]:
        alive = [process for process in left if not is_gone(process)]
        found += [f"{process.pid} {process.name()}" for process in alive]
        kill(alive)
        for process in left:
            with suppress(ChildProcessError):  # its own parent reaps it
                os.waitpid(process.pid, 0)
    return found


def free_port() -> int:
    """Return a free loopback port outside the range that the kernel gives to outgoing connections."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _handed_out:
                _handed_out.add(port)
                return port

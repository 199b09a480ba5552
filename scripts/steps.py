"""Numbered, timed steps on a temporary Airflow, for the scripts beside this one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]

_COMMAND_SECONDS = 300
_ENDING_SECONDS = 5
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TAIL_LINES = 40
_WIDTH = 72
# A user's own Airflow must not be touched, and loopback is not reached through a proxy.
_NOT_INHERITED = re.compile(r"AIRFLOW|PYTHONPATH$|(?:https?|all)_proxy$", re.IGNORECASE)


class NotAsPromisedError(Exception):
    """Something is not as it should be.

    :param message: What, for people.
    :param output: What the command at fault printed; its end is shown.
    """

    def __init__(self, message: str, *, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class Steps:
    """Prints a numbered line per step, with its seconds."""

    def __init__(self) -> None:
        self._count = 0
        self._began = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print a line around what the block does."""
        self._count += 1
        print(f"{self._count:2}. {title} ".ljust(_WIDTH, "."), end=" ", flush=True)
        began = time.monotonic()
        try:
            yield
        except BaseException as error:
            print("failed" if isinstance(error, Exception) else "stopped", flush=True)
            raise
        print(f"{time.monotonic() - began:5.1f} s", flush=True)

    @property
    def seconds(self) -> float:
        """Seconds since the first step could begin."""
        return time.monotonic() - self._began


class TemporaryAirflow:
    """An Airflow with a metadata database of its own, gone at the end. Use as a context manager.

    :param python: The interpreter of the environment that Airflow is installed in.
    :param settings: Environment variables for its processes.
    """

    def __init__(self, python: Path, settings: Mapping[str, str] | None = None) -> None:
        self._python = python
        self._settings = dict(settings or {})

    def __enter__(self) -> TemporaryAirflow:
        self.home = Path(tempfile.mkdtemp(prefix="stably-script-"))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    def airflow(self, *words: str) -> str:
        """Run an ``airflow`` command and return what it printed.

        :raises NotAsPromisedError: if it failed.
        """
        return self._run(str(self._python.with_name("airflow")), *words)

    def python(self, *words: str) -> str:
        """Run Python beside this Airflow and return what it printed.

        :raises NotAsPromisedError: if it failed.
        """
        return self._run(str(self._python), *words)

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run an ``airflow`` command while the block lasts, and end whatever it started; see :attr:`log`."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [self._python.with_name("airflow"), *words],
                env=self._environment(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            _end_session(process)

    @property
    def log(self) -> Path:
        """What a command printed while :meth:`running`."""
        return self.home / "airflow.log"

    def _run(self, *words: str) -> str:
        return run(*words, env=self._environment(), cwd=self.home)

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.match(name)}
        return inherited | {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PATH": f"{self._python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore",
            **self._settings,
        }


def run(*words: str, env: Mapping[str, str] | None = None, cwd: str | Path = ROOT) -> str:
    """Run a command in a process group of its own, which does not outlive this call.

    :returns: Its standard output and error.
    :raises NotAsPromisedError: if it failed or took longer than five minutes.
    """
    process = subprocess.Popen(
        words,
        env=env,
        cwd=cwd,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    command = f"{' '.join([Path(words[0]).name, *words[1:]]):.200}"
    try:
        output, _ = process.communicate(timeout=_COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        output = _end(process)
        raise NotAsPromisedError(f"not over after {_COMMAND_SECONDS} s: {command}", output=output) from None
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        raise NotAsPromisedError(f"exit code {process.returncode}: {command}", output=output)
    return output


def _end(process: subprocess.Popen[str]) -> str:
    with suppress(ProcessLookupError):  # it may just have ended
        os.killpg(process.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=10)
    return output


def _end_session(leader: subprocess.Popen[bytes]) -> None:
    """End all processes of a session, also those whose parents are gone: asked first, killed in the end."""
    processes = _session(leader.pid)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(processes, timeout=_ENDING_SECONDS)
    while processes := _session(leader.pid):  # one may have started another meanwhile
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=1)
    leader.wait()


def _session(number: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, OSError):
            if os.getsid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def main(script: Callable[[Steps], None]) -> int:
    """Carry a script's steps out and say what went wrong, if anything did.

    :returns: Exit code: 0 if all is as promised, 1 if not, 130 after Ctrl-C, SIGTERM or SIGHUP.
    """
    for number in _STOPS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup does
            signal.signal(number, _stop)
    steps = Steps()
    try:
        script(steps)
    except NotAsPromisedError as error:
        tail = error.output.rstrip().splitlines()[-_TAIL_LINES:]
        print("\n".join(["", *tail, "", f"Not as promised: {error}"]), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; nothing is left behind.", file=sys.stderr)
        return 130
    return 0


def _stop(*_: object) -> None:
    for number in _STOPS:  # whoever presses Ctrl-C again must not break off the cleaning up
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt

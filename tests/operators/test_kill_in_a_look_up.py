"""The run operator is killed while name look-ups stall, as on busy clusters: that outlasts the process."""

import ctypes
import os
import signal
import socket
import time
from threading import Event, Thread, Timer

import pytest

from airflow_provider_stably.api import calls
from airflow_provider_stably.exceptions import StablyUnreachableError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.operators.run_operator import ENDS_KILLED, executing, run_operator
from tests.waiting import wait_until


class Names:
    """The name look-ups of this process: they stall from ``stall`` until ``go_on``, eight seconds at most."""

    def __init__(self):
        self.looked_up = []
        self.is_stalled = Event()
        self._stalls = False
        self._genuine = socket.getaddrinfo
        self._read, self._write = os.pipe()
        self._at_last = Timer(8, self.go_on)

    def __call__(self, host, *rest, **options):
        self.looked_up.append(host)
        if self._stalls and host == "localhost":
            self.is_stalled.set()
            # In C, where Python runs no signal handler in this thread until it is over.
            ctypes.CDLL(None).read(self._read, ctypes.create_string_buffer(1), 1)
        return self._genuine(host, *rest, **options)

    def stall(self):
        self._stalls = True
        self._at_last.start()

    def go_on(self):
        self._at_last.cancel()
        self._stalls = False
        os.write(self._write, b"." * 100)


@pytest.fixture
def names(emulator, monkeypatch):
    """Name look-ups that can stall; the connection has a name."""
    by_name = emulator.url.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT, host=by_name))
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    yield names
    names.go_on()


@pytest.fixture
def on_signal():
    """A function that has a handler called in the main thread, as Airflow does with on_kill."""
    before = signal.getsignal(signal.SIGUSR1)

    def on_signal(handler):
        signal.signal(signal.SIGUSR1, lambda *_: handler())
        signal.siginterrupt(signal.SIGUSR1, False)  # as the C library's look-ups: they go on waiting

    yield on_signal
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("fault", [None, Fault(drop=True), Fault(status=503)], ids=["ok", "dropped", "503"])
def test_a_kill_needs_no_name_look_up(emulator, context, names, fault):
    """Nor does it where its first request fails and it has to connect again."""
    operator = run_operator()
    if fault is not None:
        emulator.inject(fault, call="cancel")

    with executing(operator, context) as result:
        wait_until(lambda: emulator.requests("get"))
        names.stall()
        began = time.monotonic()
        operator.on_kill()
        took = time.monotonic() - began
        live = emulator.live_runs()
        names.go_on()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert live == []
    assert took < 4


def test_a_kill_during_the_start_needs_none_either(emulator, context, names):
    """The cancel that follows the start's answer has what is left of five seconds."""
    operator = run_operator()
    emulator.inject(Fault(delay=0.3), call="start")

    with executing(operator, context) as result:
        wait_until(lambda: emulator.requests("start"))
        names.looked_up.clear()
        operator.on_kill()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert emulator.live_runs() == []
    assert "localhost" not in names.looked_up


def test_a_kill_while_a_polls_look_up_stalls_cancels(emulator, context, names, on_signal):
    """Python calls no signal handler while its main thread looks a name up."""
    operator, live = run_operator(), []
    on_signal(operator.on_kill)

    def kill():
        wait_until(lambda: emulator.requests("get"))
        names.stall()
        emulator.inject(Fault(drop=True), call="get")  # so the next poll connects anew
        names.is_stalled.wait(10)
        os.kill(os.getpid(), signal.SIGUSR1)
        # Until the cancel, or for as long as Airflow 3 leaves the process.
        end = time.monotonic() + 5
        while emulator.live_runs() and time.monotonic() < end:
            time.sleep(0.01)
        live.append(emulator.live_runs())
        names.go_on()

    thread = Thread(target=kill)
    thread.start()
    with pytest.raises(ENDS_KILLED):
        operator.execute(context)
    thread.join()

    assert live == [[]]


def test_no_start_is_sent_after_a_kill(emulator, context, names):
    """Its look-up may end just before the SIGKILL, which leaves no time to cancel the run."""
    operator = run_operator()
    names.stall()

    with executing(operator, context) as result:
        names.is_stalled.wait(10)
        operator.on_kill()
        names.go_on()
        with pytest.raises(ENDS_KILLED):
            result.result()

    assert emulator.requests("start") == []
    assert context["xcom"] == {}


def test_a_look_up_is_within_the_time_to_connect(names):
    """It ends the call, which may be sent again."""
    names.stall()
    with StablyHook().make_client(connect_timeout=0.3) as client:
        began = time.monotonic()
        with pytest.raises(StablyUnreachableError, match=r"cannot be reached \(TimeoutError\)") as caught:
            client.send_once(calls.get_run(PROJECT, "run"))

    assert time.monotonic() - began < 2
    assert not caught.value.request_sent

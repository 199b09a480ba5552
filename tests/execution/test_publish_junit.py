"""Writing JUnit XML holds no task up and changes no verdict."""

import math
import threading
import time
from contextlib import nullcontext

import pytest

from airflow_provider_stably.exceptions import StablyRunFailedError
from airflow_provider_stably.execution import publish_junit as module
from airflow_provider_stably.execution.publish_junit import publish_junit
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.interruption import Interrupted, interrupt_when
from tests.operators.run_operator import run_operator
from tests.runs.read_junit import outcomes, read_junit


@pytest.fixture
def never():
    """Make a document that does not come before the test is over."""
    over = threading.Event()
    yield lambda: over.wait() and b""
    over.set()


def _warning(caplog):
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    return record.getMessage()


def test_a_storage_that_hangs_is_not_waited_for(never, tmp_path, monkeypatch, caplog):
    """After a minute the task goes on with its verdict."""
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.3)

    publish_junit(str(tmp_path / "x.xml"), never, is_killed=lambda: False)

    assert "it took longer than" in _warning(caplog)


def test_a_killed_task_does_not_wait_for_its_file(never, tmp_path, caplog):
    """Airflow 3 kills the process five seconds after on_kill."""
    began = time.monotonic()

    publish_junit(str(tmp_path / "x.xml"), never, is_killed=lambda: time.monotonic() > began + 0.3)

    assert time.monotonic() - began < 4
    assert "the task was killed" in _warning(caplog)


def test_an_execution_timeout_meanwhile_keeps_the_verdict(never, tmp_path, monkeypatch, caplog):
    """The run was over in time: only its file is not there."""
    monkeypatch.setattr(module, "AirflowTaskTimeout", Interrupted)
    asked = threading.Event()

    with interrupt_when(asked.is_set):
        publish_junit(str(tmp_path / "x.xml"), lambda: asked.set() or never(), is_killed=lambda: False)

    assert "execution_timeout" in _warning(caplog)


def test_what_a_storage_raises_is_a_warning(tmp_path, caplog):
    """It names the file and the error."""

    def broken():
        raise RuntimeError("no such bucket")

    publish_junit(str(tmp_path / "x.xml"), broken, is_killed=lambda: False)

    assert _warning(caplog).endswith("x.xml: RuntimeError: no such bucket")


def test_what_a_template_rendered_is_told_on_one_line(tmp_path, caplog):
    """Nothing in a file's name, or in a storage's error, looks like another line of the log."""

    def broken():
        raise RuntimeError("no\nsuch bucket")

    for make in (bytes, broken):
        publish_junit(str(tmp_path / "x\n\x1b.xml"), make, is_killed=lambda: False)

    told = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    assert [line.rpartition("/")[2] for line in told] == [
        "x\\n\\x1b.xml",
        "x\\n\\x1b.xml: RuntimeError: no\\nsuch bucket",
    ]


def test_a_storage_that_is_not_reached_keeps_the_verdict(monkeypatch, caplog):
    """Also where Airflow is still looking it up when the execution_timeout is over."""

    def look_up(_):
        raise Interrupted

    monkeypatch.setattr(module, "AirflowTaskTimeout", Interrupted)
    monkeypatch.setattr(module, "ObjectStoragePath", look_up)

    publish_junit("s3://bucket/x.xml", bytes, is_killed=lambda: False)

    assert "execution_timeout" in _warning(caplog)


def test_a_rendered_relative_path_is_a_warning(tmp_path, monkeypatch, caplog):
    """Nobody would look for the file where that leads to."""
    monkeypatch.chdir(tmp_path)

    publish_junit("x.xml", bytes, is_killed=lambda: False)

    assert "absolute path" in _warning(caplog)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_reads_as_live_again_has_no_file(emulator, context, tmp_path, caplog):
    """A service with replicas may show an earlier status once more, without results."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["RUNNING"])
    run = {"run_id": run_id, "project_id": PROJECT, "status": "PASSED"}
    operator = run_operator(deferrable=True, junit_xml=str(tmp_path / "x.xml"))

    operator.execute_complete(context, {"end": "finished", "run": run})

    assert list(tmp_path.iterdir()) == []
    assert "is read as RUNNING again" in caplog.text


@pytest.mark.parametrize(("status", "is_written"), [("PASSED", False), ("FAILED", True)])
def test_results_that_cannot_be_read_are_not_empty(emulator, context, tmp_path, caplog, status, is_written):
    """A run that passed has no file then; one that failed has the verdict in it."""
    file = tmp_path / "x.xml"
    run = {"run_id": emulator.add_run(project_id=PROJECT), "project_id": PROJECT, "status": status}
    emulator.inject(Fault(status=404), times=math.inf)
    operator = run_operator(deferrable=True, junit_xml=str(file))

    with nullcontext() if status == "PASSED" else pytest.raises(StablyRunFailedError):
        operator.execute_complete(context, {"end": "finished", "run": run})

    assert file.exists() is is_written
    if is_written:
        assert outcomes(read_junit(file.read_bytes())) == {"Stably run": "error"}
    else:
        assert f"The JUnit XML was not written to {file}: StablyNotFoundError" in caplog.text

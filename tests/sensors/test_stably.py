"""One look of the sensor, against the emulator."""

import math

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_stably.execution import watch_run
from airflow_provider_stably.execution.watch_run import WatchRun
from airflow_provider_stably.sensors.stably import StablyRunSensor
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT


@pytest.fixture
def sensor(emulator):
    """A sensor on a run that passed."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    return StablyRunSensor(task_id="wait", run_id=run_id, poke_interval=0.01)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=500), id="500"),
        pytest.param(Fault(drop=True), id="dropped"),
        pytest.param(Fault(body="<html>"), id="HTML"),
    ],
)
def test_a_look_that_fails_in_passing_is_not_over_yet(emulator, sensor, context, fault):
    """The sensor looks again at its next turn."""
    emulator.inject(fault, times=10)

    first = sensor.poke(context)
    emulator.heal()
    second = sensor.poke(context)

    assert (bool(first), bool(second)) == (False, True)


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_is_believed_when_seen_twice(emulator, sensor, context, status):
    """One 401 or 404 may pass: the key was rotated, or the API is just waking up."""
    emulator.inject(Fault(status=status))
    passed = sensor.poke(context)
    emulator.inject(Fault(status=status), times=math.inf)

    with pytest.raises(AirflowFailException, match=str(status)):
        sensor.poke(context)

    assert passed


@pytest.mark.parametrize(("mode", "pause"), [("poke", 45.0), ("reschedule", 2.0)])
def test_a_refusal_that_passes_in_a_moment_is_not_believed(emulator, context, monkeypatch, mode, pause):
    """The second look comes when the next poke would; rescheduled, that would not know of this one."""
    monkeypatch.setattr(watch_run, "SHORTEST_DELAY_SECONDS", 2.0)
    run_id = emulator.add_run(project_id=PROJECT)
    sensor = StablyRunSensor(task_id="wait", run_id=run_id, mode=mode, poke_interval=45)
    emulator.inject(Fault(status=404), times=math.inf)
    pauses = []

    def pass_by(seconds):
        pauses.append(seconds)
        emulator.heal()

    sensor._execution = WatchRun("stably_default", sensor.log, sleep=pass_by)

    assert not sensor.poke(context)
    assert pauses == [pause]


def test_a_key_that_is_rotated_between_two_looks_is_taken_up(emulator, sensor, context, monkeypatch):
    """After a 401 the connection is looked up anew."""
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT, password="old"))
    rotated = emulator.connection(login=PROJECT)

    def rotate(_):
        monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", rotated)

    sensor._execution = WatchRun("stably_default", sensor.log, sleep=rotate)

    assert sensor.poke(context)


def test_a_connection_that_cannot_be_read_again_is_kept(emulator, sensor, context, monkeypatch):
    """A secrets backend that fails for a moment does not make a passing 401 final."""
    emulator.inject(Fault(status=401))

    def lose_connection(_):
        monkeypatch.delenv("AIRFLOW_CONN_STABLY_DEFAULT")

    sensor._execution = WatchRun("stably_default", sensor.log, sleep=lose_connection)

    assert sensor.poke(context)


def test_a_rendered_nothing_is_told_of_once_a_poke(emulator, context, caplog):
    """The log of a sensor that waits for hours is not filled with one warning."""
    run_id = emulator.add_run(project_id=PROJECT)
    sensor = StablyRunSensor(task_id="wait", run_id=run_id, project_id="None")

    sensor.poke(context)

    assert caplog.text.count("rendered by a template") == 1


@pytest.mark.parametrize("run_id", [["run-1"], {"run_id": "run-1"}, "None"], ids=repr)
def test_what_names_no_run_fails_for_good(emulator, context, run_id):
    """A whole summary in place of its run_id is told of, and sends nothing."""
    sensor = StablyRunSensor(task_id="wait", run_id=run_id)

    with pytest.raises(AirflowFailException, match="run"):
        sensor.poke(context)

    assert emulator.requests() == []


def test_an_event_that_cannot_be_read_fails_for_good_and_cancels_nothing(emulator, sensor, context):
    """The sensor did not start the run."""
    with pytest.raises(AirflowFailException, match="event cannot be read"):
        sensor.execute_complete(context, {"end": "exploded"})

    assert emulator.requests() == []


def test_a_subclass_may_set_the_run_at_each_look(emulator, sensor, context):
    """What run is meant is read anew at each look."""
    sensor.poke(context)
    sensor.run_id = emulator.add_run(project_id=PROJECT)

    assert not sensor.poke(context)

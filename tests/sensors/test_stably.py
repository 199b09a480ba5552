"""One look of the sensor, against the emulator."""

import math

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_stably.sensors.stably import StablyRunSensor
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT


@pytest.fixture
def sensor(emulator):
    """A sensor on a run that passed."""
    return StablyRunSensor(task_id="wait", run_id=emulator.add_run(project_id=PROJECT, statuses=["PASSED"]))


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

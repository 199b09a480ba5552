"""Every status, known and unknown, with and without results, through operator, trigger and sensor."""

import math
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_stably.api.models import RunStatus
from airflow_provider_stably.exceptions import (
    StablyRunCancelledError,
    StablyRunFailedError,
    StablyRunTimeoutError,
)
from airflow_provider_stably.operators.stably import StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor
from airflow_provider_stably.testing import Fault
from airflow_provider_stably.triggers.stably import StablyRunTrigger
from tests.constants import PROJECT

RESULTS = {
    "no results": None,
    "all passed": {"testCases": [{"title": "a", "status": "PASSED"}]},
    "one failed": {"testCases": [{"title": "a", "status": "FAILED"}]},
}
STATUSES = [*RunStatus, "MELTED"]


def _verdict(status, results):
    """The result that the status rule gives: green, live, or the error's class."""
    if status == "PASSED":
        return "green"
    if status in {"QUEUED", "RUNNING"} or (status == "MELTED" and results is None):
        return "live"
    return StablyRunCancelledError if status == "CANCELLED" else StablyRunFailedError


@pytest.fixture(params=STATUSES)
def status(request):
    """A status as the API says it."""
    return str(request.param)


@pytest.fixture(params=RESULTS.values(), ids=RESULTS)
def verdict(request, emulator, status):
    """The expected result of a run with this answer of the API, whoever asks."""
    answer = {"status": status} if request.param is None else {"status": status, "results": request.param}
    emulator.inject(Fault(body=answer), call="get", times=math.inf)
    return _verdict(status, request.param)


def _seen(act):
    """Do something and return the result that came of it."""
    try:
        act()
    except StablyRunTimeoutError:
        return "live"
    except AirflowFailException as error:
        return type(error.__context__)
    except StablyRunFailedError as error:
        return type(error)
    return "green"


def test_the_operators_verdict(verdict, context):
    """The operator on the worker sees what the status rule says."""
    operator = StablyRunTestsOperator(task_id="run", deferrable=False, timeout=0.02, poll_interval=0.01)

    assert _seen(lambda: operator.execute(context)) == verdict


async def test_the_triggers_verdict(verdict, emulator, context):
    """The trigger gives the same result, and the operator passes it on unchanged."""
    trigger = StablyRunTrigger(
        run_id=emulator.add_run(project_id=PROJECT),
        project_id=PROJECT,
        stably_conn_id="stably_default",
        started_at=time.time(),
        deadline=time.time() + 0.02,
        poll_interval=0.01,
        cancel_on_kill=True,
    )

    [event] = [event async for event in trigger.run()]

    operator = StablyRunTestsOperator(task_id="run")
    assert _seen(lambda: operator.execute_complete(context, event.payload)) == verdict


def test_the_sensors_verdict(verdict, emulator, context):
    """The sensor gives the same result; no end of a run is retried, as polling again would not change it."""
    sensor = StablyRunSensor(task_id="wait", run_id=emulator.add_run(project_id=PROJECT))
    looked = []

    seen = _seen(lambda: looked.append(sensor.poke(context)))

    assert seen == ("green" if verdict == "live" else verdict)
    assert [bool(poked) for poked in looked] == {"green": [True], "live": [False]}.get(verdict, [])

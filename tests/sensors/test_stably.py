"""One poke of the sensor, against the emulator."""

import logging
import math
import time
from datetime import UTC, datetime
from threading import Timer

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_stably.exceptions import StablyConfigError, StablyRunLostError, find_run_error
from airflow_provider_stably.execution.watch_run import WatchRun
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary
from airflow_provider_stably.runs.watch_result import WatchEnd, WatchResult
from airflow_provider_stably.sensors.stably import StablyRunSensor
from airflow_provider_stably.tasks.deadline import TRIGGER_FAILED
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
def test_a_failed_poll_means_not_over_yet(emulator, sensor, context, fault):
    """The sensor polls again at its next poke."""
    emulator.inject(fault, times=10)

    first = sensor.poke(context)
    emulator.heal()
    second = sensor.poke(context)

    assert (bool(first), bool(second)) == (False, True)


@pytest.mark.parametrize(
    ("status", "error"), [(401, StablyRunLostError), (403, StablyRunLostError), (404, AirflowFailException)]
)
def test_a_refusal_is_believed_when_it_lasts(emulator, sensor, context, status, error):
    """A 401 or 404 may pass: the key was rotated, or the service has a bad day. A refusal may be retried."""
    clock = [1000.0]
    sensor._execution = WatchRun("stably_default", sensor.log, now=lambda: clock[0])
    emulator.inject(Fault(status=status), times=math.inf)

    pokes = [sensor.poke(context) for _ in range(4)]
    clock[0] += 1000

    assert not any(pokes)
    with pytest.raises(error, match=str(status)):
        sensor.poke(context)


@pytest.mark.parametrize("end", ["timed_out", "denied", "not_found"])
def test_what_a_triggerer_did_not_see_is_polled(emulator, context, end):
    """A triggerer may not reach the API, or have an old key: the worker polls before the sensor fails."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    sensor = StablyRunSensor(task_id="wait", run_id=run_id, deferrable=True)
    event = {"end": end, "run": {"run_id": run_id, "project_id": PROJECT}, "detail": "?"}

    assert sensor.execute_complete(context, event)["status"] == "PASSED"


@pytest.mark.parametrize("end", ["denied", "not_found"])
def test_a_run_that_is_live_after_all_is_watched_on(emulator, context, end):
    """What the triggerer believed is no longer so: the sensor pokes on instead of failing."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["RUNNING", "RUNNING", "PASSED"])
    sensor = StablyRunSensor(task_id="wait", run_id=run_id, deferrable=True, poke_interval=0.01)
    event = {"end": end, "run": {"run_id": run_id, "project_id": PROJECT}, "detail": "?"}
    context["ti"].start_date = datetime.now(UTC)

    assert sensor.execute_complete(context, event)["status"] == "PASSED"


@pytest.mark.parametrize("how", ["soft_fail", "never_fail"])
def test_a_deferred_refusal_skips_a_soft_sensor(context, how):
    """What may be retried is skipped, too, where a sensor is to fail softly."""
    sensor = StablyRunSensor(task_id="wait", run_id="r1", deferrable=True, **{how: True})
    event = {"end": "denied", "run": {"run_id": "r1", "project_id": PROJECT}, "detail": "403"}

    with pytest.raises(AirflowSkipException):
        sensor.resume_execution("execute_complete", {"event": event}, context)


@pytest.mark.parametrize("status", [401, 404])
def test_a_rescheduled_sensor_believes_no_refusal(emulator, context, status):
    """Each poke is a process of its own there, and knows nothing of the one before."""
    run_id = emulator.add_run(project_id=PROJECT)
    emulator.inject(Fault(status=status), times=math.inf)

    pokes = [
        StablyRunSensor(task_id="wait", run_id=run_id, mode="reschedule").poke(context) for _ in range(3)
    ]

    assert not any(pokes)


def test_a_run_that_is_over_is_not_deferred(emulator, context):
    """The sensor polls before it leaves the wait to the triggerer."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    sensor = StablyRunSensor(task_id="wait", run_id=run_id, deferrable=True)

    assert sensor.execute(context)["status"] == "PASSED"


def test_a_slow_first_look_is_within_the_timeout(emulator, context):
    """The deferred wait has what the look left of it."""
    emulator.inject(Fault(delay=0.5), call="get")
    sensor = StablyRunSensor(task_id="wait", run_id=emulator.add_run(project_id=PROJECT), deferrable=True)
    sensor.timeout = 60
    began = time.time()

    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)

    assert deferred.value.trigger.deadline == pytest.approx(began + 60, abs=0.4)


@pytest.mark.parametrize("start_date", [datetime.now(UTC), None], ids=["", "as in dag.test() of 2.11"])
def test_a_run_that_is_handed_back_is_watched_here(emulator, context, start_date):
    """Where the triggerer cannot reach the API, the worker goes on."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["RUNNING", "PASSED"])
    sensor = StablyRunSensor(task_id="wait", run_id=run_id, deferrable=True, poke_interval=0.01)
    event = {"end": "handed_back", "run": {"run_id": run_id, "project_id": PROJECT}, "detail": "no trust"}
    context["ti"].start_date = start_date

    assert sensor.execute_complete(context, event)["status"] == "PASSED"


def test_a_run_that_is_handed_back_outlasts_a_proxys_404(emulator, context):
    """The first look may have been answered, so a page that says 404 is none of the API's."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    sensor = StablyRunSensor(task_id="wait", run_id=run_id, deferrable=True, poke_interval=0.01)
    event = {"end": "handed_back", "run": {"run_id": run_id, "project_id": PROJECT}, "detail": "no trust"}
    emulator.inject(Fault(status=404, body="<html>"), times=math.inf)
    healing = Timer(0.5, emulator.heal)
    healing.start()

    assert sensor.execute_complete(context, event)["status"] == "PASSED"


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_run_that_is_handed_back_keeps_its_timeout(emulator, context, mode):
    """What the triggerer has waited counts, and a sensor to be rescheduled does not defer again and again."""
    run_id = emulator.add_run(project_id=PROJECT)
    sensor = StablyRunSensor(
        task_id="wait", run_id=run_id, deferrable=True, mode=mode, timeout=60, poke_interval=0.01
    )
    event = {"end": "handed_back", "run": {"run_id": run_id, "project_id": PROJECT}, "detail": "no trust"}
    event["deadline"] = time.time() + 0.2
    context["ti"].start_date = datetime.now(UTC)  # Airflow 3.0 and 3.1 begin the task anew

    with pytest.raises(AirflowSensorTimeout):
        sensor.execute_complete(context, event)


@pytest.mark.parametrize("failure", ["Trigger timeout", "Trigger failure"])
def test_a_lost_triggers_run_is_polled(emulator, context, failure):
    """No triggerer was alive, or it crashed; that says nothing of the run."""
    run_id = emulator.add_run(project_id=PROJECT)
    sensor = StablyRunSensor(task_id="wait", run_id=run_id, deferrable=True)

    with pytest.raises(Exception, match=failure):
        sensor.resume_execution(TRIGGER_FAILED, {"error": failure}, context)
    emulator.runs[run_id].statuses = ["FAILED"]
    with pytest.raises(AirflowFailException, match="FAILED"):
        sensor.resume_execution(TRIGGER_FAILED, {"error": failure}, context)
    emulator.runs[run_id].statuses = ["PASSED"]

    assert sensor.resume_execution(TRIGGER_FAILED, {"error": failure}, context)["status"] == "PASSED"


def test_a_lost_triggers_connection_may_be_missing(emulator, context, hide_connection):
    """Then Airflow's own error stays."""
    run_id = emulator.add_run(project_id=PROJECT)
    sensor = StablyRunSensor(task_id="wait", run_id=run_id, project_id=PROJECT, deferrable=True)
    hide_connection(times=9)

    with pytest.raises(Exception, match="Trigger timeout"):
        sensor.resume_execution(TRIGGER_FAILED, {"error": "Trigger timeout"}, context)


def test_a_rotated_key_is_used_at_the_next_poke(emulator, sensor, context, monkeypatch):
    """After a 401 the connection is read again."""
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT, password="old"))
    before = sensor._execution._hook.client
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT))

    first = sensor.poke(context)

    assert not first
    assert sensor._execution._hook.client is not before
    assert sensor.poke(context)


def test_a_connection_is_kept_if_it_cannot_be_reread(emulator, sensor, context, monkeypatch):
    """A secrets backend that fails for a moment does not make a passing 401 final."""
    emulator.inject(Fault(status=401))
    assert sensor._execution._hook.client
    monkeypatch.delenv("AIRFLOW_CONN_STABLY_DEFAULT")

    first = sensor.poke(context)

    assert not first
    assert sensor.poke(context)


def test_a_rendered_none_is_logged_once_a_poke(emulator, context, caplog):
    """The log of a sensor that waits for hours is not filled with one warning."""
    run_id = emulator.add_run(project_id=PROJECT)
    sensor = StablyRunSensor(task_id="wait", run_id=run_id, project_id="None")

    sensor.poke(context)

    assert caplog.text.count("rendered by a template") == 1


@pytest.mark.parametrize("run_id", [["run-1", "run-2"], {"run": "run-1"}, "None"], ids=repr)
def test_what_names_no_run_fails_for_good(emulator, context, run_id):
    """None, several runs or a mapping without a run_id send nothing."""
    sensor = StablyRunSensor(task_id="wait", run_id="{{ params.run_id }}")
    sensor.run_id = run_id  # as Airflow renders it

    with pytest.raises(AirflowFailException, match="run"):
        sensor.poke(context)

    assert emulator.requests() == []


def test_an_unreadable_event_fails_and_cancels_nothing(emulator, sensor, context):
    """The sensor did not start the run."""
    with pytest.raises(AirflowFailException, match="event cannot be read"):
        sensor.execute_complete(context, {"end": "exploded"})

    assert emulator.requests() == []


def test_a_deferred_timeout_leads_to_the_run(emulator, sensor, context):
    """Airflow's own error for it, by which callbacks know a timeout, has the run's summary behind it."""
    run = {"run_id": emulator.add_run(project_id=PROJECT), "project_id": PROJECT, "status": "RUNNING"}

    with pytest.raises(AirflowSensorTimeout) as caught:
        sensor.execute_complete(context, {"end": "timed_out", "run": run})

    assert find_run_error(caught.value).run == context["xcom"]["summary"]


def test_a_subclass_may_set_the_run_at_each_poke(emulator, sensor, context):
    """The run id is read again at each poke."""
    sensor.poke(context)
    sensor.run_id = emulator.add_run(project_id=PROJECT)

    assert not sensor.poke(context)


@pytest.mark.parametrize(
    ("manner", "error"),
    [
        ({}, StablyConfigError),
        ({"soft_fail": True}, StablyConfigError),
        ({"never_fail": True}, AirflowSkipException),
    ],
    ids=["default", "soft_fail", "never_fail"],
)
def test_an_undefined_connection_may_be_retried(context, manner, error):
    """Airflow says "not defined" of a failing secrets backend, too; the operators are retried then."""
    sensor = StablyRunSensor(task_id="wait", run_id="abc", stably_conn_id="nope", **manner)

    with pytest.raises(error, match=r"^Airflow connection 'nope' is not defined"):
        sensor.execute(context)


@pytest.mark.parametrize("deferrable", [False, True], ids=["here", "deferrable"])
def test_silent_fail_pokes_on_without_a_connection(emulator, context, monkeypatch, deferrable):
    """As Airflow has it, an error that may pass is logged; the run's page is made known once it can be."""
    monkeypatch.delenv("AIRFLOW_CONN_STABLY_DEFAULT")

    class LateConnectionSensor(StablyRunSensor):
        """Has its connection from the second poke on."""

        def poke(self, context):
            try:
                return super().poke(context)
            finally:
                monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT))

    run_id = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    sensor = LateConnectionSensor(
        task_id="wait", run_id=run_id, silent_fail=True, poke_interval=0.01, deferrable=deferrable
    )

    assert sensor.execute(context)["status"] == "PASSED"
    assert run_id in context["xcom"]["run_url"]


def test_a_run_that_is_handed_back_is_watched_on(emulator, context, monkeypatch, caplog):
    """The worker had its connection before it deferred, so one that is not defined now is waited for."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    run = RunSummary.of(RunReference(run_id, PROJECT), None)
    event = WatchResult(WatchEnd.HANDED_BACK, run, "the certificate is not trusted").to_event()
    context["ti"].start_date = datetime.now(UTC)
    connection = emulator.connection(login=PROJECT)
    monkeypatch.delenv("AIRFLOW_CONN_STABLY_DEFAULT")
    sensor = StablyRunSensor(task_id="wait", run_id=run_id, project_id=PROJECT, poke_interval=0.01)
    sensor._execution._log = logging.getLogger("a task's")  # whose own caplog does not see
    poke, pokes = sensor.poke, []

    def poke_and_mend(context):
        pokes.append(poke(context))
        monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", connection)
        return pokes[-1]

    monkeypatch.setattr(sensor, "poke", poke_and_mend)
    summary = sensor.execute_complete(context, event)

    assert [bool(poked) for poked in pokes] == [False, True]
    assert summary["status"] == "PASSED"
    assert f"The triggerer could not watch run {run_id}, so the worker does: the certificate" in caplog.text
    assert "is not defined: add a connection of type 'stably'; looking again at the next poke" in caplog.text


def test_silent_fail_hides_no_wrong_field(emulator, context, monkeypatch):
    """A connection that can never be used fails the sensor for good, as poke's fatal errors do."""
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT, password=""))
    sensor = StablyRunSensor(task_id="wait", run_id="abc", silent_fail=True)

    with pytest.raises(AirflowFailException, match="password"):
        sensor.execute(context)

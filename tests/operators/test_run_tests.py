"""How the run operator leaves no run behind, against the emulator; Airflow's edges are stand-ins."""

import json
import math

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, TaskDeferred

from airflow_provider_stably.exceptions import StablyRunFailedError
from airflow_provider_stably.tasks.deadline import TRIGGER_FAILED
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.interruption import interrupt_when
from tests.operators.run_operator import run_operator
from tests.waiting import wait_until


def test_a_run_that_cannot_be_made_known_is_cancelled(emulator, context):
    """If pushing to XCom fails, nobody could find the run."""
    context["ti"].xcom_push.side_effect = RuntimeError("no XCom today")

    for arguments in ({}, {"wait_for_completion": False}, {"deferrable": True}):
        with pytest.raises(RuntimeError, match="no XCom today"):
            run_operator(**arguments).execute(context)

    assert len(emulator.runs) == 3
    assert emulator.live_runs() == []


def test_deferring_leaves_the_run_to_the_trigger(emulator, context):
    """The run goes on, and the trigger gets what it needs, in plain JSON, without a secret."""
    with pytest.raises(TaskDeferred) as deferred:
        run_operator(deferrable=True, timeout=100).execute(context)

    path, kwargs = deferred.value.trigger.serialize()
    [run_id] = emulator.live_runs()
    assert path == "airflow_provider_stably.triggers.stably.StablyRunTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert (kwargs["run_id"], kwargs["project_id"], kwargs["poll_interval"]) == (run_id, PROJECT, 0.02)
    assert kwargs["deadline"] - kwargs["started_at"] == 100
    assert deferred.value.timeout.total_seconds() == pytest.approx(1000, abs=5)


def test_without_cancel_on_kill_runs_are_left_alone(emulator, context):
    """cancel_on_kill=False only watches, whatever ends that; without a store it is not tried again."""
    operator = run_operator(cancel_on_kill=False)

    with (
        interrupt_when(lambda: emulator.requests("get")),
        pytest.raises(AirflowFailException, match="running"),
    ):
        operator.execute(context)
    with pytest.raises(Exception, match="left alone"):
        run_operator(cancel_on_kill=False, timeout=0.05).execute(context)
    operator.on_kill()
    with pytest.raises(AirflowFailException, match=r"trigger .* lost.* may still be running"):
        operator.resume_execution(TRIGGER_FAILED, {"error": "boom"}, context)

    assert len(emulator.live_runs()) == 2
    assert not operator.on_failure_callback


@pytest.mark.parametrize(
    "next_kwargs", [{"error": "Trigger timeout"}, {"error": "Trigger failure"}, None], ids=repr
)
def test_a_lost_trigger_cancels_the_run_in_xcom(emulator, context, next_kwargs):
    """After a deferral timeout or a crash of the trigger nobody watches any more."""
    operator = run_operator(deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(context)

    with pytest.raises(Exception, match=r"Trigger|Unknown"):
        run_operator(deferrable=True).resume_execution(TRIGGER_FAILED, next_kwargs, context)

    assert emulator.live_runs() == []


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_a_lost_triggers_run_that_has_passed_is_a_success(emulator, context, cancel_on_kill):
    """Nothing is red that passed: Airflow gives up where no triggerer is alive, too."""
    emulator.run_seconds = 0.05
    operator = run_operator(deferrable=True, playwright_project_name="passes", cancel_on_kill=cancel_on_kill)
    with pytest.raises(TaskDeferred):
        operator.execute(context)
    wait_until(lambda: not emulator.live_runs())

    returned = operator.resume_execution(TRIGGER_FAILED, {"error": "timeout"}, context)

    assert returned["status"] == context["xcom"]["summary"]["status"] == "PASSED"


def test_a_lost_triggers_run_that_has_failed_is_a_failed_run(emulator, context):
    """The error says which tests failed, and not that Airflow gave up."""
    emulator.run_seconds = 0.05
    with pytest.raises(TaskDeferred):
        run_operator(deferrable=True, playwright_project_name="fails").execute(context)
    wait_until(lambda: not emulator.live_runs())

    with pytest.raises(StablyRunFailedError, match="FAILED"):
        run_operator(deferrable=True).resume_execution(TRIGGER_FAILED, {"error": "timeout"}, context)


@pytest.mark.parametrize("next_method", ["execute_complete", TRIGGER_FAILED])
def test_a_retry_that_is_resumed_starts_anew(emulator, context, next_method):
    """Airflow 3.0 gives a retry the event of the try before; it is not taken for that of its own run."""
    with pytest.raises(TaskDeferred):
        run_operator(deferrable=True).execute(context)
    [first] = emulator.runs
    emulator.runs[first].statuses = ["FAILED"]
    context["ti"].try_number = 2

    with pytest.raises(TaskDeferred):
        run_operator(deferrable=True).resume_execution(next_method, {"event": {"stale": True}}, context)

    assert len(emulator.requests("start")) == len(emulator.runs) == 2
    assert context["xcom"]["stably_run"]["try_number"] == 2


def test_an_unreadable_event_cancels_and_is_final(emulator, context):
    """An event is checked before it is believed: it crossed a database."""
    with pytest.raises(TaskDeferred):
        run_operator(deferrable=True).execute(context)

    with pytest.raises(AirflowFailException, match="event cannot be read"):
        run_operator().execute_complete(context, {"end": "exploded"})

    assert emulator.live_runs() == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({name: wrong}, f"{name} is a number of seconds")
        for name in ("timeout", "poll_interval")
        for wrong in (0, -1, math.nan, math.inf, "30", True, None)
    ],
)
def test_senseless_arguments_fail_the_dags_parse(arguments, problem):
    """What is not templated is checked when the DAG is parsed."""
    with pytest.raises(ValueError, match=problem):
        run_operator(**arguments)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ("A=1", "is a mapping of names to values, not str"),
        (["A"], "is a mapping of names to values, not list"),
        ({"A": ["hush"]}, "the value of 'A' is list, not text"),
        ({"A": None}, "the value of 'A' is None, not text"),
    ],
)
def test_unusable_env_overrides_fail_the_dags_parse(overrides, problem):
    """What no template can mend is an error before anything runs, and shows no value."""
    with pytest.raises(ValueError, match=f"env_overrides.*{problem}") as caught:
        run_operator(env_overrides=overrides)

    assert "hush" not in str(caught.value)


def test_env_overrides_may_be_templates_or_outputs():
    """A template or a task's output is read when the task runs, as a whole or as a value."""
    with DAG("overrides", schedule=None):
        start = run_operator(task_id="start")
        for number, overrides in enumerate(
            [
                "{{ params.env }}",
                start.output,
                {"A": start.output["run_url"], "B": "{{ ds }}", "C": 1},
                "",
                None,
            ]
        ):
            run_operator(task_id=f"run_{number}", env_overrides=overrides)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"env_overrides": "{'A': 1}"}, "env_overrides is a mapping of .*; one template for all of it needs"),
        ({"playwright_project_name": ["a"]}, "playwright_project_name is neither"),
        ({"branch": {"a": 1}}, "branch is neither"),
        ({"environment": True}, "environment is neither"),
        ({"project_id": "a/b"}, "not a Stably project id"),
    ],
)
def test_bad_arguments_fail_for_good_and_start_nothing(emulator, context, arguments, problem):
    """One clear error, no request, no retry, where a template came to what cannot be sent."""
    operator = run_operator()
    vars(operator).update(arguments)

    with pytest.raises(AirflowFailException, match=problem):
        operator.execute(context)

    assert emulator.requests() == []


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "?"}, AirflowFailException),
        (422, {"error": "?"}, AirflowFailException),
        (400, "<html>", None),
        (429, "", None),
    ],
)
def test_a_start_is_retried_only_if_the_api_says_so(emulator, context, status, body, kind):
    """A no for good is not asked again by the task's retries; a front end's page is none."""
    emulator.inject(Fault(status=status, body=body), call="start", times=math.inf)

    with pytest.raises(Exception, match=str(status)) as caught:
        run_operator().execute(context)

    assert isinstance(caught.value, AirflowFailException) is (kind is AirflowFailException)
    assert caught.value.__cause__ is None  # Airflow would log its text a second time
    assert caught.value.__context__ is not caught.value  # a log that follows causes would never end


@pytest.mark.parametrize("status", [429, 503])
def test_a_start_that_was_turned_away_does_not_use_the_runs_time_up(emulator, context, status):
    """The run is as old as the start that was accepted, however long the API was busy before."""
    emulator.run_seconds = 0.1
    emulator.inject(Fault(status=status, headers={"Retry-After": "1"}), call="start")

    assert run_operator(playwright_project_name="passes", timeout=0.9).execute(context)["status"] == "PASSED"

    assert emulator.requests("cancel") == []

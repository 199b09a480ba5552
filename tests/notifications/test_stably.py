"""The notifier's requests to Stably for a given context; on a real Airflow: see the file beside."""

import asyncio
import json
import logging
import math
import socket
import time
from contextlib import suppress
from threading import Event

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseOperator

from airflow_provider_stably.api.calls import run_url
from airflow_provider_stably.exceptions import StablyRunFailedError
from airflow_provider_stably.execution import callback_budget
from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.testing import Fault, StablyEmulator
from tests.constants import KEY, PROJECT
from tests.notifications.started import started


def _arguments(notifier):
    """Return what an instance holds besides the logger that Airflow gives it."""
    return {name: value for name, value in vars(notifier).items() if name != "_log"}


@pytest.fixture
def dag_context(context, monkeypatch):
    """The context of a DAG's callback in the dag processor: an arbitrary task instance, and a reason."""
    with suppress(ImportError):  # Airflow 2.11 has no supervisor
        from airflow.sdk.execution_time import task_runner

        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", None, raising=False)
    return {**context, "reason": "task_failure"}


def test_by_default_a_task_cancels_its_own_run(emulator, context):
    """Without arguments the run of the failing task goes, and no other."""
    context["xcom"]["run", "stably_run"] = started(emulator)
    other = emulator.add_run(project_id=PROJECT)

    StablyCancelRunNotifier()(context)

    assert emulator.live_runs() == [other]


def test_one_instance_serves_many_tasks(emulator, context):
    """In default_args one instance cancels each task's own run, and keeps nothing of the one before."""
    notifier = StablyCancelRunNotifier()
    before = _arguments(notifier)

    for task_id in ("one", "two"):
        context["ti"].task_id = task_id
        context["xcom"][task_id, "stably_run"] = started(emulator)
        notifier(context)

    assert emulator.live_runs() == []
    assert len(emulator.requests("cancel")) == 2
    assert _arguments(notifier) == before


def test_a_run_of_another_try_is_left_alone(emulator, context):
    """A callback that comes after the next try has started does not cancel that try's run."""
    context["xcom"]["run", "stably_run"] = started(emulator, try_number=2)

    StablyCancelRunNotifier()(context)

    assert len(emulator.live_runs()) == 1


def test_a_task_that_saw_its_run_end_asks_for_nothing(emulator, context):
    """A red task whose run FAILED has nothing to cancel."""
    context["xcom"]["run", "stably_run"] = started(emulator)

    StablyCancelRunNotifier()({**context, "exception": StablyRunFailedError("over", run={})})

    assert emulator.requests() == []


def test_it_cancels_although_the_task_itself_would_not(emulator, context):
    """Whoever attaches the notifier wants it: cancel_on_kill=False speaks of what the task does by itself."""
    context["xcom"]["run", "stably_run"] = started(emulator, cancel_on_kill=False)

    StablyCancelRunNotifier()(context)

    assert emulator.live_runs() == []


@pytest.mark.parametrize("level", ["context", "dag_context"], ids=["task", "DAG"])
def test_named_tasks_runs_are_cancelled(emulator, request, level):
    """Plain and mapped tasks, each run in its own project and by its own connection; others stay."""
    context = request.getfixturevalue(level)
    context["xcom"]["start", "stably_run"] = started(emulator, project_id="another-project")
    context["xcom"]["start_many", "stably_run"] = [started(emulator), None, started(emulator)]
    other = emulator.add_run(project_id=PROJECT)

    StablyCancelRunNotifier(task_ids=["start", "start_many"])(context)

    assert emulator.live_runs() == [other]


def test_a_task_group_means_all_its_tasks(emulator, context):
    """A group's id names the tasks in it, with their dotted ids."""
    from airflow.providers.common.compat.sdk import TaskGroup

    with DAG("grouped") as context["dag"], TaskGroup("suites"):
        BaseOperator(task_id="smoke")
        BaseOperator(task_id="load")
    context["task"] = context["dag"].get_task("suites.smoke")
    for task_id in ("suites.smoke", "suites.load"):
        context["xcom"][task_id, "stably_run"] = started(emulator)

    StablyCancelRunNotifier(task_ids="suites")(context)

    assert len(emulator.requests("cancel")) == 2
    assert emulator.live_runs() == []


def test_each_run_is_cancelled_with_its_own_key(emulator, context, monkeypatch):
    """A run that was started with another connection is cancelled by that one."""
    with StablyEmulator(api_key="another-key") as other:
        monkeypatch.setenv("AIRFLOW_CONN_STABLY_OTHER", other.connection())
        context["dag"].get_task("start").stably_conn_id = "stably_other"
        context["xcom"]["start", "stably_run"] = started(other, stably_conn_id="stably_other")
        context["xcom"]["start_many", "stably_run"] = [started(emulator)]

        StablyCancelRunNotifier(task_ids=["start", "start_many"])(context)

        assert (emulator.live_runs(), other.live_runs()) == ([], [])


def test_a_bad_connection_stops_no_other_cancelling(emulator, context, caplog):
    """What one connection's runs lack does not keep the others from being cancelled."""
    context["dag"].get_task("start").stably_conn_id = "not_there"
    context["xcom"]["start", "stably_run"] = started(emulator, stably_conn_id="not_there")
    context["xcom"]["start_many", "stably_run"] = started(emulator)

    StablyCancelRunNotifier(task_ids=["start", "start_many"])(context)

    assert emulator.live_runs() == [context["xcom"]["start", "stably_run"]["run_id"]]
    assert "not_there" in caplog.text


def test_the_default_project_is_looked_up_again(emulator, context, hide_connection):
    """Runs that are named by id need the connection's; a secrets backend may fail for a moment."""
    run_id = emulator.add_run(project_id=PROJECT)
    hide_connection(times=2)

    StablyCancelRunNotifier(run_ids=run_id)(context)

    assert emulator.status(run_id) == "CANCELLED"


def test_named_runs_are_rendered_on_a_copy(emulator, context):
    """Templates see the context as it is - its own run_id, too - and the next call renders afresh."""
    run_ids = [emulator.add_run(project_id="elsewhere") for _ in range(2)]
    notifier = StablyCancelRunNotifier(run_ids="{{ stably_runs }} ", project_id="{{ where }}")

    notifier({**context, "stably_runs": run_ids[0], "run_id": "manual__1", "where": "elsewhere"})
    notifier({**context, "stably_runs": json.dumps(run_ids[1:]), "run_id": "manual__2", "where": "elsewhere"})

    assert emulator.live_runs() == []
    assert notifier.run_ids == "{{ stably_runs }} "


def test_a_template_that_fails_stops_no_other_cancel(emulator, context, caplog):
    """One task that pushed nothing to take an id from does not keep the run of another one going."""
    run_id = emulator.add_run(project_id=PROJECT)
    run_ids = ["{{ missing['run_id'] }}", "{{ pushed['run_id'] }}"]

    StablyCancelRunNotifier(run_ids=run_ids)({**context, "missing": None, "pushed": {"run_id": run_id}})

    assert emulator.live_runs() == []
    assert "{{ missing['run_id'] }}" in caplog.text


@pytest.mark.parametrize("run_ids", ["None", "", [], "{{ ti.task_id and None }}"], ids=repr)
def test_nothing_named_is_nothing_to_cancel(emulator, context, run_ids, caplog):
    """A missing XCom, which Jinja renders as 'None', sends no request and warns of nothing."""
    StablyCancelRunNotifier(run_ids=run_ids)(context)

    assert emulator.requests() == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "arguments",
    [{}, {"task_ids": "strat"}, {"run_ids": "{{ nothing.there }}"}, {"run_ids": ["a/b"]}],
    ids=["nothing named", "a mistyped task", "a template that fails", "a malformed id"],
)
def test_a_wrong_notifier_lets_the_dag_run_end(emulator, dag_context, arguments, caplog):
    """What cannot be carried out is logged, and never raised."""
    StablyCancelRunNotifier(**arguments)(dag_context)

    assert emulator.requests() == []
    assert any(record.levelno == logging.WARNING for record in caplog.records)


def test_a_missing_task_instance_is_a_clear_warning(emulator, context, caplog):
    """Airflow has none for a SyncCallback, and for a DAG run none of whose tasks it can tell."""
    StablyCancelRunNotifier()({"dag": context["dag"], "run_id": "manual__1"})

    assert caplog.messages[0].startswith("Neither task_ids nor run_ids is given")


def test_a_mistyped_task_is_logged_with_a_hint(emulator, context, caplog):
    """The log names the task that was probably meant."""
    StablyCancelRunNotifier(task_ids="strat")(context)

    assert "did you mean 'start'?" in caplog.text


@pytest.mark.parametrize("level", ["context", "dag_context"], ids=["task", "DAG"])
def test_an_unreadable_task_stops_no_other_cancelling(emulator, request, level, caplog):
    """A mistyped name and an XCom that is not ours are logged; the runs that can be read are cancelled."""
    context = request.getfixturevalue(level)
    context["xcom"]["start", "stably_run"] = "junk"
    context["xcom"]["start_many", "stably_run"] = [7, started(emulator)]

    StablyCancelRunNotifier(task_ids=["strat", "start", "start_many"])(context)

    assert emulator.live_runs() == []
    assert "did you mean 'start'?" in caplog.text
    assert "expected an object" in caplog.text


@pytest.mark.parametrize("task_ids", [7, {"start": 1}, ["start", None], [""], b"start"], ids=repr)
def test_what_cannot_be_a_task_fails_the_dags_parse(task_ids):
    """Otherwise the error would appear only after something has failed."""
    with pytest.raises(ValueError, match="task_ids"):
        StablyCancelRunNotifier(task_ids=task_ids)


def test_runs_and_tasks_exclude_each_other():
    """A notifier that names both is refused where the DAG is parsed."""
    with pytest.raises(ValueError, match="not both"):
        StablyCancelRunNotifier(task_ids="start", run_ids="run-1")


@pytest.mark.parametrize("xcom", ["junk", {"run_id": "a/b"}, 7], ids=repr)
@pytest.mark.parametrize("arguments", [{}, {"task_ids": "start"}], ids=["own", "named"])
def test_an_xcom_that_is_not_ours_sends_nothing(emulator, context, xcom, arguments):
    """Whatever lies under our key, the callback does not raise."""
    context["xcom"]["stably_run"] = xcom

    StablyCancelRunNotifier(**arguments)(context)

    assert emulator.requests() == []


def test_it_says_what_became_of_each_run(emulator, context, caplog, monkeypatch):
    """Each run is logged once, with its id; one that may go on is a warning with its page."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 1.0)
    live = started(emulator)
    over = {**live, "run_id": emulator.add_run(project_id=PROJECT, statuses=["PASSED"])}
    unknown = {**live, "run_id": "run-0"}
    context["xcom"]["start_many", "stably_run"] = [live, over, unknown]

    StablyCancelRunNotifier(task_ids="start_many")(context)

    lines = [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == callback_budget.__name__
    ]
    page = run_url(PROJECT, "run-0")
    assert sorted(lines) == sorted(
        [
            ("INFO", f"Run {live['run_id']}: cancelled (CANCELLED)"),
            ("INFO", f"Run {over['run_id']}: already_finished (PASSED)"),
            ("WARNING", f"Run run-0: not_found, project project-1 has no such run; see {page}"),
        ]
    )


def test_refused_runs_hold_no_other_projects_up(emulator, context, monkeypatch):
    """However many runs of a project are refused all the time, those of another one are cancelled."""
    monkeypatch.setattr(callback_budget, "CONCURRENCY", 2)
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 1.0)
    refused = [started(emulator, project_id="project-2") for _ in range(4)]
    for run in refused:
        emulator.inject(Fault(status=403), run_id=run["run_id"], times=math.inf)
    context["xcom"]["start_many", "stably_run"] = refused
    context["xcom"]["start", "stably_run"] = run = started(emulator)

    StablyCancelRunNotifier(task_ids=["start_many", "start"])(context)

    assert emulator.status(run["run_id"]) == "CANCELLED"


def test_a_silent_api_holds_no_other_up(emulator, context, monkeypatch):
    """However many runs of a connection get no answer, those of another one are cancelled."""
    monkeypatch.setattr(callback_budget, "CONCURRENCY", 2)
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 1.0)
    with StablyEmulator(api_key="another-key") as other:
        other.inject(Fault(delay=math.inf), times=math.inf)
        monkeypatch.setenv("AIRFLOW_CONN_STABLY_OTHER", other.connection())
        silent = [started(other, stably_conn_id="stably_other") for _ in range(4)]
        context["dag"].get_task("start_many").partial_kwargs["stably_conn_id"] = "stably_other"
        context["xcom"]["start_many", "stably_run"] = silent
        context["xcom"]["start", "stably_run"] = started(emulator)

        StablyCancelRunNotifier(task_ids=["start_many", "start"])(context)

    assert emulator.live_runs() == []


def test_the_key_never_reaches_the_log(emulator, context, caplog, monkeypatch):
    """Neither a refused key nor a lost connection puts the key into the log."""
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 1.0)
    caplog.set_level(logging.DEBUG)
    context["xcom"]["run", "stably_run"] = started(emulator)

    for fault in (Fault(status=401), Fault(drop=True)):
        emulator.inject(fault, times=math.inf)
        StablyCancelRunNotifier()(context)

    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "fault", [Fault(status=500), Fault(delay=math.inf), Fault(drop=True)], ids=["500", "silence", "drops"]
)
def test_it_gives_up_within_its_budget(emulator, context, monkeypatch, caplog, fault):
    """An API that is down holds the callback up for no longer than the budget, however many the runs."""
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 1.0)
    context["xcom"]["start_many", "stably_run"] = [started(emulator) for _ in range(20)]
    emulator.inject(fault, times=math.inf)
    began = time.monotonic()

    StablyCancelRunNotifier(task_ids="start_many")(context)

    assert time.monotonic() - began < 5
    told = [record for record in caplog.records if record.name == callback_budget.__name__]
    assert len(told) == 20
    assert all(record.levelno == logging.WARNING for record in told)
    assert all(": unknown, " in record.getMessage() for record in told)


def test_it_works_where_an_event_loop_runs(emulator, context):
    """In a notebook, where ``dag.test()`` is called from within an event loop, runs are cancelled, too."""
    context["xcom"]["run", "stably_run"] = started(emulator)

    async def cell():
        StablyCancelRunNotifier()(context)

    asyncio.run(cell())

    assert emulator.live_runs() == []


def test_a_name_look_up_that_stalls_is_left_behind(context, monkeypatch, caplog):
    """Asking for an address cannot be interrupted; the callback ends in its time all the same."""
    answered = Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(10) and [])
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 0.5)
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", json.dumps({"conn_type": "stably", "password": KEY}))
    began = time.monotonic()

    StablyCancelRunNotifier(run_ids="run-1", project_id=PROJECT)(context)

    assert time.monotonic() - began < 5
    assert "run-1" in caplog.text
    answered.set()


def test_a_failing_task_keeps_its_own_error(emulator, context, monkeypatch):
    """The context is not changed for the callbacks after the notifier."""
    monkeypatch.setattr(callback_budget, "BUDGET_SECONDS", 1.0)
    told = {**context, "run_id": "manual__1", "exception": AirflowFailException("mine")}
    before = dict(told)

    StablyCancelRunNotifier(run_ids="run-1")(told)

    assert told == before


def test_runs_are_named_as_people_do(emulator, context, monkeypatch):
    """Outputs and addresses bring their project; an id that has none does not spoil them."""
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection())
    summary, pushed = started(emulator, project_id="p1"), started(emulator, project_id="p2")
    bare = emulator.add_run(project_id=PROJECT)
    address = run_url("p2", pushed["run_id"])

    StablyCancelRunNotifier(run_ids=["{{ summary }}", address, bare])({**context, "summary": summary})

    assert emulator.live_runs() == [bare]


def test_names_that_cannot_work_fail_the_dags_parse():
    """A template in task_ids, or none of them, would show only when something has failed."""
    for task_ids in ([], "{{ params.task }}", [None]):
        with pytest.raises(ValueError, match="task_ids"):
            StablyCancelRunNotifier(task_ids=task_ids)

"""What the run operator makes of a start that an earlier try recorded in the task state store."""

import math

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    TaskDeferred,
)

from airflow_provider_stably.exceptions import (
    StablyCancelError,
    StablyConfigError,
    StablyRunCancelledError,
    StablyRunTimeoutError,
)
from airflow_provider_stably.execution import clients
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.operators.stably import StablyCancelRunOperator
from airflow_provider_stably.runs import watch
from airflow_provider_stably.tasks.start_record import START_RECORD_KEY
from airflow_provider_stably.testing import Fault, StablyEmulator
from tests.constants import KEY, PROJECT
from tests.interruption import Interrupted, interrupt_when
from tests.operators.run_operator import run_operator


def _noted(emulator, store, **changes):
    """Record a live run in the store, as a try that was lost did."""
    run_id = emulator.add_run(project_id=PROJECT, **changes.pop("run", {}))
    noted = {"run_id": run_id, "project_id": PROJECT, "stably_conn_id": "stably_default", "started_at": 1.0}
    store[START_RECORD_KEY] = {**noted, "max_tries": 0, "clear_number": 0, **changes}
    return run_id


def test_a_start_is_recorded_until_its_run_is_over(emulator, context, store):
    """Whenever the worker is lost, the store says what may be going on."""
    seen = []
    respond = emulator.respond

    def watching(request):
        seen.append((request.call, dict(store.get(START_RECORD_KEY) or {}).get("run_id", "starting")))
        return respond(request)

    emulator.respond = watching
    emulator.run_seconds = 0.1

    run_operator(playwright_project_name="passes").execute(context)

    [run_id] = emulator.runs
    assert seen[0] == ("start", "starting")
    assert {noted for call, noted in seen if call == "get"} == {run_id}
    assert store == {}


def test_an_interrupted_task_writes_its_record_anew(emulator, context, store):
    """A retry without it, as after ``airflow state-store clean``, would start a run beside the live one."""
    emulator.inject(Fault(status=500), call="cancel", times=math.inf)

    def is_watched():
        if is_polled := bool(emulator.requests("get")):
            store.clear()
        return is_polled

    with interrupt_when(is_watched), pytest.raises(Interrupted):
        run_operator(playwright_project_name="hangs").execute(context)

    assert [store[START_RECORD_KEY]["run_id"]] == emulator.live_runs()


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_retry_resumes_a_live_run(emulator, context, store, deferrable):
    """After a lost worker the next try watches the run of the last; no second one is started."""
    run_id = _noted(emulator, store, run={"statuses": ["RUNNING", "RUNNING", "PASSED"]}, started_at=4e9)

    if deferrable:
        with pytest.raises(TaskDeferred) as deferred:
            run_operator(deferrable=True).execute(context)
        assert deferred.value.trigger.run_id == run_id
        assert deferred.value.trigger.started_at == 4e9
    else:
        assert run_operator().execute(context)["run_id"] == run_id
        assert store == {}

    assert context["xcom"]["stably_run"]["run_id"] == run_id
    assert emulator.requests("start") == []


@pytest.mark.parametrize("status", ["PASSED", "FAILED", "CANCELLED"])
def test_a_finished_run_is_never_reused(emulator, context, store, status):
    """The retry of a lost worker whose run is over starts a new one."""
    _noted(emulator, store, run={"statuses": [status]})
    emulator.run_seconds = 0.05

    run_operator(playwright_project_name="passes").execute(context)

    assert len(emulator.requests("start")) == 1


@pytest.mark.parametrize(
    "changed", [{"max_tries": 7}, {"clear_number": 7}], ids=["max_tries", "clear_number"]
)
def test_a_clear_cancels_the_old_run_before_a_new_one(emulator, context, store, changed):
    """Never two runs of one task at once."""
    run_id = _noted(emulator, store, **changed)
    emulator.run_seconds = 0.05

    run_operator(playwright_project_name="passes").execute(context)

    calls = [request.call for request in emulator.requests()]
    assert emulator.status(run_id) == "CANCELLED"
    assert calls[:2] == ["cancel", "start"]


def test_no_run_is_started_beside_one_that_may_be_live(emulator, context, store):
    """If the old run cannot be shown to be over the task fails, retryably, and remembers it."""
    cleared = _noted(emulator, store, max_tries=7)
    emulator.inject(Fault(status=500), run_id=cleared, times=math.inf)

    with pytest.raises(StablyCancelError, match="no other is started beside it"):
        run_operator().execute(context)

    assert emulator.requests("start") == []
    assert (store[START_RECORD_KEY]["run_id"], store[START_RECORD_KEY]["max_tries"]) == (cleared, 7)
    assert context["xcom"]["stably_run"]["run_id"] == cleared  # for callbacks and teardowns


@pytest.mark.parametrize(
    "fault", [Fault(status=503), Fault(status=400), Fault(body="<html>"), Fault(drop=True)], ids=repr
)
def test_a_run_that_cannot_be_read_is_watched(emulator, context, store, fault):
    """Polls that fail are as harmless to a run that was resumed as to any other."""
    run_id = _noted(emulator, store, run={"statuses": ["RUNNING", "PASSED"]}, started_at=4e9)
    emulator.inject(fault, call="get", times=7)

    assert run_operator().execute(context)["run_id"] == run_id
    assert emulator.requests("start") == []


@pytest.mark.parametrize("clear_number", [0, 1], ids=["retry", "clear"])
def test_a_missing_connection_leaves_no_earlier_run(
    emulator, context, store, hide_connection, monkeypatch, clear_number
):
    """Nobody but this try knows the run, and a secrets backend may be away for a moment."""
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 10.0)
    monkeypatch.setattr(clients, "LOOK_UP_SECONDS", 0.01)
    run_id = _noted(emulator, store, started_at=4e9, clear_number=clear_number)
    hide_connection(times=3)

    with interrupt_when(lambda: emulator.requests("get")), pytest.raises(Interrupted):
        run_operator().execute(context)

    assert run_id not in emulator.live_runs()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_clean_up_finds_a_run_whose_connection_is_missing(emulator, context, store, monkeypatch, is_killed):
    """The try cannot cancel it; what comes later can, and the error says which run that is."""
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 10.0 if is_killed else 0.1)
    run_id = _noted(emulator, store, started_at=4e9)
    operator, look_up = run_operator(), StablyHook.get_connection

    def get_connection(conn_id):
        if is_killed:
            operator.on_kill()
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))
    with pytest.raises((AirflowException, StablyCancelError)) as caught:
        operator.execute(context)
    monkeypatch.setattr(StablyHook, "get_connection", look_up)

    assert is_killed or run_id in str(caught.value)
    assert not isinstance(caught.value, AirflowFailException)
    assert StablyCancelRunOperator(task_id="stop", task_ids="start").execute(context) == [run_id]


@pytest.mark.parametrize("noted", ["nothing", "no id", "another connection"])
def test_a_missing_connection_without_a_run_ends_the_try(
    emulator, context, store, hide_connection, monkeypatch, noted
):
    """There is no run that waits for it."""
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 60.0)
    if noted == "no id":
        store[START_RECORD_KEY] = {}
    elif noted == "another connection":
        _noted(emulator, store, stably_conn_id="another")
    hide_connection(times=1)

    with pytest.raises(StablyConfigError, match="not defined"):
        run_operator().execute(context)


def test_a_late_kill_leaves_the_record_to_the_next_try(emulator, context, store):
    """From it that one knows that nobody cancelled the run on purpose."""
    operator, respond = run_operator(), emulator.respond

    def kill_at_a_poll(request):
        if request.call == "get":
            emulator.respond = respond
            operator.on_kill()
        return respond(request)

    emulator.respond = kill_at_a_poll
    with pytest.raises(AirflowException) as caught:
        operator.execute(context)

    assert not isinstance(caught.value, AirflowFailException)
    assert emulator.live_runs() == []
    assert [store[START_RECORD_KEY]["run_id"]] == list(emulator.runs)


def test_a_resumed_run_is_cancelled_at_the_deadline(emulator, context, store):
    """The deadline counts from the start, whoever made it; the record keeps that time."""
    run_id = _noted(emulator, store)
    emulator.inject(Fault(drop=True), run_id=run_id, times=math.inf)

    with pytest.raises(StablyRunTimeoutError, match="may still be running"):
        run_operator().execute(context)

    assert store[START_RECORD_KEY]["run_id"] == run_id
    assert store[START_RECORD_KEY]["started_at"] == 1.0


@pytest.mark.parametrize("changed", [{}, {"max_tries": 7}], ids=["retried", "cleared"])
def test_an_interruption_of_a_resume_cancels_the_run(emulator, context, store, changed):
    """From its first moment on a try answers for the run that it was left."""
    run_id = _noted(emulator, store, **changed)
    emulator.inject(Fault(delay=0.3), call="get" if not changed else "cancel")

    with (
        interrupt_when(lambda: emulator.requests(run_id=run_id)),
        pytest.raises(Interrupted),
    ):
        run_operator().execute(context)

    assert emulator.live_runs() == []
    assert emulator.requests("start") == []


def test_clearing_a_task_that_did_not_wait_cancels(emulator, context, store):
    """Nobody else knows of the first run once Airflow has cleared the XCom."""
    operator = run_operator(wait_for_completion=False)
    operator.execute(context)
    [first] = emulator.runs
    context["ti"].max_tries = 7

    operator.execute(context)

    assert emulator.status(first) == "CANCELLED"
    assert len(emulator.live_runs()) == 1


def test_a_run_that_is_gone_does_not_block_a_clear(emulator, context, store):
    """When a user clears the task, a run that stays not found is taken for gone."""
    emulator.run_seconds = 0.05
    del emulator.runs[_noted(emulator, store, max_tries=7)]

    assert run_operator(playwright_project_name="passes").execute(context)["status"] == "PASSED"


def test_no_run_is_started_beside_one_just_seen(emulator, context, store):
    """A 404 after a live status has not lasted, so it unlocks no clear."""
    run_id = _noted(emulator, store, max_tries=7)
    emulator.inject(Fault(body={"cancelled": []}), call="cancel", times=math.inf)
    emulator.inject(Fault(body={"status": "RUNNING"}), call="get", times=2)
    emulator.inject(Fault(status=404, body={"error": "?"}), call="get", times=math.inf)

    with pytest.raises(StablyCancelError, match="no other is"):
        run_operator().execute(context)

    assert emulator.requests("start") == []
    assert store[START_RECORD_KEY]["run_id"] == run_id


def test_a_404_in_a_long_outage_unlocks_no_clear(emulator, context, store):
    """What was not found once, after minutes in which nothing was answered, may be live."""
    run_id = _noted(emulator, store, max_tries=7)
    emulator.inject(Fault(status=503, delay=0.1), call="cancel", times=math.inf)
    emulator.inject(Fault(status=404, body={"error": "?"}), call="get")

    with pytest.raises(StablyCancelError, match="no other is"):
        run_operator().execute(context)

    assert emulator.requests("start") == []
    assert store[START_RECORD_KEY]["run_id"] == run_id


def test_a_renamed_connection_blocks_nothing(emulator, context, store):
    """If the old run's connection is gone, the task's own asks for it."""
    emulator.run_seconds = 0.05
    run_id = _noted(emulator, store, stably_conn_id="renamed")

    run_operator(playwright_project_name="passes").execute(context)

    assert emulator.status(run_id) == "CANCELLED"


def test_a_retry_starts_no_run_on_a_404(emulator, context, store):
    """A retry watches the run of the try before, and ends when that stays not found."""
    del emulator.runs[_noted(emulator, store, started_at=4e9)]

    with pytest.raises(AirflowFailException, match="not found"):
        run_operator().execute(context)

    assert emulator.requests("start") == []
    assert store == {}


def test_a_late_404_does_not_start_a_second_run(emulator, context, store):
    """A run that an earlier try left may be not found for a while."""
    run_id = _noted(emulator, store, run={"statuses": ["RUNNING", "PASSED"]}, started_at=4e9)
    emulator.inject(Fault(status=404), run_id=run_id, times=3)

    assert run_operator().execute(context)["run_id"] == run_id
    assert emulator.requests("start") == []


def test_a_cancelled_run_of_an_earlier_try_is_retried(emulator, context, store):
    """A late on_kill of the try before may have cancelled it, so nobody meant to."""
    _noted(emulator, store, run={"statuses": ["RUNNING", "CANCELLED"]}, started_at=4e9, try_number=1)
    context["ti"].try_number = 2

    with pytest.raises(StablyRunCancelledError):
        run_operator().execute(context)


@pytest.mark.parametrize("status", [404, 403])
def test_a_record_names_no_connection_to_use(emulator, context, store, monkeypatch, status):
    """Whoever may write the record could name another team's; what the task's own does not reach is told."""
    with StablyEmulator(api_key=KEY) as other:
        monkeypatch.setenv("AIRFLOW_CONN_ANOTHER_TEAMS", other.connection())
        run_id = _noted(other, store, stably_conn_id="another_teams")
        emulator.inject(Fault(status=status, body={"error": "?"}), times=math.inf)

        with pytest.raises(
            AirflowFailException, match=f"Run {run_id} .* another connection.*'stably_default'"
        ):
            run_operator().execute(context)

        assert other.requests() == []
    assert emulator.requests("start") == []
    assert context["xcom"]["stably_run"]["stably_conn_id"] == "stably_default"
    assert store == {}


def test_another_connections_run_is_kept_until_over(emulator, context, store):
    """While the API does not answer, no other is started beside it, and it stays on record."""
    run_id = _noted(emulator, store, stably_conn_id="before")
    emulator.inject(Fault(status=500), times=math.inf)

    with pytest.raises(StablyCancelError, match="no other is started beside it"):
        run_operator().execute(context)

    assert store[START_RECORD_KEY]["run_id"] == run_id
    assert emulator.requests("start") == []


@pytest.mark.parametrize("changed", [{}, {"max_tries": 7}], ids=["retried", "cleared"])
def test_an_earlier_trys_run_is_not_passed_off_as_new(emulator, context, store, changed):
    """If no run comes of this try, a task behind it does not take an old one for its own."""
    _noted(emulator, store, run={"statuses": ["PASSED"]}, **changed)
    emulator.inject(Fault(status=400), call="start")

    with pytest.raises(AirflowFailException):
        run_operator().execute(context)

    assert {"run_id", "run_url"}.isdisjoint(context["xcom"])


def test_a_clear_that_leaves_runs_alone_names_none(emulator, context, store):
    """A teardown is not to cancel what cancel_on_kill=False let go."""
    _noted(emulator, store, max_tries=7)
    emulator.inject(Fault(status=400), call="start")

    with pytest.raises(AirflowFailException):
        run_operator(cancel_on_kill=False).execute(context)

    assert context["xcom"] == {}
    assert len(emulator.live_runs()) == 1


def test_a_failed_store_does_not_turn_a_passed_run_red(emulator, context, store, monkeypatch):
    """Tidying up is best effort."""
    emulator.run_seconds = 0.05
    monkeypatch.setattr(type(store), "delete", None)

    assert run_operator(playwright_project_name="passes").execute(context)["status"] == "PASSED"


def test_a_start_of_unknown_outcome_fails_once(emulator, context, store):
    """The error says that an untracked run may exist; clearing the task then starts a new run."""
    store[START_RECORD_KEY] = {"started_at": 1.0, "max_tries": 0, "clear_number": 0}
    emulator.run_seconds = 0.05

    with pytest.raises(AirflowFailException, match="an untracked run may exist"):
        run_operator().execute(context)
    assert emulator.requests() == []

    assert run_operator(playwright_project_name="passes").execute(context)["status"] == "PASSED"


@pytest.mark.parametrize(
    "spoilt",
    ["text", [], {"run_id": 42}, {"run_id": "a/b", "project_id": PROJECT}, {"run_id": "a"}],
    ids=repr,
)
def test_a_spoilt_record_fails_once(emulator, context, store, spoilt):
    """Which run it meant is not known, so one may be live; but it does not block the task for ever."""
    store[START_RECORD_KEY] = spoilt
    emulator.run_seconds = 0.05

    with pytest.raises(AirflowFailException, match="an untracked run may exist"):
        run_operator().execute(context)
    assert emulator.requests() == []

    assert run_operator(playwright_project_name="passes").execute(context)["status"] == "PASSED"


def test_a_start_that_failed_leaves_no_record(emulator, context, store):
    """A refused start, or one reported as ambiguous, does not block the next try."""
    for fault in (Fault(status=400), Fault(drop=True)):
        emulator.inject(fault, call="start")
        with pytest.raises(AirflowFailException):
            run_operator().execute(context)

        assert store == {}

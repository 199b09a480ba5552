"""The cancel operator's semantics table, row by row, against the emulator."""

import math
import threading
import time
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSkipException, TaskGroup

from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.exceptions import StablyCancelError
from airflow_provider_stably.execution import cancel_runs
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.runs.cancel import MAX_CANCEL_ATTEMPTS
from airflow_provider_stably.testing import Fault, StablyEmulator
from tests.constants import KEY, PROJECT
from tests.interruption import Interrupted, interrupt_when


def _cancel(context, run_ids=None, **arguments):
    which = {} if "task_ids" in arguments else {"run_ids": "{{ rendered }}"}
    operator = StablyCancelRunOperator(task_id="cancel", **which, **arguments)
    operator.run_ids = run_ids
    return operator.execute(context)


def _outcomes(context):
    return {run_id: entry["outcome"] for run_id, entry in context["xcom"]["outcomes"].items()}


@pytest.fixture
def run_id(emulator):
    """A run that never ends by itself."""
    return emulator.add_run(project_id=PROJECT)


def test_a_live_run_is_cancelled_and_listed(emulator, context, run_id):
    """The answer lists the run, so it is cancelled; no further request is needed."""
    cancelled = _cancel(context, run_id)

    assert cancelled == [run_id]
    assert emulator.status(run_id) == "CANCELLED"
    assert context["xcom"]["outcomes"] == {run_id: {"outcome": "cancelled", "status": "CANCELLED"}}
    assert [request.call for request in emulator.requests()] == ["cancel"]


def test_a_200_without_the_id_is_settled_by_one_read(emulator, context, run_id):
    """An empty list in the answer says nothing by itself."""
    emulator.inject(Fault(body={"cancelled": []}, processed=True))

    assert _cancel(context, run_id) == [run_id]
    assert [request.call for request in emulator.requests()] == ["cancel", "get"]


def test_a_second_try_converges_to_the_same_ids(emulator, context):
    """A run that is cancelled already is listed again: a task's retry clears XCom."""
    run_ids = [emulator.add_run(project_id=PROJECT) for _ in range(3)]

    assert _cancel(context, run_ids) == _cancel(context, run_ids) == run_ids


@pytest.mark.parametrize("status", ["PASSED", "FAILED", "TIMEDOUT", "INTERRUPTED"])
def test_a_finished_run_is_a_success_but_not_listed(emulator, context, status):
    """Losing a race with the run's end is normal."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=[status])

    assert _cancel(context, run_id) == []
    assert context["xcom"]["outcomes"] == {run_id: {"outcome": "already_finished", "status": status}}


def test_a_run_that_stays_live_fails_retryably(emulator, context, run_id):
    """An API that does not cancel is asked three times; then the error says so and a retry may help."""
    emulator.inject(Fault(body={"cancelled": []}), call="cancel", times=math.inf)

    with pytest.raises(StablyCancelError, match=f"{run_id}: still_live .*3 attempts"):
        _cancel(context, run_id)

    assert len(emulator.requests("cancel")) == 3
    assert (context["xcom"]["return_value"], _outcomes(context)) == ([], {run_id: "still_live"})


def test_an_unknown_run_fails_after_all_were_tried(emulator, context):
    """A wrong project or a passing fault cannot be told from a run that is gone, so a retry asks again."""
    first, last = (emulator.add_run(project_id=PROJECT) for _ in range(2))

    with pytest.raises(StablyCancelError, match=r"nope: not_found.*check project_id"):
        _cancel(context, [first, "nope", last])

    assert context["xcom"]["return_value"] == [first, last]
    assert _outcomes(context) == {first: "cancelled", "nope": "not_found", last: "cancelled"}


def test_an_unknown_run_can_be_accepted(emulator, context, run_id):
    """ignore_missing takes a run that does not exist for one that is over."""
    assert _cancel(context, ["nope", run_id], ignore_missing=True) == [run_id]
    assert _outcomes(context) == {"nope": "not_found", run_id: "cancelled"}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_stops_its_project_only(emulator, context, status, monkeypatch):
    """A refusal is no word about other projects; and the task may be retried, as outages refuse keys, too."""
    monkeypatch.setattr(cancel_runs, "CONCURRENCY", 1)
    refused = [emulator.add_run(project_id="project-2") for _ in range(3)]
    others = [emulator.add_run(project_id=PROJECT) for _ in range(2)]
    started = [{"run_id": run_id, "project_id": "project-2"} for run_id in refused]
    started += [{"run_id": run_id, "project_id": PROJECT} for run_id in others]
    context["xcom"]["start_many", "stably_run"] = started
    emulator.inject(Fault(status=status), project_id="project-2", times=math.inf)

    with pytest.raises(StablyCancelError, match="denied"):
        StablyCancelRunOperator(task_id="cancel", task_ids="start_many").execute(context)

    assert list(_outcomes(context).values()) == [
        "denied",
        "not_attempted",
        "not_attempted",
        *["cancelled"] * 2,
    ]
    assert context["xcom"]["return_value"] == others
    assert len(emulator.requests()) == MAX_CANCEL_ATTEMPTS + 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_passing_refusal_leaves_no_run(emulator, context, status, monkeypatch):
    """One wrong refusal does not end a kill switch that may have no retry."""
    monkeypatch.setattr(cancel_runs, "CONCURRENCY", 1)
    run_ids = [emulator.add_run(project_id=PROJECT) for _ in range(3)]
    emulator.inject(Fault(status=status))

    cancelled = StablyCancelRunOperator(task_id="cancel", run_ids=run_ids).execute(context)

    assert cancelled == run_ids


def test_many_runs_are_cancelled_once_eight_at_a_time(emulator, context, monkeypatch):
    """Duplicates are left out, order is kept, and no more than eight requests are under way at once."""
    run_ids = [emulator.add_run(project_id=PROJECT) for _ in range(30)]
    emulator.inject(Fault(delay=0.02), times=math.inf)
    threads = set()
    monkeypatch.setattr(StablyClient, "send", _noting_the_thread(StablyClient.send, threads))

    assert _cancel(context, run_ids + run_ids[:5]) == run_ids
    assert len(emulator.requests()) == 30
    assert len(threads) == 8


def _noting_the_thread(send, threads):
    def noting(client, call):
        threads.add(threading.current_thread().name)
        return send(client, call)

    return noting


def test_a_bad_run_does_not_leave_the_others_running(emulator, context):
    """Each run gets its own result, and one error lists the failures."""
    lost, good, gone = emulator.add_run(project_id=PROJECT), emulator.add_run(project_id=PROJECT), "nope"
    emulator.inject(Fault(status=500), run_id=lost, times=math.inf)

    with pytest.raises(StablyCancelError, match="2 of 3 Stably runs") as caught:
        _cancel(context, [lost, good, gone])

    assert _outcomes(context) == {lost: "unknown", good: "cancelled", gone: "not_found"}
    assert caught.value.outcomes == context["xcom"]["outcomes"]
    assert f"- {lost}: unknown" in str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(drop=True, processed=True), id="answer lost"),
        pytest.param(Fault(drop=True), id="request lost"),
        pytest.param(Fault(status=500), id="500"),
        pytest.param(Fault(status=503, processed=True), id="503 after processing"),
    ],
)
def test_a_lost_cancel_is_repeated_and_then_polled(emulator, context, run_id, fault):
    """Cancelling is safe to repeat."""
    emulator.inject(fault, call="cancel")

    assert _cancel(context, run_id) == [run_id]
    assert len(emulator.requests("cancel")) == 2


def test_a_silent_api_is_unknown_and_retryable(emulator, context, run_id):
    """If neither cancel nor status can be read the task fails, and may be retried."""
    emulator.inject(Fault(status=502), times=math.inf)

    with pytest.raises(StablyCancelError, match="may still be running"):
        _cancel(context, run_id)

    assert context["xcom"]["outcomes"] == {run_id: {"outcome": "unknown", "status": None}}


@pytest.mark.parametrize(
    "nothing", [None, "", [], "[]", "None", "null", "  ", ["None", None], "[None]"], ids=repr
)
@pytest.mark.parametrize(
    ("on_empty", "end"), [("skip", AirflowSkipException), ("fail", AirflowFailException), ("success", None)]
)
def test_nothing_to_cancel_ends_as_on_empty_says(emulator, context, nothing, on_empty, end):
    """XCom has an empty list, no request is made, and the task is skipped by default."""
    if end is None:
        assert _cancel(context, nothing, on_empty=on_empty) == []
    else:
        with pytest.raises(end, match="No Stably run to cancel"):
            _cancel(context, nothing, on_empty=on_empty)
        assert context["xcom"]["return_value"] == []

    assert context["xcom"]["outcomes"] == {}
    assert emulator.requests() == []


def test_nothing_to_cancel_needs_no_connection(context, monkeypatch):
    """A skipped upstream does not turn into a failure about the connection."""
    monkeypatch.delenv("AIRFLOW_CONN_STABLY_DEFAULT", raising=False)

    with pytest.raises(AirflowSkipException):
        _cancel(context, "None", stably_conn_id="no_such_connection")


def test_a_rendered_none_is_skipped_with_a_warning(context, run_id, caplog, capsys):
    """Jinja renders a missing XCom as 'None'; the warning points to the argument that copes with that."""
    assert _cancel(context, [run_id, "None"]) == [run_id]
    logged = caplog.text + capsys.readouterr().out  # Airflow 3 logs tasks past the logging module
    assert "Ignored None in run_ids" in logged
    assert "task_ids names tasks instead" in logged


@pytest.mark.parametrize("text", ["['{}', '{}']", '["{}", "{}"]', "('{}', '{}')"])
def test_a_rendered_list_is_read_as_a_list(emulator, context, text):
    """A template renders a list as text."""
    run_ids = [emulator.add_run(project_id=PROJECT) for _ in range(2)]

    assert _cancel(context, text.format(*run_ids)) == run_ids


def test_a_run_that_names_its_project_needs_no_other(emulator, context, monkeypatch):
    """Its own project wins over the task's; a run without one is not attempted if there is none at all."""
    own = emulator.add_run(project_id="p1")
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection())

    with pytest.raises(AirflowFailException, match=r"bare: not_attempted, .*'login': no project id"):
        _cancel(context, [{"run_id": own, "project_id": "p1"}, "bare"])
    assert _outcomes(context) == {own: "cancelled", "bare": "not_attempted"}

    assert _cancel(context, {"run_id": own, "project_id": "p1"}, project_id="p2") == [own]


def test_malformed_ids_fail_after_the_valid_ones(emulator, context, run_id):
    """The valid ids are cancelled first, then one clear error that no retry repeats."""
    with pytest.raises(AirflowFailException, match=r"- run_ids: not an id .*: \.\./x; nothing was sent"):
        _cancel(context, ["../x", run_id, "a/b"])

    assert context["xcom"]["return_value"] == [run_id]
    assert _outcomes(context) == {run_id: "cancelled", "../x": "malformed", "a/b": "malformed"}
    assert len(emulator.requests()) == 1


def test_a_malformed_id_does_not_hide_its_valid_twin(emulator, context):
    """The number 123 is no id, the text is: its result stays and it is listed, and the task fails."""
    emulator.add_run(run_id="123", project_id=PROJECT)

    with pytest.raises(AirflowFailException, match=r"^run_ids: not an id .*: 123; nothing was sent"):
        _cancel(context, ["123", 123])

    assert (context["xcom"]["return_value"], _outcomes(context)) == (["123"], {"123": "cancelled"})


@pytest.mark.parametrize("run_ids", ["[a, b]", "LazySelectSequence([2 items])", [7], {"a": 1}], ids=repr)
def test_if_all_ids_are_malformed_nothing_is_sent(emulator, context, run_ids):
    """No request goes out for what is not an id."""
    with pytest.raises(AirflowFailException, match=r"^run_ids: .*; nothing was sent for it$"):
        _cancel(context, run_ids)

    assert emulator.requests() == []


def test_waiting_returns_only_when_every_run_is_over(emulator, context):
    """A run whose container takes a while to stop is waited for."""
    slow = emulator.add_run(project_id=PROJECT, statuses=["RUNNING", "RUNNING", "RUNNING", "CANCELLED"])
    over = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    emulator.inject(Fault(body={"cancelled": [{"runId": slow}]}), call="cancel", run_id=slow)
    emulator.inject(Fault(status=503), call="get", run_id=slow)

    cancelled = _cancel(context, [slow, over], wait_for_termination=True, poll_interval=0.01)

    assert cancelled == [slow]
    assert context["xcom"]["outcomes"][slow] == {"outcome": "cancelled", "status": "CANCELLED"}
    assert len(emulator.requests("get", run_id=slow)) == 5
    assert len(emulator.requests("get", run_id=over)) == 1


def test_waiting_ends_at_the_timeout_with_an_error(emulator, context):
    """A run that goes on in spite of an accepted cancellation fails the task."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["RUNNING"])
    emulator.inject(Fault(body={"cancelled": [{"runId": run_id}]}), call="cancel", times=math.inf)

    with pytest.raises(StablyCancelError, match=r"accepted but still RUNNING after 0\.05 s"):
        _cancel(context, run_id, wait_for_termination=True, timeout=0.05, poll_interval=0.01)

    assert (context["xcom"]["return_value"], _outcomes(context)) == ([], {run_id: "still_live"})


def test_waiting_survives_a_run_that_passed_meanwhile(emulator, context):
    """The answer said cancelled; that the run shows as PASSED afterwards leaves nothing running."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    emulator.inject(Fault(body={"cancelled": [{"runId": run_id}]}), call="cancel")

    assert _cancel(context, run_id, wait_for_termination=True) == [run_id]
    assert context["xcom"]["outcomes"] == {run_id: {"outcome": "cancelled", "status": "PASSED"}}


def test_slow_requests_do_not_hold_up_a_timeout(emulator, context, run_id, monkeypatch):
    """What interrupts the waiting thread gets out at once; no further run is begun."""
    monkeypatch.setattr(cancel_runs, "CONCURRENCY", 1)
    others = [emulator.add_run(project_id=PROJECT) for _ in range(3)]
    emulator.inject(Fault(delay=1), run_id=run_id)

    with interrupt_when(emulator.requests), pytest.raises(Interrupted):
        _cancel(context, [run_id, *others])

    under_way = [thread for thread in threading.enumerate() if thread.name.startswith("stably_")]
    assert len(under_way) == 1  # its answer is still to come
    under_way[0].join()
    assert [request.run_id for request in emulator.requests()] == [run_id]


@pytest.mark.parametrize(
    ("connection", "problem"),
    [
        pytest.param({"password": ""}, r"'stably_default', field 'password'", id="no key"),
        pytest.param({"host": "http://stably.example"}, r"'stably_default', field 'host'", id="http"),
        pytest.param({"extra": {"timeout": "x"}}, r"'stably_default', field 'extra.timeout'", id="extra"),
        pytest.param({"login": ""}, r"'stably_default', field 'login'.*project_id", id="no project"),
        pytest.param({"login": "a/b"}, "'a/b' is not a Stably project id", id="bad project"),
    ],
)
def test_bad_input_is_one_error_that_is_not_retried(emulator, context, monkeypatch, connection, problem):
    """The error names the connection and the field, and shows no key."""
    fields = {"login": PROJECT, **connection}
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(**fields))

    with pytest.raises(AirflowFailException, match=problem) as caught:
        _cancel(context, "run-1")

    assert emulator.requests() == []
    assert KEY not in repr(caught.value) + repr(caught.value.__context__)
    assert (context["xcom"]["return_value"], _outcomes(context)) == ([], {"run-1": "not_attempted"})


@pytest.mark.parametrize("project_id", [None, "", "None", " "], ids=repr)
def test_an_empty_project_means_the_connections(context, run_id, project_id):
    """A template that renders to nothing does not make a project called 'None'."""
    assert _cancel(context, run_id, project_id=project_id) == [run_id]


def test_the_project_may_be_named(emulator, context):
    """A project id of the task wins over the connection's."""
    run_id = emulator.add_run(project_id="other")

    assert _cancel(context, run_id, project_id="other") == [run_id]


def test_runs_of_tasks_are_cancelled_in_their_projects(emulator, context):
    """task_ids reads the XCom stably_run: one for a plain task, several for a mapped one."""
    runs = [{"run_id": emulator.add_run(project_id=p), "project_id": p} for p in ("p1", "p2", "p3")]
    context["xcom"]["start", "stably_run"] = runs[0]
    context["xcom"]["start_many", "stably_run"] = [runs[1], None, runs[2], runs[1]]

    cancelled = _cancel(context, task_ids=["start", "start_many"])

    assert cancelled == [run["run_id"] for run in runs]
    assert emulator.live_runs() == []


def test_each_run_is_cancelled_with_its_connection(emulator, context, monkeypatch):
    """A run of another connection is not cancelled with this one's key."""
    with StablyEmulator(api_key="sk-another-key") as another:
        monkeypatch.setenv("AIRFLOW_CONN_ANOTHER", another.connection())
        here, there = emulator.add_run(project_id="p1"), another.add_run(project_id="p1")
        context["xcom"]["start_many", "stably_run"] = [
            {"run_id": there, "project_id": "p1", "stably_conn_id": "another"},
            {"run_id": here, "project_id": "p1"},
        ]

        cancelled = _cancel(context, task_ids="start_many")

        assert cancelled == [there, here]
        assert emulator.live_runs() == another.live_runs() == []


def test_a_connection_no_task_names_is_not_borrowed(emulator, context, monkeypatch):
    """Whoever writes an XCom cannot have a run cancelled with another team's key."""
    with StablyEmulator(api_key="sk-victim-key") as victim:
        monkeypatch.setenv("AIRFLOW_CONN_VICTIM", victim.connection())
        stolen = {"run_id": victim.add_run(project_id="p1"), "project_id": "p1", "stably_conn_id": "victim"}
        context["xcom"]["start", "stably_run"] = stolen
        context["xcom"]["start_many", "stably_run"] = [stolen]

        with pytest.raises(StablyCancelError, match="not_found"):
            _cancel(context, task_ids=["start", "start_many"])

        assert victim.requests() == []


def test_a_task_that_is_not_mapped_has_one_run(emulator, context):
    """A list in its XCom is not this provider's: it could name hundreds of runs."""
    run = {"run_id": emulator.add_run(), "project_id": PROJECT}
    context["xcom"]["start", "stably_run"] = [run] * 300

    with pytest.raises(AirflowFailException, match="not one of this provider's"):
        _cancel(context, task_ids="start")

    assert emulator.requests() == []


def test_a_task_without_a_run_is_nothing_to_cancel(emulator, context):
    """A task that was skipped or failed early has no XCom, and that is not an error."""
    with pytest.raises(AirflowSkipException, match="task_ids named none"):
        _cancel(context, task_ids="start")

    assert emulator.requests() == []


def test_a_mistyped_task_id_is_an_error(context):
    """A skip would hide it; the error names the nearest task."""
    with pytest.raises(AirflowFailException, match=r"no task 'strat'; did you mean 'start'"):
        _cancel(context, task_ids=["strat"])
    with pytest.raises(AirflowFailException, match=r"no task 'xyz'$"):
        _cancel(context, task_ids="xyz")

    assert (context["xcom"]["return_value"], _outcomes(context)) == ([], {})


@pytest.mark.parametrize(
    "value", ["run-1", {"run_id": "run-1"}, {"run_id": "a/b", "project_id": "p"}, [7], 7], ids=repr
)
def test_an_xcom_that_is_not_ours_is_an_error(emulator, context, value):
    """Something else pushed under our key is not taken for a run."""
    context["xcom"]["start", "stably_run"] = value

    with pytest.raises(
        AirflowFailException, match="'stably_run' of task 'start' is not one of this provider's"
    ):
        _cancel(context, task_ids="start")

    assert emulator.requests() == []


@pytest.mark.parametrize(
    ("names", "pushed", "problem"),
    [
        pytest.param(["strat", "start_many"], {}, r"no task 'strat'; did you mean 'start'", id="mistyped"),
        pytest.param(
            ["start", "start_many"],
            {"start": "junk"},
            r"'stably_run' of task 'start' is not one of this provider's",
            id="not ours",
        ),
        pytest.param(
            ["start_many"],
            {"start_many": [7]},
            r"'stably_run' of task 'start_many' is not one of this provider's",
            id="one map index not ours",
        ),
    ],
)
def test_an_unreadable_task_stops_no_other_cancelling(emulator, context, names, pushed, problem):
    """The runs that are found are cancelled and reported; then one error stops retries."""
    run_id = emulator.add_run(project_id="p1")
    found = [{"run_id": run_id, "project_id": "p1"}]
    context["xcom"]["start_many", "stably_run"] = found
    for task_id, value in pushed.items():
        context["xcom"][task_id, "stably_run"] = value + found if isinstance(value, list) else value

    with pytest.raises(AirflowFailException, match=problem):
        _cancel(context, task_ids=names)

    assert emulator.live_runs() == []
    assert (context["xcom"]["return_value"], _outcomes(context)) == ([run_id], {run_id: "cancelled"})


def test_a_bad_xcom_backend_stops_no_other_cancelling(emulator, context):
    """What it raises for one task may pass: the others' runs are cancelled, and a retry may help."""
    run_id = emulator.add_run(project_id="p1")
    context["xcom"]["start_many", "stably_run"] = {"run_id": run_id, "project_id": "p1"}
    pull = context["ti"].xcom_pull.side_effect

    def fail_for_start(task_ids, **which):
        if task_ids == "start":
            raise OSError("no such bucket")
        return pull(task_ids, **which)

    context["ti"].xcom_pull.side_effect = fail_for_start

    with pytest.raises(StablyCancelError, match="'start' cannot be read"):
        _cancel(context, task_ids=["start", "start_many"])

    assert emulator.live_runs() == []
    assert (context["xcom"]["return_value"], _outcomes(context)) == ([run_id], {run_id: "cancelled"})


@pytest.fixture
def runs_of_two_connections(emulator, context):
    """A run of a connection that the tests spoil, and after it one of a connection that works."""
    lost, found = "run-elsewhere", emulator.add_run(project_id="p1")
    context["xcom"]["start_many", "stably_run"] = [
        {"run_id": lost, "project_id": "p1", "stably_conn_id": "another"},
        {"run_id": found, "project_id": "p1", "stably_conn_id": "stably_default"},
    ]
    return lost, found


def test_a_bad_connection_stops_no_other_cancelling(emulator, context, runs_of_two_connections):
    """All others are cancelled; a retry may find the connection."""
    lost, found = runs_of_two_connections

    with pytest.raises(StablyCancelError, match=f"{lost}: unknown, .*'another' is not defined"):
        _cancel(context, task_ids="start_many")

    assert emulator.live_runs() == []
    assert context["xcom"]["return_value"] == [found]
    assert _outcomes(context) == {lost: "unknown", found: "cancelled"}


def test_a_bad_secrets_backend_stops_no_other_cancel(emulator, context, runs_of_two_connections, monkeypatch):
    """It may raise anything, and may work at the next try: its runs are unknown."""
    lost, found = runs_of_two_connections
    get_connection = StablyHook.get_connection

    def fail_for_another(conn_id):
        if conn_id == "another":
            raise RuntimeError("vault is sealed")
        return get_connection(conn_id)

    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(fail_for_another))

    with pytest.raises(StablyCancelError, match=f"{lost}: unknown, .*connection 'another' cannot be read"):
        _cancel(context, task_ids="start_many")

    assert emulator.live_runs() == []
    assert context["xcom"]["return_value"] == [found]
    assert _outcomes(context) == {lost: "unknown", found: "cancelled"}


def test_every_connection_is_asked_before_any_wait(emulator, context, monkeypatch):
    """A run that takes a while to stop does not keep another connection's from being cancelled."""
    slow = emulator.add_run(project_id="p1", statuses=["RUNNING"])
    emulator.inject(Fault(body={"cancelled": [{"runId": slow}]}), call="cancel", times=math.inf)
    with StablyEmulator(api_key="sk-another-key") as another:
        monkeypatch.setenv("AIRFLOW_CONN_ANOTHER", another.connection())
        there = another.add_run(project_id="p1")
        context["xcom"]["start_many", "stably_run"] = [
            {"run_id": slow, "project_id": "p1"},
            {"run_id": there, "project_id": "p1", "stably_conn_id": "another"},
        ]
        waiting = interrupt_when(lambda: emulator.requests("get"))

        with waiting, pytest.raises(Interrupted):
            _cancel(context, task_ids="start_many", wait_for_termination=True, poll_interval=60)

        assert another.live_runs() == []


def test_one_timeout_covers_the_runs_of_all_connections(emulator, context, monkeypatch):
    """Two connections do not make the wait twice as long."""
    with StablyEmulator(api_key="sk-another-key") as another:
        monkeypatch.setenv("AIRFLOW_CONN_ANOTHER", another.connection())
        runs = []
        for server, conn_id in ((emulator, None), (another, "another")):
            run_id = server.add_run(project_id="p1", statuses=["RUNNING"])
            server.inject(Fault(body={"cancelled": [{"runId": run_id}]}), call="cancel", times=math.inf)
            runs.append({"run_id": run_id, "project_id": "p1", "stably_conn_id": conn_id})
        context["xcom"]["start_many", "stably_run"] = runs
        began = time.monotonic()

        with pytest.raises(StablyCancelError, match="still RUNNING after 1 s"):
            _cancel(context, task_ids="start_many", wait_for_termination=True, timeout=1, poll_interval=0.1)

    assert 1 <= time.monotonic() - began < 1.9


def test_a_missing_connection_may_be_found_later(emulator, context, monkeypatch):
    """Airflow says "not defined" also of a connection whose secrets backend fails just now."""
    monkeypatch.delenv("AIRFLOW_CONN_STABLY_DEFAULT")

    with pytest.raises(StablyCancelError, match=r"^run-1: unknown, .*'stably_default' is not defined"):
        _cancel(context, "run-1")

    assert emulator.requests() == []


def test_a_404_has_to_last_where_it_counts_as_over(emulator, context, run_id):
    """With ignore_missing a passing 404 does not make a live run's cancel green."""
    emulator.inject(Fault(status=404), times=2)

    assert _cancel(context, [run_id], ignore_missing=True) == [run_id]
    assert emulator.live_runs() == []


def test_without_xcom_push_nothing_is_pushed(context, run_id):
    """do_xcom_push=False is respected."""
    assert _cancel(context, [run_id], do_xcom_push=False) == [run_id]
    with pytest.raises(StablyCancelError):
        _cancel(context, ["nope"], do_xcom_push=False)

    assert context["xcom"] == {}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "name the runs to cancel: pass run_ids, or task_ids"),
        ({"run_ids": None}, "name the runs to cancel"),
        ({"task_ids": []}, "task_ids is empty"),
        ({"run_ids": "a", "task_ids": "b"}, "not both"),
        ({"task_ids": ["start", None]}, "task_ids are tasks or task groups, or their ids, not None"),
        ({"task_ids": " "}, "task_ids are tasks"),
        ({"task_ids": 7}, "task_ids are tasks"),
        ({"task_ids": "{{ params.task }}"}, "task_ids is not templated"),
        ({"run_ids": "a", "on_empty": "panic"}, "on_empty is one of skip, success, fail"),
        *[
            ({"run_ids": "a", "timeout": wrong}, "timeout is a number")
            for wrong in (-1, math.nan, math.inf, "120", True)
        ],
        *[
            ({"run_ids": "a", "poll_interval": wrong}, "poll_interval is a number")
            for wrong in (0, None, timedelta(0))
        ],
    ],
)
def test_senseless_arguments_fail_the_dags_parse(arguments, problem):
    """What is not templated is checked when the DAG is parsed."""
    with pytest.raises(ValueError, match=problem):
        StablyCancelRunOperator(task_id="cancel", **arguments)


def test_task_ids_accept_tasks_groups_and_outputs():
    """An operator, a mapped one, a task's output or a task group stands for its id."""
    with DAG("names", schedule=None):
        with TaskGroup("suites") as suites:
            start = StablyRunTestsOperator(task_id="start")
        mapped = StablyRunTestsOperator.partial(task_id="mapped").expand(environment=["a"])
        given = [
            start,
            start.output,
            suites,
            mapped,
            [start, mapped.output, "other"],
            {"other"},
            "mapped, other",
        ]

        tasks = [
            StablyCancelRunOperator(task_id=f"cancel_{number}", task_ids=task_ids)
            for number, task_ids in enumerate(given)
        ]

    assert [task.task_ids for task in tasks] == [
        ["suites.start"],
        ["suites.start"],
        ["suites"],
        ["mapped"],
        ["suites.start", "mapped", "other"],
        ["other"],
        ["mapped", "other"],
    ]


def test_a_mapped_cancel_that_gets_none_is_skipped(context):
    """What a task returned for one map index may be None; that is no forgotten wiring."""
    mapped = StablyCancelRunOperator.partial(task_id="cancel").expand(run_ids=["a", None])

    with pytest.raises(AirflowSkipException):
        mapped.unmap({"run_ids": None}).execute(context)

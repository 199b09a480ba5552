"""The cancel operator: the runs of tasks that task_ids names."""

import math
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_stably.exceptions import StablyCancelError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.testing import Fault, StablyEmulator
from tests.constants import PROJECT
from tests.interruption import Interrupted, interrupt_when
from tests.operators.cancel_operator import cancel, outcomes


def test_runs_of_tasks_are_cancelled_in_their_projects(emulator, context):
    """task_ids reads the XCom stably_run: one for a plain task, several for a mapped one."""
    runs = [{"run_id": emulator.add_run(project_id=p), "project_id": p} for p in ("p1", "p2", "p3")]
    context["xcom"]["start", "stably_run"] = runs[0]
    context["xcom"]["start_many", "stably_run"] = [runs[1], None, runs[2], runs[1]]

    cancelled = cancel(context, task_ids=["start", "start_many"])

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

        cancelled = cancel(context, task_ids="start_many")

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
            cancel(context, task_ids=["start", "start_many"])

        assert victim.requests() == []


def test_a_task_that_is_not_mapped_has_one_run(emulator, context):
    """A list in its XCom is not this provider's: it could name hundreds of runs."""
    run = {"run_id": emulator.add_run(), "project_id": PROJECT}
    context["xcom"]["start", "stably_run"] = [run] * 300

    with pytest.raises(AirflowFailException, match="not one of this provider's"):
        cancel(context, task_ids="start")

    assert emulator.requests() == []


def test_a_task_without_a_run_is_nothing_to_cancel(emulator, context):
    """A task that was skipped or failed early has no XCom, and that is not an error."""
    with pytest.raises(AirflowSkipException, match="task_ids named none"):
        cancel(context, task_ids="start")

    assert emulator.requests() == []


def test_a_mistyped_task_id_is_an_error(context):
    """A skip would hide it; the error names the nearest task."""
    with pytest.raises(AirflowFailException, match=r"no task 'strat'; did you mean 'start'"):
        cancel(context, task_ids=["strat"])
    with pytest.raises(AirflowFailException, match=r"no task 'xyz'$"):
        cancel(context, task_ids="xyz")

    assert (context["xcom"]["return_value"], outcomes(context)) == ([], {})


@pytest.mark.parametrize(
    "value", ["run-1", {"run_id": "run-1"}, {"run_id": "a/b", "project_id": "p"}, [7], 7], ids=repr
)
def test_an_xcom_that_is_not_ours_is_an_error(emulator, context, value):
    """Something else pushed under our key is not taken for a run."""
    context["xcom"]["start", "stably_run"] = value

    with pytest.raises(
        AirflowFailException, match="'stably_run' of task 'start' is not one of this provider's"
    ):
        cancel(context, task_ids="start")

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
        cancel(context, task_ids=names)

    assert emulator.live_runs() == []
    assert (context["xcom"]["return_value"], outcomes(context)) == ([run_id], {run_id: "cancelled"})


def test_a_bad_xcom_backend_stops_no_other_cancelling(emulator, context):
    """What it raises for one task may pass: the others' runs are cancelled, and a retry may help."""
    run_id = emulator.add_run(project_id="p1")
    context["xcom"]["start_many", "stably_run"] = {"run_id": run_id, "project_id": "p1"}
    pull = context["ti"].xcom_pull.side_effect

    def fail_for_start(task_ids, **which):
        if task_ids == ["start"]:
            raise OSError("no such bucket")
        return pull(task_ids, **which)

    context["ti"].xcom_pull.side_effect = fail_for_start

    with pytest.raises(StablyCancelError, match="'start' cannot be read"):
        cancel(context, task_ids=["start", "start_many"])

    assert emulator.live_runs() == []
    assert (context["xcom"]["return_value"], outcomes(context)) == ([run_id], {run_id: "cancelled"})


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
        cancel(context, task_ids="start_many")

    assert emulator.live_runs() == []
    assert context["xcom"]["return_value"] == [found]
    assert outcomes(context) == {lost: "unknown", found: "cancelled"}


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
        cancel(context, task_ids="start_many")

    assert emulator.live_runs() == []
    assert context["xcom"]["return_value"] == [found]
    assert outcomes(context) == {lost: "unknown", found: "cancelled"}


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
            cancel(context, task_ids="start_many", wait_for_termination=True, poll_interval=60)

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

        with pytest.raises(StablyCancelError, match="still RUNNING after 2 s"):
            cancel(context, task_ids="start_many", wait_for_termination=True, timeout=2, poll_interval=0.1)

    assert 2 <= time.monotonic() - began < 3.9

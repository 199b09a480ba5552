"""The cancel operator: what becomes of each run that run_ids names."""

import math
import threading

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.exceptions import StablyCancelError
from airflow_provider_stably.execution import cancel_all as cancel_all_module
from airflow_provider_stably.execution.cancel_all import cancel_all
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.operators.stably import StablyCancelRunOperator
from airflow_provider_stably.runs.cancel import MAX_CANCEL_ATTEMPTS
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT
from tests.interruption import Interrupted, interrupt_when
from tests.operators.cancel_operator import cancel, outcomes
from tests.waiting import wait_until


def test_a_live_run_is_cancelled_and_listed(emulator, context, run_id):
    """The answer lists the run, so it is cancelled; no further request is needed."""
    cancelled = cancel(context, run_id)

    assert cancelled == [run_id]
    assert emulator.status(run_id) == "CANCELLED"
    assert context["xcom"]["outcomes"] == {run_id: {"outcome": "cancelled", "status": "CANCELLED"}}
    assert [request.call for request in emulator.requests()] == ["cancel"]


def test_a_200_without_the_id_is_settled_by_one_read(emulator, context, run_id):
    """An empty list in the answer says nothing by itself."""
    emulator.inject(Fault(body={"cancelled": []}, processed=True))

    assert cancel(context, run_id) == [run_id]
    assert [request.call for request in emulator.requests()] == ["cancel", "get"]


def test_a_second_try_converges_to_the_same_ids(emulator, context):
    """A run that is cancelled already is listed again: a task's retry clears XCom."""
    run_ids = [emulator.add_run(project_id=PROJECT) for _ in range(3)]

    assert cancel(context, run_ids) == cancel(context, run_ids) == run_ids


@pytest.mark.parametrize("status", ["PASSED", "FAILED", "TIMEDOUT", "INTERRUPTED"])
def test_a_finished_run_is_a_success_but_not_listed(emulator, context, status):
    """Losing a race with the run's end is normal."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=[status])

    assert cancel(context, run_id) == []
    assert context["xcom"]["outcomes"] == {run_id: {"outcome": "already_finished", "status": status}}


def test_a_run_that_stays_live_fails_retryably(emulator, context, run_id):
    """An API that does not cancel is asked three times; then the error says so and a retry may help."""
    emulator.inject(Fault(body={"cancelled": []}), call="cancel", times=math.inf)

    with pytest.raises(StablyCancelError, match=f"{run_id}: still_live .*3 attempts"):
        cancel(context, run_id)

    assert len(emulator.requests("cancel")) == 3
    assert (context["xcom"]["return_value"], outcomes(context)) == ([], {run_id: "still_live"})


def test_an_unknown_run_fails_after_all_were_tried(emulator, context):
    """A wrong project or a passing fault cannot be told from a run that is gone, so a retry asks again."""
    first, last = (emulator.add_run(project_id=PROJECT) for _ in range(2))

    with pytest.raises(StablyCancelError, match=r"nope: not_found.*check project_id"):
        cancel(context, [first, "nope", last])

    assert context["xcom"]["return_value"] == [first, last]
    assert outcomes(context) == {first: "cancelled", "nope": "not_found", last: "cancelled"}


def test_an_unknown_run_can_be_accepted(emulator, context, run_id):
    """ignore_missing takes a run that does not exist for one that is over."""
    assert cancel(context, ["nope", run_id], ignore_missing=True) == [run_id]
    assert outcomes(context) == {"nope": "not_found", run_id: "cancelled"}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_stops_its_project_only(emulator, context, status, monkeypatch):
    """A refusal is no word about other projects; and the task may be retried, as outages refuse keys, too."""
    monkeypatch.setattr(cancel_all_module, "CONCURRENCY", 1)
    refused = [emulator.add_run(project_id="project-2") for _ in range(3)]
    others = [emulator.add_run(project_id=PROJECT) for _ in range(2)]
    started = [{"run_id": run_id, "project_id": "project-2"} for run_id in refused]
    started += [{"run_id": run_id, "project_id": PROJECT} for run_id in others]
    context["xcom"]["start_many", "stably_run"] = started
    emulator.inject(Fault(status=status), project_id="project-2", times=math.inf)

    with pytest.raises(StablyCancelError, match="denied"):
        StablyCancelRunOperator(task_id="cancel", task_ids="start_many").execute(context)

    assert list(outcomes(context).values()) == [
        "denied",
        "not_attempted",
        "not_attempted",
        *["cancelled"] * 2,
    ]
    assert context["xcom"]["return_value"] == others
    assert len(emulator.requests("cancel")) == MAX_CANCEL_ATTEMPTS + 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_passing_refusal_leaves_no_run(emulator, context, status, monkeypatch):
    """One wrong refusal does not end a kill switch that may have no retry."""
    monkeypatch.setattr(cancel_all_module, "CONCURRENCY", 1)
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

    assert cancel(context, run_ids + run_ids[:5]) == run_ids
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
        cancel(context, [lost, good, gone])

    assert outcomes(context) == {lost: "unknown", good: "cancelled", gone: "not_found"}
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

    assert cancel(context, run_id) == [run_id]
    assert len(emulator.requests("cancel")) == 2


def test_a_silent_api_is_unknown_and_retryable(emulator, context, run_id):
    """If neither cancel nor status can be read the task fails, and may be retried."""
    emulator.inject(Fault(status=502), times=math.inf)

    with pytest.raises(StablyCancelError, match="may still be running"):
        cancel(context, run_id)

    assert context["xcom"]["outcomes"] == {run_id: {"outcome": "unknown", "status": None}}


def test_a_run_that_names_its_project_needs_no_other(emulator, context, monkeypatch):
    """Its own project wins over the task's; a run without one is not attempted if there is none at all."""
    own = emulator.add_run(project_id="p1")
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection())

    with pytest.raises(AirflowFailException, match=r"bare: not_attempted, .*'login': no project id"):
        cancel(context, [{"run_id": own, "project_id": "p1"}, "bare"])
    assert outcomes(context) == {own: "cancelled", "bare": "not_attempted"}

    assert cancel(context, {"run_id": own, "project_id": "p1"}, project_id="p2") == [own]


def test_waiting_returns_only_when_every_run_is_over(emulator, context):
    """A run whose container takes a while to stop is waited for."""
    slow = emulator.add_run(project_id=PROJECT, statuses=["RUNNING", "RUNNING", "RUNNING", "CANCELLED"])
    over = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    emulator.inject(Fault(body={"cancelled": [{"runId": slow}]}), call="cancel", run_id=slow)
    emulator.inject(Fault(status=503), call="get", run_id=slow)

    cancelled = cancel(context, [slow, over], wait_for_termination=True, poll_interval=0.01)

    assert cancelled == [slow]
    assert context["xcom"]["outcomes"][slow] == {"outcome": "cancelled", "status": "CANCELLED"}
    assert len(emulator.requests("get", run_id=slow)) == 5
    assert len(emulator.requests("get", run_id=over)) == 1


def test_waiting_outlasts_a_run_that_is_not_cancelled_at_first(emulator, context, monkeypatch):
    """An earlier try's cancel may be under way: the API refuses another, and the run is over soon."""
    monkeypatch.setattr("airflow_provider_stably.runs.cancel.SECONDS_BETWEEN_ATTEMPTS", 0.01)
    run_id = emulator.add_run(project_id=PROJECT, statuses=["RUNNING"] * 5 + ["CANCELLED"])
    emulator.inject(Fault(status=400), call="cancel", times=5)

    cancelled = cancel(context, run_id, wait_for_termination=True, poll_interval=0.01)

    assert cancelled == [run_id]


@pytest.mark.parametrize("ignore_missing", [False, True])
def test_waiting_takes_no_404_of_a_live_run_for_the_end(emulator, context, monkeypatch, ignore_missing):
    """A run that was just seen live, and then is not found, may still be live."""
    monkeypatch.setattr("airflow_provider_stably.runs.cancel.SECONDS_BETWEEN_ATTEMPTS", 0.01)
    run_id = emulator.add_run(project_id=PROJECT, statuses=["RUNNING"])
    emulator.inject(Fault(status=400, body={"error": "?"}), call="cancel", times=math.inf)
    emulator.inject(Fault(body={"status": "RUNNING"}), call="get", times=3)
    emulator.inject(Fault(status=404, body={"error": "?"}), call="get", times=math.inf)

    with pytest.raises(StablyCancelError, match="not found now"):
        cancel(
            context,
            run_id,
            wait_for_termination=True,
            timeout=0.05,
            poll_interval=0.01,
            ignore_missing=ignore_missing,
        )

    assert outcomes(context) == {run_id: "unknown"}


def test_waiting_ends_at_the_timeout_with_an_error(emulator, context):
    """A run that goes on in spite of an accepted cancellation fails the task."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["RUNNING"])
    emulator.inject(Fault(body={"cancelled": [{"runId": run_id}]}), call="cancel", times=math.inf)

    with pytest.raises(StablyCancelError, match=r"accepted but still RUNNING after 0\.05 s"):
        cancel(context, run_id, wait_for_termination=True, timeout=0.05, poll_interval=0.01)

    assert (context["xcom"]["return_value"], outcomes(context)) == ([], {run_id: "still_live"})


def test_waiting_survives_a_run_that_passed_meanwhile(emulator, context):
    """The answer said cancelled; that the run shows as PASSED afterwards leaves nothing running."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    emulator.inject(Fault(body={"cancelled": [{"runId": run_id}]}), call="cancel")

    assert cancel(context, run_id, wait_for_termination=True) == [run_id]
    assert context["xcom"]["outcomes"] == {run_id: {"outcome": "cancelled", "status": "PASSED"}}


def test_waiting_takes_no_404_for_the_end(emulator, context):
    """A run that is not found just at the timeout is not over, not even with ignore_missing."""
    run_id = emulator.add_run(project_id=PROJECT)
    emulator.inject(Fault(body={"cancelled": [{"runId": run_id}]}), call="cancel")
    emulator.inject(Fault(status=404, body={"error": "?"}), call="get", times=math.inf)

    with pytest.raises(StablyCancelError, match="not found now"):
        cancel(context, run_id, wait_for_termination=True, timeout=0.05, ignore_missing=True)

    assert outcomes(context) == {run_id: "unknown"}


def test_slow_requests_do_not_hold_up_a_timeout(emulator, context, run_id, monkeypatch):
    """What interrupts the waiting thread gets out at once; no further run is begun."""
    monkeypatch.setattr(cancel_all_module, "CONCURRENCY", 1)
    others = [emulator.add_run(project_id=PROJECT) for _ in range(3)]
    emulator.inject(Fault(delay=1), run_id=run_id)

    with interrupt_when(emulator.requests), pytest.raises(Interrupted):
        cancel(context, [run_id, *others])

    under_way = [thread for thread in threading.enumerate() if thread.name.startswith("stably_")]
    assert len(under_way) == 1  # its answer is still to come
    under_way[0].join()
    assert [request.run_id for request in emulator.requests()] == [run_id]


def test_a_missing_connection_may_be_found_later(emulator, context, monkeypatch):
    """Airflow says "not defined" also of a connection whose secrets backend fails just now."""
    monkeypatch.delenv("AIRFLOW_CONN_STABLY_DEFAULT")

    with pytest.raises(StablyCancelError, match=r"^run-1: unknown, .*'stably_default' is not defined"):
        cancel(context, "run-1")

    assert emulator.requests() == []


def test_a_404_has_to_last_where_it_counts_as_over(emulator, context, run_id):
    """With ignore_missing a passing 404 does not make a live run's cancel green."""
    emulator.inject(Fault(status=404), times=2)

    assert cancel(context, [run_id], ignore_missing=True) == [run_id]
    assert emulator.live_runs() == []


def test_a_run_just_seen_is_not_taken_for_gone(emulator, context, run_id):
    """A 404 that lasts makes no run count as over that the same task has read as live."""
    emulator.inject(Fault(body={"cancelled": []}), call="cancel", times=math.inf)
    emulator.inject(Fault(body={"status": "RUNNING"}), call="get")
    emulator.inject(Fault(status=404, body={"error": "?"}), call="get", times=math.inf)

    with pytest.raises(StablyCancelError, match="unknown, not found now"):
        cancel(context, [run_id], ignore_missing=True)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("ended", ["PASSED", "CANCELLED"])
def test_a_run_that_is_over_needs_no_right_to_cancel(emulator, context, status, ended):
    """A service that refuses changes for a while may still tell how a run stands."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=[ended])
    emulator.inject(Fault(status=status), call="cancel", times=math.inf)

    assert cancel(context, [run_id]) == ([run_id] if ended == "CANCELLED" else [])


def test_waiting_outlasts_a_rotated_key(emulator, context, run_id, monkeypatch):
    """The cancel is accepted, then the key is rotated, and the run ends."""
    emulator.inject(Fault(body={"cancelled": [{"runId": run_id}]}), call="cancel")

    def rotate():
        wait_until(lambda: emulator.requests("get"))
        monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT, password="new"))
        emulator.api_key = "new"
        emulator.runs[run_id].statuses = ["CANCELLED"]

    thread = threading.Thread(target=rotate)
    thread.start()
    cancelled = cancel(context, [run_id], wait_for_termination=True, timeout=5, poll_interval=0.05)
    thread.join()

    assert cancelled == [run_id]


@pytest.mark.parametrize("started_at", [None, 4e9], ids=["old", "young"])
def test_missing_runs_hold_up_no_other(emulator, context, run_id, started_at):
    """Each run is asked for before the wait begins in which a missing one may still be found."""
    hooks = {
        RunReference(name, PROJECT, started_at=started_at): StablyHook()
        for name in [*(f"gone-{number}" for number in range(20)), run_id]
    }

    cancel_all(hooks, missing_seconds=0.2)

    assert emulator.requests("cancel", run_id=run_id)[0] in emulator.requests("cancel")[: len(hooks)]
    assert emulator.live_runs() == []


def test_without_xcom_push_nothing_is_pushed(context, run_id):
    """do_xcom_push=False is respected."""
    assert cancel(context, [run_id], do_xcom_push=False) == [run_id]
    with pytest.raises(StablyCancelError):
        cancel(context, ["nope"], do_xcom_push=False)

    assert context["xcom"] == {}

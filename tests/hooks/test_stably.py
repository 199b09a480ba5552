"""The hook: calls, clients and waits on the connection of an emulator."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import requests

from airflow_provider_stably.api.endpoint import Endpoint
from airflow_provider_stably.exceptions import (
    StablyConfigError,
    StablyInvalidIdError,
    StablyRunTimeoutError,
)
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs import belief
from airflow_provider_stably.testing import Fault
from tests.constants import KEY, PROJECT


def test_a_run_is_started_read_and_cancelled(emulator, hook):
    """The hook's calls use the connection's key and default project."""
    run_id = hook.start_run(
        playwright_project_name="hangs", branch="main", environment="staging", env_overrides={"A": "1"}
    )
    before = hook.get_run(run_id)
    cancelled = hook.cancel_run(run_id)

    assert not before.is_finished
    assert (cancelled.outcome, cancelled.status, cancelled.is_over) == ("cancelled", "CANCELLED", True)
    assert emulator.status(run_id) == "CANCELLED"
    assert emulator.runs[run_id].project_id == PROJECT
    assert emulator.requests("start")[0].json() == {
        "playwrightProjectName": "hangs",
        "branch": "main",
        "environment": "staging",
        "envOverrides": {"A": "1"},
    }


def test_a_call_may_name_another_project(emulator, hook):
    """A project id given to a call wins over the connection's."""
    run_id = hook.start_run(project_id="other")

    assert hook.get_run(run_id, project_id="other").run_id == run_id
    assert hook.cancel_run(run_id, project_id="other").is_over
    assert hook.run_url(run_id, project_id="other").startswith("https://app.stably.ai/project/other/")
    assert f"/project/{PROJECT}/" in hook.run_url(run_id)


def test_get_conn_gives_a_session_that_works_by_hand(emulator, hook):
    """The session is a requests.Session with the key on it."""
    run_id = emulator.add_run(project_id=PROJECT)

    session = hook.get_conn()

    assert isinstance(session, requests.Session)
    assert session.get(f"{emulator.url}/v1/projects/{PROJECT}/runs/{run_id}").ok
    assert session.get(f"/v1/projects/{PROJECT}/runs/{run_id}").ok
    assert session.get(f"v1/projects/{PROJECT}/runs/{run_id}").json()["status"] == "QUEUED"
    assert hook.base_url == emulator.url


def test_a_relative_address_stays_on_its_host(emulator, hook):
    """An address that looks like another host's is a path on ours, so the key does not leave."""
    hook.get_conn().get("//evil.example/v1")

    assert [request.path for request in emulator.requests()] == ["/evil.example/v1"]


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        (["RUNNING"], ("cancelled", "CANCELLED", True)),
        (["CANCELLED"], ("cancelled", "CANCELLED", True)),
        (["PASSED"], ("already_finished", "PASSED", True)),
        (None, ("not_found", None, False)),
    ],
)
def test_cancelling_says_what_became_of_the_run(emulator, hook, statuses, outcome):
    """A run that is over, or is not there, is an outcome and not an HTTP error to trip over."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=statuses) if statuses else "nope"

    result = hook.cancel_run(run_id)

    assert (result.outcome, result.status, result.is_over) == outcome


@pytest.mark.parametrize("is_another", [False, True])
def test_a_run_that_the_hook_started_is_not_missing_yet(emulator, hook, is_another):
    """``finally: hook.cancel_run(run_id)`` may come at once. The age of another hook's run is not known."""
    run_id = hook.start_run()
    emulator.inject(Fault(status=404, body={"error": "no such run"}), times=6)

    result = (StablyHook() if is_another else hook).cancel_run(run_id)

    assert result.outcome == ("not_found" if is_another else "cancelled")


def test_numbers_and_booleans_are_sent_as_text(emulator, hook):
    """The hook takes environment overrides as the operator does, and names what it cannot send."""
    hook.start_run(env_overrides={"RETRIES": 3, "HEADLESS": True})

    assert emulator.requests("start")[0].json() == {"envOverrides": {"RETRIES": "3", "HEADLESS": "true"}}
    with pytest.raises(ValueError, match="env_overrides: the value of 'A' is list, not text"):
        hook.start_run(env_overrides={"A": ["hush"]})


def test_the_hook_reads_runs_as_operators_do(emulator, hook):
    """An id, a page's address or a task's output; the last two name the project, whatever is given."""
    run_id = emulator.add_run(project_id="another-project")
    page = hook.run_url(run_id, project_id="another-project")

    for spelling in (page, {"run_id": run_id, "project_id": "another-project"}, f"[{page!r}]"):
        assert hook.get_run(spelling, project_id=PROJECT).run_id == run_id
        assert hook.run_url(spelling) == page
    assert hook.cancel_run(page).outcome == "cancelled"
    assert hook.wait_for_run(page).status == "CANCELLED"
    with pytest.raises(StablyInvalidIdError, match=r"^run_id names 2 runs, but takes one"):
        hook.get_run("a,b")


@pytest.mark.parametrize("name", ["playwright_project_name", "branch", "environment"])
def test_the_hook_starts_nothing_with_a_list(emulator, hook, name):
    """As the operator: a wrong type is an error before anything is sent, and a number becomes text."""
    with pytest.raises(ValueError, match=f"^{name} is neither text nor a number but list"):
        hook.start_run(**{name: ["a"]})
    hook.start_run(project_id=7, **{name: 7})

    assert [request.path for request in emulator.requests()] == ["/v1/projects/7/runs"]
    assert list(emulator.requests()[0].json().values()) == ["7"]


def test_waiting_returns_the_run_as_it_ended(emulator, hook):
    """The run comes back with its results, whether it passed or not."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["QUEUED", "RUNNING", "FAILED"])

    run = hook.wait_for_run(run_id, timeout=30, poll_interval=0.01)

    assert (run.run_id, run.status, run.is_passed) == (run_id, "FAILED", False)
    assert emulator.requests("cancel") == []


def test_waiting_returns_the_run_that_it_saw_end(emulator, hook):
    """A service with replicas may show an earlier status once more; that is no news."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["RUNNING", "PASSED", "RUNNING"])

    assert hook.wait_for_run(run_id, timeout=30, poll_interval=0.01).is_passed


@pytest.mark.parametrize("fault", [Fault(status=403), Fault(status=404)], ids=["403", "404 as a page"])
def test_the_hooks_own_start_shows_that_its_key_works(emulator, hook, monkeypatch, fault):
    """A wrong answer is outlasted for as long as by the operator."""
    monkeypatch.setattr(belief, "NEVER_ACCEPTED_SECONDS", 0.0)
    monkeypatch.setattr(belief, "MISSING_SECONDS", 0.0)
    emulator.run_seconds = 0.05
    run_id = hook.start_run()
    emulator.inject(fault, call="get", times=belief.LEAST_POLLS + 1)

    assert hook.wait_for_run(run_id, poll_interval=0.01).is_passed


def test_waiting_gives_up_and_leaves_the_run_alone(emulator, hook):
    """At the timeout the error says what was last seen; the run goes on."""
    run_id = emulator.add_run(project_id=PROJECT)

    with pytest.raises(
        StablyRunTimeoutError,
        match=rf"^Run {run_id} (was not over|never left the queue) in time; last seen \w+, left alone",
    ):
        hook.wait_for_run(run_id, timeout=0.05, poll_interval=0.01)

    assert emulator.live_runs() == [run_id]


def test_waiting_and_cancelling_use_a_rotated_key(emulator, monkeypatch):
    """After a refusal the connection is read again."""
    passed = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    live = emulator.add_run(project_id=PROJECT)
    waits, cancels = StablyHook(), StablyHook()
    assert waits.base_url == cancels.base_url == emulator.url
    emulator.api_key = "sk-rotated"
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT))

    assert waits.wait_for_run(passed, poll_interval=0.01).is_passed
    assert cancels.cancel_run(live).is_over


def test_other_threads_use_the_old_client_while_a_rotated_key_is_looked_up(emulator, monkeypatch):
    """A connection that is read again leaves the hook whole meanwhile."""
    hook = StablyHook()
    run_id = hook.start_run(playwright_project_name="hangs")
    emulator.api_key = "sk-rotated"
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT))
    genuine, old_client, seen = StablyHook.get_connection, hook.client, []

    def get_connection(conn_id):
        seen.append(pool.submit(lambda: (hook.base_url, hook.client)).result(timeout=5))
        return genuine(conn_id)

    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))
    with ThreadPoolExecutor(1) as pool:
        result = hook.cancel_run(run_id)

    assert seen == [(emulator.url, old_client)]
    assert result.outcome == "cancelled"


async def test_triggers_get_an_async_client(emulator):
    """The connection is read asynchronously and the client calls the same API."""
    from airflow_provider_stably.api import calls

    run_id = emulator.add_run(project_id=PROJECT)

    async with await StablyHook().get_async_client() as client:
        run = await client.send(calls.get_run(PROJECT, run_id))

    assert run.run_id == run_id


async def test_a_trigger_reads_its_connection_in_a_thread(emulator, monkeypatch):
    """A secrets backend that takes its time holds no other trigger up."""
    threads, genuine = [], StablyHook.get_connection

    def get_connection(hook, conn_id):
        threads.append(threading.current_thread())
        return genuine(conn_id)

    monkeypatch.setattr(StablyHook, "get_connection", get_connection)

    await StablyHook().get_async_client()

    assert threads
    assert threading.main_thread() not in threads


async def test_a_missing_connection_is_one_clear_error():
    """Both ways to a connection name its id and say what to do."""
    hook = StablyHook("nope")

    with pytest.raises(
        StablyConfigError,
        match=r"^Airflow connection 'nope' is not defined: add a connection of type 'stably'",
    ):
        hook.get_conn()
    with pytest.raises(StablyConfigError, match="'nope'"):
        await hook.get_async_client()
    assert hook.test_connection()[0] is False


def test_a_missing_project_is_one_clear_error(emulator, monkeypatch):
    """Without a project the error names the connection and its field, and nothing is sent."""
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection())

    with pytest.raises(StablyConfigError, match=r"'stably_default', field 'login'.*project_id"):
        StablyHook().get_run("run-1")
    with pytest.raises(StablyInvalidIdError, match="project id"):
        StablyHook().get_run("run-1", project_id="a/b")

    assert emulator.requests() == []


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "30"], ids=repr)
def test_a_timeout_must_be_positive(timeout):
    """A hook does not accept a timeout that requests would choke on later."""
    with pytest.raises(ValueError, match="above 0"):
        StablyHook(timeout=timeout)


def test_the_connection_is_looked_up_once(emulator, monkeypatch):
    """After the first call the connection is not read again: that would hang in a signal handler."""
    hook = StablyHook()
    hook.start_run()
    monkeypatch.delenv("AIRFLOW_CONN_STABLY_DEFAULT")

    assert hook.start_run()


def test_the_key_shows_up_nowhere(emulator, caplog):
    """No repr, log line or error of the hook has the key in it."""
    hook = StablyHook()
    emulator.inject(Fault(status=500), times=5)

    with caplog.at_level("DEBUG"), pytest.raises(Exception, match="500") as caught:
        hook.get_run("run-1")

    shown = [
        repr(hook),
        repr(hook.client),
        repr(hook.get_conn()),
        repr(vars(hook)),
        caplog.text,
        repr(caught.value),
    ]
    assert not any(KEY in text for text in shown)
    assert KEY not in repr(Endpoint("https://api", KEY))


def test_a_pickled_hook_holds_no_key(hook):
    """A copy in another process reads the connection there."""
    assert hook.get_conn().endpoint.api_key == KEY

    pickled = pickle.dumps(hook)

    assert KEY.encode() not in pickled
    assert pickle.loads(pickled).get_conn().endpoint.api_key == KEY  # noqa: S301 - made here


def test_a_look_up_that_hangs_lets_other_connections_be_read(emulator, monkeypatch):
    """Python 3.11's cached properties have a lock for all hooks of the process."""
    genuine, is_asked, over = StablyHook.get_connection, Event(), Event()

    def get_connection(conn_id):
        if conn_id == "hangs":
            is_asked.set()
            over.wait(10)
        return genuine(conn_id)

    monkeypatch.setattr(StablyHook, "get_connection", staticmethod(get_connection))
    with ThreadPoolExecutor(2) as pool:
        pool.submit(lambda: StablyHook("hangs").client)
        is_asked.wait(5)
        try:
            assert pool.submit(lambda: StablyHook().base_url).result(timeout=5) == emulator.url
        finally:
            over.set()

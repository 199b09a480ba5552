import importlib
import json
import pickle
import re
import subprocess
import sys
import threading
from importlib.util import find_spec
from types import ModuleType

import airflow
import pytest
import requests

from airflow_provider_stably.api.endpoint import Endpoint
from airflow_provider_stably.exceptions import (
    StablyConfigError,
    StablyInvalidIdError,
    StablyRunTimeoutError,
)
from airflow_provider_stably.get_provider_info import get_provider_info
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.testing import Fault
from tests.constants import KEY, PROJECT

NOT_STABLY = "Something answered, but not Stably's API: check the host"


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


def test_waiting_gives_up_and_leaves_the_run_alone(emulator, hook):
    """At the timeout the error says what was last seen; the run goes on."""
    run_id = emulator.add_run(project_id=PROJECT)

    with pytest.raises(
        StablyRunTimeoutError,
        match=rf"^Run {run_id} (was not over|never left the queue) in time; last seen \w+, left alone",
    ):
        hook.wait_for_run(run_id, timeout=0.05, poll_interval=0.01)

    assert emulator.live_runs() == [run_id]


def test_waiting_uses_a_rotated_key(emulator, monkeypatch):
    """After a refusal the connection is read again."""
    run_id = emulator.add_run(project_id=PROJECT, statuses=["PASSED"])
    hook = StablyHook()
    assert hook.base_url == emulator.url
    emulator.api_key = "sk-rotated"
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(login=PROJECT))

    assert hook.wait_for_run(run_id, poll_interval=0.01).is_passed


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


def test_connection_test_starts_nothing(emulator, hook):
    """A good key is accepted, by reading a run that cannot exist."""
    accepted, message = hook.test_connection()

    assert accepted
    assert "accepted the API key" in message
    assert "Not checked" in message
    assert [request.call for request in emulator.requests()] == ["get"]
    assert emulator.runs == {}


def test_connection_test_needs_no_project(emulator, monkeypatch):
    """Without a default project a placeholder stands in."""
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection())

    assert StablyHook().test_connection()[0]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param(
            Fault(status=400, body={"error": "?"}), "Stably answered and accepted the API key", id="400"
        ),
        pytest.param(
            Fault(status=404, body={"error": "?"}), "Stably answered and accepted the API key", id="404"
        ),
        pytest.param(Fault(status=404, body="<html>"), NOT_STABLY, id="404, HTML"),
        pytest.param(Fault(status=404, body=""), NOT_STABLY, id="404, empty"),
        pytest.param(Fault(status=404, body={"detail": "Not Found"}), NOT_STABLY, id="404, JSON"),
        pytest.param(Fault(status=200, body={"status": "ok"}), NOT_STABLY, id="200"),
        pytest.param(Fault(body="<html>"), NOT_STABLY, id="HTML"),
        pytest.param(Fault(status=301, headers={"Location": "/"}), NOT_STABLY, id="301"),
        pytest.param(Fault(status=405), NOT_STABLY, id="405"),
        pytest.param(Fault(status=401), "API key was refused", id="401"),
        pytest.param(Fault(status=403), "", id="403"),
        pytest.param(Fault(status=500), "500", id="500"),
        pytest.param(Fault(drop=True), "No whole answer came", id="dropped"),
    ],
)
def test_connection_test_says_what_it_saw(emulator, hook, fault, says):
    """Only an answer of Stably's own that shows the key accepted is a success, and it is asked for once."""
    emulator.inject(fault)

    accepted, message = hook.test_connection()

    assert accepted is says.startswith("Stably answered")
    assert says in message
    assert len(emulator.requests()) == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"password": ""}, "^This connection, field 'password': the Stably API key is missing"),
        ({"password": "wrong"}, "this connection"),
        ({"host": "https://api.stably.ai/v1"}, "^This connection, field 'host': leave /v1 out"),
        ({"host": "https://api.stably.ai/v1/"}, "leave /v1 out"),
        (None, "^This connection is not defined"),
    ],
)
def test_connection_test_shows_no_made_up_id(emulator, monkeypatch, fields, says):
    """Airflow tests the form under a temporary id, which would mean nothing to its user."""
    if fields is not None:
        connection = emulator.connection(**{"login": PROJECT, **fields})
        monkeypatch.setenv("AIRFLOW_CONN_TMP_4F6A", connection)

    accepted, message = StablyHook("tmp_4f6a").test_connection()

    assert not accepted
    assert re.search(says, message)
    assert "tmp_4f6a" not in message


def test_airflow_finds_the_hook():
    """Airflow's own providers manager accepts the connection type."""
    from airflow.providers_manager import ProvidersManager

    info = ProvidersManager().hooks["stably"]

    assert info.hook_name == "Stably"
    assert info.connection_id_attribute_name == "stably_conn_id"


@pytest.mark.skipif(
    airflow.__version__.startswith(("3.0.", "3.1.")) and find_spec("flask_appbuilder") is None,
    reason="Airflow 3.0, and 3.1 but for its user interface, need Flask AppBuilder for forms",
)
def test_airflow_finds_the_form():
    """Airflow's own providers manager accepts what the connection type's form is made of."""
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()

    assert manager.field_behaviours["stably"]["relabeling"]["password"] == "API key"
    assert {"extra__stably__timeout", "extra__stably__verify"} <= set(manager.connection_form_widgets)


@pytest.mark.skipif(
    airflow.__version__.startswith(("2.", "3.0.")),
    reason="Airflow 3.0 needs Flask AppBuilder for forms, 2.11 has another user interface",
)
def test_the_user_interface_gets_the_form():
    """Airflow's user interface gets the form's names and fields, also without Flask AppBuilder."""
    program = (  # in a process of its own: Airflow 3.1 leaves stand-ins for Flask AppBuilder behind
        "from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService as service;"
        "[form] = [one for one in service.hook_meta_data() if one.connection_type == 'stably'];"
        "print(form.standard_fields.password.title, *sorted(form.extra_fields), sep=',')"
    )

    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert shown.splitlines()[-1] == "API key,allow_http,proxy,timeout,trust_env,verify"


def test_the_provider_info_fits_airflows_schema():
    """The form keys are checked by the schema that knows them, not by the one that accepts typos."""
    from pathlib import Path

    import airflow
    import jsonschema

    schema = json.loads(Path(airflow.__path__[0], "provider.yaml.schema.json").read_text())
    info = get_provider_info()
    parts = {key: schema["properties"][key] for key in info if key in schema["properties"]}

    jsonschema.validate(info, {"type": "object", "properties": parts, "$defs": schema.get("$defs", {})})
    assert "connection-types" in parts
    if "conn-fields" in json.dumps(parts):  # before Airflow 3.2 they are unknown, and so not checked
        connection_type = {**info["connection-types"][0], "conn-fields": {"timeout": {"labl": "x"}}}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(
                {"connection-types": [connection_type]}, {"type": "object", "properties": parts}
            )


def test_everything_named_in_the_provider_info_exists():
    """Every module and class in the provider's metadata can be imported."""
    info = get_provider_info()
    modules = [
        name for kind in ("hooks", "operators") for entry in info[kind] for name in entry["python-modules"]
    ]

    for name in modules:
        importlib.import_module(name)
    module, _, hook_class = info["connection-types"][0]["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), hook_class) is StablyHook


def test_earlier_airflows_get_the_same_form(monkeypatch):
    """The classmethods that Airflow before 3.2 calls tell the same fields as the provider info."""
    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    for name in ("flask_appbuilder", "flask_appbuilder.fieldwidgets", "flask_babel", "wtforms"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["flask_appbuilder.fieldwidgets"].BS3TextFieldWidget = lambda: "widget"
    sys.modules["flask_babel"].lazy_gettext = str.upper
    sys.modules["wtforms"].StringField = lambda label, **options: (label, options)

    widgets = StablyHook.get_connection_form_widgets()
    behaviour = StablyHook.get_ui_field_behaviour()

    assert list(widgets) == list(fields)
    assert widgets["timeout"] == (
        fields["timeout"]["label"].upper(),
        {"description": fields["timeout"]["description"], "widget": "widget"},
    )
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    assert behaviour["relabeling"]["login"] == "Default project id"


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

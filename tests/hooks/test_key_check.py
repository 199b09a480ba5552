"""What *Test* in Airflow's connection form says."""

import re

import pytest

from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.testing import Fault
from tests.constants import PROJECT

NOT_STABLY = "Something answered, but not Stably's API: check the host"


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
        pytest.param(Fault(status=405, body="<html>"), NOT_STABLY, id="405, HTML"),
        pytest.param(Fault(status=405, body={"error": "?"}), "The API refused the request", id="405"),
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

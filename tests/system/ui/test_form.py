"""The form for a Stably connection in Airflow's user interface."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from airflow_provider_stably.get_provider_info import get_provider_info
from tests.constants import KEY, PROJECT

FORM = get_provider_info()["connection-types"][0]
PLACEHOLDERS = FORM["ui-field-behaviour"]["placeholders"]
EXTRA_FIELDS = FORM["conn-fields"].values()
LABELS = {"password": "API key", "login": "Default project id", "host": "API base URL", "port": "API port"}
AIRFLOW_LABELS = ("Password", "Login", "Host", "Port", "Schema")


@pytest.fixture
def form(ui):
    """The form for a new connection to Stably."""
    return ui.new_connection("stably_default", "Stably")


@pytest.fixture
def deleted(airflow):
    """Delete the connection that the test has saved."""
    yield
    airflow.rest.delete("/connections/stably_default")


def fill(form, emulator, *, key):
    """Fill in the emulator's address; with a port, since Airflow 3.3.2 tests no connection without one."""
    form.input("API base URL").fill("http://127.0.0.1")
    form.input("API port").fill(str(emulator.port))
    form.input("Default project id").fill(PROJECT)
    form.input("API key").fill(key)
    form.show_extra_fields()
    form.input("Timeout (seconds)").fill("7")


def test_standard_fields_have_stably_labels(form, picture):
    """Each standard field has Stably's label and a placeholder; unused fields are hidden."""
    for name, label in LABELS.items():
        expect(form.input(label)).to_be_visible()
        expect(form.input(label)).to_have_attribute("placeholder", PLACEHOLDERS[name])
    for label in AIRFLOW_LABELS:
        expect(form.root.get_by_text(label, exact=True).locator("visible=true")).to_have_count(0)
    picture("connection-form")


def test_the_key_is_not_shown(form):
    """The field of the API key hides what is typed."""
    form.input("API key").fill(KEY)

    expect(form.input("API key")).to_have_attribute("type", "password")


def test_extra_fields_have_help_texts(form):
    """Each field that only Stably's connections have shows its description."""
    form.show_extra_fields()

    for field in EXTRA_FIELDS:
        expect(form.field(field["label"])).to_contain_text(field["description"])


def test_connection_made_in_the_form_works(form, airflow, emulator, deleted):
    """A connection made in the form passes its connection test and cancels a run."""
    run_id = emulator.add_run(project_id=PROJECT)
    fill(form, emulator, key=KEY)

    message = form.save_and_test("stably_default")
    dag_run = airflow.trigger("example_stably_cancel_run", {"run_ids": [run_id]})

    assert message.startswith("Stably answered and accepted the API key.")
    dag_run.wait_for("success")
    assert emulator.status(run_id) == "CANCELLED"


def test_wrong_key_fails_the_connection_test(form, emulator, deleted):
    """The test of a connection with a wrong API key says that it was refused, and does not show it."""
    fill(form, emulator, key="sk-another")

    message = form.save_and_test("stably_default")

    assert "The API key was refused" in message
    assert "sk-another" not in message

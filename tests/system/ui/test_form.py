"""The form of a connection, as a newcomer sees it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from airflow_provider_stably.get_provider_info import get_provider_info
from tests.constants import KEY, PROJECT

FORM = get_provider_info()["connection-types"][0]
PLACEHOLDERS = FORM["ui-field-behaviour"]["placeholders"]
EXTRA_FIELDS = FORM["conn-fields"].values()
LABELS = {"password": "API key", "login": "Default project id", "host": "API base URL", "port": "API port"}
AIRFLOWS_WORDS = ("Password", "Login", "Host", "Port", "Schema")


@pytest.fixture
def form(ui):
    """The form of a new connection to Stably."""
    return ui.new_connection("stably_default", "Stably")


@pytest.fixture
def deleted(airflow):
    """Delete the connection that the test saves."""
    yield
    airflow.rest.delete("/connections/stably_default")


def fill(form, emulator, *, key):
    """Fill in what leads to the emulator; Airflow 3.3.2 tests no connection whose port field is empty."""
    form.input("API base URL").fill("http://127.0.0.1")
    form.input("API port").fill(str(emulator.port))
    form.input("Default project id").fill(PROJECT)
    form.input("API key").fill(key)
    form.show_extra_fields()
    form.input("Timeout (seconds)").fill("7")


def test_fields_are_in_stablys_words(form, picture):
    """Each standard field has Stably's word for it and says what belongs there; the unused are hidden."""
    for name, label in LABELS.items():
        expect(form.input(label)).to_be_visible()
        expect(form.input(label)).to_have_attribute("placeholder", PLACEHOLDERS[name])
    for word in AIRFLOWS_WORDS:
        expect(form.root.get_by_text(word, exact=True).locator("visible=true")).to_have_count(0)
    picture("connection-form")


def test_the_key_is_not_shown(form):
    """The field of the API key hides what is typed."""
    form.input("API key").fill(KEY)

    expect(form.input("API key")).to_have_attribute("type", "password")


def test_extra_fields_have_help_texts(form):
    """Each field that only Stably's connections have says what it is for."""
    form.show_extra_fields()

    for field in EXTRA_FIELDS:
        expect(form.field(field["label"])).to_contain_text(field["description"])


def test_a_connection_made_in_the_form_works(form, airflow, emulator, deleted):
    """A connection that is typed into the form passes its test, and cancels a run."""
    run_id = emulator.add_run(project_id=PROJECT)
    fill(form, emulator, key=KEY)

    verdict = form.save_and_test("stably_default")
    dag_run = airflow.trigger("example_stably_cancel_run", {"run_ids": [run_id]})

    assert verdict.startswith("Stably answered and accepted the API key.")
    dag_run.wait_for("success")
    assert emulator.status(run_id) == "CANCELLED"


def test_a_wrong_key_is_found_out(form, emulator, deleted):
    """The test of a connection with a wrong key says that the key is refused, and does not show it."""
    fill(form, emulator, key="sk-another")

    verdict = form.save_and_test("stably_default")

    assert "the API key was refused" in verdict
    assert "sk-another" not in verdict

"""Stably runs in Airflow's user interface: the button that opens one, and its XComs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from airflow_provider_stably.api import calls
from tests.constants import PROJECT
from tests.system.versions import Airflow2, airflow_of_this_python

pytestmark = [
    pytest.mark.usefixtures("connection"),
    pytest.mark.skipif(
        isinstance(airflow_of_this_python(), Airflow2),
        reason="of Airflow 2.11, only the form is tested",
    ),
]


@pytest.fixture
def started_run(ui, airflow, emulator):
    """A run that hangs until cancelled, with the page of its DAG run open; cancelled after the test."""
    before = set(emulator.runs)
    ui.trigger("example_stably_gate_deployment", suite="hangs")
    (run_id,) = airflow.wait_until(lambda: set(emulator.runs) - before, what="the run to be started")
    yield emulator.runs[run_id]
    emulator.runs[run_id].cancelled_at = datetime.now(UTC)


def test_emulator_page_shows_the_cancelled_run(page, airflow, emulator, picture):
    """When a waiting task is marked failed, the emulator's open page tells of the run's cancellation."""
    task = airflow.trigger("example_stably_gate_deployment", {"suite": "hangs"}).task("run_tests")
    run_id = airflow.wait_until(lambda: task.xcom("run_id"), what="the run to be started")
    airflow.wait_until(lambda: emulator.requests("get", run_id=run_id), what="the run to be watched")
    row = page.get_by_role("row").filter(has_text=run_id)
    page.goto(emulator.url)
    expect(row).to_contain_text("RUNNING")
    row.get_by_role("link").click()

    task.set_state("failed")

    expect(row).to_contain_text("CANCELLED")
    expect(page.get_by_role("listitem").filter(has_text="cancelled by a call")).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 480})
    picture("emulator")


def test_running_task_links_to_its_run(ui, started_run, picture):
    """While a task waits for its run, a button opens the run's page in Stably."""
    ui.open_task("run_tests")
    ui.open_tab("Details")

    button = ui.page.get_by_role("link", name="Open in Stably")
    expect(button).to_have_attribute("href", calls.run_url(PROJECT, started_run.run_id))
    expect(button).to_have_attribute("target", "_blank")
    picture("open-in-stably")


def test_summary_is_in_xcom(ui, started_run):
    """After a run has passed, the XCom tab shows its summary as the task's return value."""
    ui.open_task("run_tests")

    started_run.run_seconds, started_run.script = 0, "passes"
    ui.wait_for_state("Success")
    summary = ui.xcom("return_value")

    expect(summary).to_contain_text('"status": "PASSED"')
    expect(summary).to_contain_text(started_run.run_id)


def test_cancelled_ids_are_in_xcom(ui, emulator, picture):
    """The XCom tab shows the ids of cancelled runs as the cancel operator's return value."""
    run_id = emulator.add_run(project_id=PROJECT)

    ui.trigger("example_stably_cancel_run", run_ids=run_id)
    ui.open_task("cancel")
    ui.wait_for_state("Success")

    expect(ui.xcom("return_value")).to_contain_text(run_id)
    assert emulator.status(run_id) == "CANCELLED"
    picture("xcom-cancelled")

"""Fixtures of the UI tests: a browser, and a real Airflow with the example DAGs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.constants import KEY, PROJECT, ROOT
from tests.system.dag_runs import PATIENCE_SECONDS
from tests.system.ui.pages import AirflowUi, ui_of_this_python

_ARTEFACTS = ROOT / "build" / "screenshots" / f"airflow-{version('apache-airflow')}"
_CHROMIUM = "chromium"
_SIZE = {"width": 1280, "height": 960}


@pytest.fixture(scope="session")
def dags(home) -> Path:
    """A folder with the example DAGs of these tests, which all Airflow versions can load."""
    folder = home / "example_dags"
    folder.mkdir()
    for name in ("example_stably_cancel_run.py", "example_stably_gate_deployment.py"):
        (folder / name).symlink_to(ROOT / "example_dags" / name)
    return folder


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment variables of Airflow's processes; without a connection, which the tests make."""
    return {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}


@pytest.fixture
def connection(airflow, emulator) -> Iterator[None]:
    """The connection ``stably_default`` to the emulator, in Airflow's database."""
    airflow.add_connection(
        "stably_default", conn_type="stably", host=emulator.url, login=PROJECT, password=KEY
    )
    yield
    airflow.rest.delete("/connections/stably_default")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser: Chromium from Debian, not a download of Playwright's."""
    if (path := shutil.which(_CHROMIUM)) is None:
        pytest.exit("No chromium on PATH: install Debian's package 'chromium'", pytest.ExitCode.TESTS_FAILED)
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    with sync_playwright() as playwright:
        # Chromium's sandbox does not start as root, which tests in containers are.
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def logged_in(browser, airflow) -> Iterator[BrowserContext]:
    """A browser context that is logged in to Airflow."""
    with browser.new_context(viewport=_SIZE, locale="en", timezone_id="UTC") as context:
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        with context.new_page() as page:
            ui_of_this_python(page, airflow.site).log_in()
        yield context


@pytest.fixture
def page(logged_in) -> Iterator[Page]:
    """An empty page of the logged-in browser."""
    with logged_in.new_page() as page:
        yield page


@pytest.fixture
def ui(page, airflow) -> AirflowUi:
    """Airflow's user interface in the page."""
    return ui_of_this_python(page, airflow.site)


@pytest.fixture
def picture(page) -> Callable[[str], None]:
    """A function that saves a screenshot of the page to STABLY_SCREENSHOTS or build/screenshots."""
    folder = ROOT / os.environ.get("STABLY_SCREENSHOTS", _ARTEFACTS)

    def take(name: str) -> None:
        expect(page.locator("[data-scope=toast][data-part=root]")).to_have_count(0)  # it covers a corner
        page.screenshot(path=folder / f"{name}.png", animations="disabled")

    return take


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Save a screenshot of the page when a test fails."""
    report = yield
    if report.failed and call.when != "teardown" and "page" in item.funcargs:
        path = _ARTEFACTS / f"FAILED-{item.name}.png"
        item.funcargs["page"].screenshot(path=path)
        report.sections.append(("page", f"see {path}"))
    return report

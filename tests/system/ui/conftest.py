"""A browser before a real Airflow that has the example DAGs."""

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
    """A folder with the example DAGs that are run here; others need a newer Airflow than some have."""
    folder = home / "example_dags"
    folder.mkdir()
    for name in ("example_stably_cancel_run.py", "example_stably_gate_deployment.py"):
        (folder / name).symlink_to(ROOT / "example_dags" / name)
    return folder


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """What Airflow's processes get besides the harness's configuration; no connection: it is made."""
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
    """Debian's Chromium; Playwright brings none."""
    if (path := shutil.which(_CHROMIUM)) is None:
        pytest.exit("No chromium on PATH: install Debian's package 'chromium'", pytest.ExitCode.TESTS_FAILED)
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    with sync_playwright() as playwright:
        # Chromium's own sandbox refuses to be run by root, as tests in containers are.
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def logged_in(browser, airflow) -> Iterator[BrowserContext]:
    """A browser in which somebody has logged in."""
    with browser.new_context(viewport=_SIZE, locale="en", timezone_id="UTC") as context:
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        with context.new_page() as page:
            ui_of_this_python(page, airflow.site).log_in()
        yield context


@pytest.fixture
def page(logged_in) -> Iterator[Page]:
    """An empty page."""
    with logged_in.new_page() as page:
        yield page


@pytest.fixture
def ui(page, airflow) -> AirflowUi:
    """Airflow in the browser."""
    return ui_of_this_python(page, airflow.site)


@pytest.fixture
def picture(page) -> Callable[[str], None]:
    """Give a function that takes a picture of the page, for STABLY_SCREENSHOTS or build/screenshots."""
    folder = ROOT / os.environ.get("STABLY_SCREENSHOTS", _ARTEFACTS)

    def take(name: str) -> None:
        expect(page.locator("[data-scope=toast][data-part=root]")).to_have_count(0)  # they cover a corner
        page.screenshot(path=folder / f"{name}.png", animations="disabled")

    return take


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Take a picture of what a failed test saw last."""
    report = yield
    if report.failed and call.when != "teardown" and "page" in item.funcargs:
        path = _ARTEFACTS / f"FAILED-{item.name}.png"
        item.funcargs["page"].screenshot(path=path)
        report.sections.append(("page", f"see {path}"))
    return report

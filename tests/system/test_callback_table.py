"""What Airflow calls when something fails: the table in ``docs/callbacks.md``, measured."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version

import pytest

from tests.constants import ROOT
from tests.system.matrix_cell import MatrixCell
from tests.system.versions import DETECTION_SECONDS
from tests.waiting import NotInTimeError

AIRFLOW = re.match(r"\d+\.\d+", version("apache-airflow"))[0]
SETTLING_SECONDS = 5
"""How long a callback that is not documented has to show up."""


def _let_it_fail(task):
    """Do nothing: the task raises an error."""


FAILURES = {
    "the task raises an error": ("callbacks_calls", 0, _let_it_fail),
    "the task is marked failed": ("callbacks_calls", 120, lambda task: task.set_state("failed")),
    "the DAG run is set failed": ("callbacks_calls", 120, lambda task: task.dag_run.set_state("failed")),
    "the DAG run runs into `dagrun_timeout`": ("callbacks_calls_timeout", 120, _let_it_fail),
    "only the task's process is killed": ("callbacks_calls", 120, lambda task: task.kill_process()),
    "the whole worker is killed": ("callbacks_calls", 120, lambda task: task.kill_worker()),
}
"""What the docs call it to the DAG, how long its task works, and what is done to it."""


def _table():
    """Read the table of the docs: what fails to version to the callbacks that are made."""
    text = (ROOT / "docs/callbacks.md").read_text()
    (table,) = re.findall(r"^\| what fails .*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
    (_, *versions), _, *rows = (
        [cell.strip() for cell in row.strip("|").split("|")] for row in table.split("\n")
    )
    return {
        failure: {
            name: set(re.findall(r"task|DAG|downstream", cell))
            for name, cell in zip(versions, cells, strict=True)
        }
        for failure, *cells in rows
    }


def _called(cell):
    """Return which callbacks have left their mark."""
    seen = [
        request.run_id or ""
        for request in list(cell.emulator.journal)
        if request.project_id == cell.project_id
    ]
    return {run_id.partition("-")[0] for run_id in seen}


def _play(failure, airflow, emulator):
    """Let it fail, and return the callbacks that are documented and those that were made."""
    dag_id, seconds, fail = FAILURES[failure]
    cell = MatrixCell(airflow, emulator, "sync", re.sub(r"\W+", "-", failure))
    cell.dag_run = airflow.trigger(dag_id, {"project_id": cell.project_id, "seconds": seconds})
    task = cell.dag_run.task("work")
    if seconds:
        task.wait_for("running")
    fail(task)
    cell.dag_run.wait_for("failed", timeout=DETECTION_SECONDS + 30)
    documented = _table()[failure][AIRFLOW]
    airflow.wait_until(lambda: _called(cell) >= documented, what=f"the callbacks {documented}")
    with suppress(NotInTimeError):
        airflow.wait_until(
            lambda: _called(cell) != documented, what="an undocumented callback", timeout=SETTLING_SECONDS
        )
    return documented, _called(cell)


@pytest.fixture(scope="module")
def side_by_side(airflow, emulator):
    """All failures, played at once."""
    with ThreadPoolExecutor(len(FAILURES)) as pool:
        yield {failure: pool.submit(_play, failure, airflow, emulator) for failure in FAILURES}


@pytest.mark.parametrize("failure", FAILURES)
def test_airflow_calls_what_the_docs_say(failure, side_by_side):
    """After each kind of failure the documented callbacks are made, and no other."""
    documented, called = side_by_side[failure].result(timeout=300)

    assert called == documented


def test_the_table_is_about_these_failures():
    """The docs' rows are what is played here."""
    assert set(_table()) == set(FAILURES)

"""Which callbacks Airflow calls after which failure: the table in ``docs/notifications.md``, measured."""

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
"""How long to wait for a callback that is not documented."""


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
"""The docs' name of a failure: its DAG, how many seconds its task works, what is done to the task."""


def _table():
    """Read the table in the docs: failure to Airflow version to the callbacks that it calls."""
    text = (ROOT / "docs/notifications.md").read_text()
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
    """Return the callbacks that were called, by their requests in the emulator's journal."""
    run_ids = [
        request.run_id or ""
        for request in list(cell.emulator.journal)
        if request.project_id == cell.project_id
    ]
    return {run_id.partition("-")[0] for run_id in run_ids}


def _play(failure, airflow, emulator):
    """Play a failure, and return the documented callbacks and those that were called."""
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
    """The results of all failures, played at once, as futures."""
    with ThreadPoolExecutor(len(FAILURES)) as pool:
        yield {failure: pool.submit(_play, failure, airflow, emulator) for failure in FAILURES}


@pytest.mark.parametrize("failure", FAILURES)
def test_airflow_calls_what_the_docs_say(failure, side_by_side):
    """After each kind of failure, Airflow calls the documented callbacks and no other."""
    documented, called = side_by_side[failure].result(timeout=300)

    assert called == documented


def test_docs_list_each_failure():
    """The rows of the table in the docs are the failures that are tested here."""
    assert set(_table()) == set(FAILURES)

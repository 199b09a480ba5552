"""The cancellation matrix: no scenario in ``scenarios.py`` leaves a Stably run live.

With ``MUTATE`` in the environment, one mechanism is switched off and the cells that prove it must turn red.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from airflow_provider_stably.testing import StablyEmulator
from tests.constants import KEY, PROJECT
from tests.system import matrix_table
from tests.system.dag_runs import DAG_RUN_ID
from tests.system.matrix_cell import MatrixCell
from tests.system.mechanisms import MECHANISMS
from tests.system.scenarios import SCENARIOS, KnownGap, Scenario
from tests.system.verdicts import CellVerdict, judge
from tests.waiting import NotInTimeError

SIDE_BY_SIDE = 7
"""How many cells are played at once; more would only compete for two CPU cores."""

RACES = int(os.environ.get("STABLY_RACES", "3"))
"""How often a scenario that is a race is played; 15 found each race that is known."""

OWN_CONNECTION = frozenset({"rotated", "revoked", "impatient", "stored"})
"""Variants that need an emulator of their own and a connection to it in Airflow's database."""

_SWITCHED_OFF = MECHANISMS[os.environ["MUTATE"]] if "MUTATE" in os.environ else None

_CELLS = [
    pytest.param(scenario, mode, id=re.sub(r"\W+", "-", f"{scenario.name} {mode}"))
    for scenario in sorted(SCENARIOS, key=lambda scenario: scenario.alone)
    for mode in scenario.modes
    if _SWITCHED_OFF is None or _SWITCHED_OFF.owns(scenario.name, mode)
]


@dataclass(frozen=True)
class CellResult:
    """How a cell ended.

    :param is_as_documented: Whether the task ended in an expected state, with the expected number of runs.
    :param report: States and runs, for the message of a failed test.
    :param dag_run_id: The cell's DAG run.
    """

    verdict: CellVerdict
    is_as_documented: bool
    report: str
    dag_run_id: str

    def cell_text(self, known_gap: KnownGap | None) -> str:
        """Return what the matrix shows for the cell."""
        expected = {CellVerdict.OK} if known_gap is None else known_gap.verdicts
        if self.verdict not in expected:
            return str(self.verdict)
        if not self.is_as_documented:
            return "NOT AS DOCUMENTED"
        return str(known_gap or CellVerdict.OK)


@pytest.fixture(scope="module")
def table(pytestconfig):
    """The text of each cell, by scenario and mode; printed, and written to a file, at the end."""
    results: dict[tuple[str, str], str] = {}
    yield results
    rows = matrix_table.rows(SCENARIOS, results)
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    with pytestconfig.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        for line in ("", *matrix_table.as_text(rows)):
            terminal.write_line(line)
    if path := os.environ.get("STABLY_MATRIX"):
        measured_on = f"Airflow {version('apache-airflow')} with the LocalExecutor and PostgreSQL"
        Path(path).write_text(matrix_table.as_markdown(rows, measured_on=measured_on), encoding="utf-8")


@pytest.fixture(scope="module")
def emulator_of(emulator, tls_emulator):
    """A function that returns the emulator that a scenario's connection leads to, unless it has its own."""
    return lambda scenario: tls_emulator if scenario.variant == "untrusted" else emulator


@pytest.fixture(scope="module")
def side_by_side(request, airflow, emulator_of):
    """The results of the selected cells that are played side by side, as futures; a race has several."""
    selected = [
        item.callspec.params
        for item in request.session.items
        if getattr(item, "originalname", None) == "test_no_run_is_left_behind"
    ]
    with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="cell") as pool:
        yield {
            (each["scenario"].name, each["mode"]): [
                pool.submit(
                    play, **each, airflow=airflow, emulator=emulator_of(each["scenario"]), number=number
                )
                for number in range(RACES if each["scenario"].is_race else 1)
            ]
            for each in selected
            if not each["scenario"].alone and _can_be_played(**each)
        }
        pool.shutdown(cancel_futures=True)


def _can_be_played(scenario: Scenario, mode: str) -> bool:
    known_gap = scenario.known_gap(mode)
    return known_gap is None or known_gap.verdict is not None


@pytest.mark.parametrize(("scenario", "mode"), _CELLS)
def test_no_run_is_left_behind(scenario, mode, side_by_side, table, airflow, emulator_of, record_property):
    """No run is left live, no second run is started beside one, and the task's state is that of its run."""
    known_gap = scenario.known_gap(mode)
    if not _can_be_played(scenario, mode):
        table[scenario.name, mode] = str(known_gap)
        pytest.skip(known_gap.reason)
    futures: list[Future[CellResult]] = side_by_side.get((scenario.name, mode), [])
    table[scenario.name, mode] = "BROKEN"
    results = [future.result(timeout=900) for future in futures] or [
        play(scenario, mode, airflow, emulator_of(scenario))
    ]
    texts = [result.cell_text(known_gap) for result in results]
    table[scenario.name, mode] = _worst(texts, _expected(scenario, mode))
    for result in results:
        record_property(DAG_RUN_ID, result.dag_run_id)

    report = "\n".join(f"{text}: {result.report}" for text, result in zip(texts, results, strict=True))
    assert table[scenario.name, mode] == _expected(scenario, mode), report


def _worst(texts: Sequence[str], expected: str) -> str:
    """Return the text of a cell that was played several times: once is enough to prove a fault."""
    if _SWITCHED_OFF is not None:
        return expected if expected in texts else texts[0]
    return next((text for text in texts if text != expected), expected)


def _expected(scenario: Scenario, mode: str) -> str:
    """Return the text that the matrix must show for a cell."""
    if _SWITCHED_OFF is not None:
        return _SWITCHED_OFF.becomes
    return str(scenario.known_gap(mode) or CellVerdict.OK)


def play(scenario: Scenario, mode: str, airflow, emulator, number: int = 0) -> CellResult:
    """Play a scenario in a mode and return how it ended.

    :param number: Which of the plays of a race, from 0.
    """
    project_id = re.sub(r"\W+", "-", f"{scenario.name} {mode} {number}")
    if scenario.variant in OWN_CONNECTION:
        with StablyEmulator(api_key=KEY, run_seconds=emulator.run_seconds) as own:
            extra = '{"allow_http": true, "timeout": 2}'
            airflow.add_connection(
                f"stably_{scenario.variant}_{mode}",
                conn_type="stably",
                host=own.url,
                login=PROJECT,
                password=KEY,
                extra=extra,
            )
            return _play(scenario, MatrixCell(airflow, own, mode, project_id))
    return _play(scenario, MatrixCell(airflow, emulator, mode, project_id))


def _play(scenario: Scenario, cell: MatrixCell) -> CellResult:
    task_id, map_index = scenario.task
    if scenario.start_fault is not None:
        cell.inject(scenario.start_fault, call="start")
    cell.trigger(scenario.variant, script=scenario.script, task_id=task_id, map_index=map_index)
    timed_out = ""
    for step in (scenario.play, MatrixCell.wait_for_end):
        try:
            step(cell)
        except NotInTimeError as error:  # judge it all the same: it may have left a run live
            timed_out += f"; timed out: {error}"
    state = cell.task.state
    runs = cell.runs()
    starts = scenario.starts_here()
    statuses = [cell.emulator.status(run.run_id) for run in runs]
    report = (
        f"{scenario.name}, {cell.mode}: the task ended {state}, expected {' or '.join(scenario.ends)}; "
        f"{len(runs)} run(s), expected {starts}: {statuses}{timed_out}"
    )
    is_as_documented = not timed_out and state in scenario.ends and len(runs) == starts
    verdict = judge(runs, state, marked_by_user=scenario.marked_by_user)
    return CellResult(verdict, is_as_documented, report, cell.dag_run.run_id)

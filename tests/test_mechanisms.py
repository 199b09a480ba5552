"""The table of mechanisms that the system tests switch off one by one."""

import importlib
from operator import attrgetter

import pytest

from tests.constants import ROOT
from tests.system.mechanisms import MECHANISMS, MODES, SHORT_WINDOWS, as_markdown
from tests.system.scenarios import SCENARIOS

PLAYED = {(scenario.name, mode) for scenario in SCENARIOS for mode in scenario.modes}


@pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS)
def test_a_mechanism_is_in_the_package(mechanism):
    """What is switched off exists; a renamed one would be left on."""
    module, name = mechanism.place

    assert attrgetter(name)(importlib.import_module(f"airflow_provider_stably.{module}")) is not None


@pytest.mark.parametrize("place", SHORT_WINDOWS)
def test_a_shortened_window_is_in_the_package(place):
    """Each window that the test Airflow shortens is a constant of the package."""
    module, name = place.split(":")

    assert hasattr(importlib.import_module(f"airflow_provider_stably.{module}"), name)


@pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS)
def test_a_mechanism_owns_cells_of_the_matrix(mechanism):
    """Each mechanism has a cell to prove it, and each such cell is played."""
    cells = {(name, mode) for mode in MODES for name in getattr(mechanism, mode)}

    assert cells
    assert cells <= PLAYED


def test_the_docs_name_the_cells_of_each_mechanism():
    """The page of what was measured shows the table that the system tests go by."""
    assert as_markdown() in (ROOT / "docs/guarantees_measured.md").read_text()

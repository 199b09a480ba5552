"""The pins of the cell that has the lowest versions of what the package requires."""

import tomllib

import pytest

from tests.constants import ROOT

REQUIRED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
LOWEST = dict(
    line.split("==") for line in (ROOT / "constraints/lowest-py3.11.txt").read_text().splitlines() if line
)


@pytest.mark.parametrize("requirement", REQUIRED)
def test_each_lower_bound_is_the_version_that_is_tested(requirement):
    """What pyproject.toml allows at least is what the cell pins; 2.32 may be 2.32.2, the first not yanked."""
    name, _, bound = requirement.partition(">=")

    assert f"{LOWEST[name]}.".startswith(f"{bound}.")

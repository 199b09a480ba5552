"""What pyproject.toml says of versions, and the pins of the matrix's cells."""

import tomllib

import pytest

from tests.constants import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["junit"]]
LOWEST = dict(
    line.split("==") for line in (ROOT / "constraints/lowest-py3.11.txt").read_text().splitlines() if line
)


@pytest.mark.parametrize("requirement", REQUIRED)
def test_each_lower_bound_is_a_tested_version(requirement):
    """What pyproject.toml allows at least is what the cell pins; 2.32 may be 2.32.2, the first not yanked."""
    name, _, bound = requirement.partition(">=")

    assert f"{LOWEST[name]}.".startswith(f"{bound}.")


def test_the_classifiers_name_the_tested_pythons():
    """PyPI shows each Python that has a cell, and no other."""
    tested = {path.stem.partition("-py")[2] for path in ROOT.glob("constraints/*.txt")}
    prefix = "Programming Language :: Python :: "
    classified = {name.removeprefix(prefix) for name in PROJECT["classifiers"] if name.startswith(prefix)}

    assert classified == {"3 :: Only", *tested}

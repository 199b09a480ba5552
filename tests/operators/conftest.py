"""What the operators' tests share."""

import pytest

from tests.constants import PROJECT


@pytest.fixture
def run_id(emulator):
    """A run that never ends by itself."""
    return emulator.add_run(project_id=PROJECT)

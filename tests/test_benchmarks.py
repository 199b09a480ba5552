"""The benchmarks run: nothing else would notice that one of them no longer does."""

import subprocess
import sys

import pytest

from tests.constants import ROOT

SECONDS = 120


@pytest.mark.parametrize("name", ["cancel_many", "polling_schedule", "results_cost"])
def test_the_benchmark_runs(name):
    """Those that take seconds come to their end."""
    script = ROOT / "benchmarks" / f"{name}.py"

    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=SECONDS, check=False
    )

    assert ended.returncode == 0, ended.stderr

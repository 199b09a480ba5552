"""What Airflow's components call their host: each its own name, so that its jobs can be told."""

from __future__ import annotations

import os

VARIABLE = "STABLY_SYSTEM_TEST_COMPONENT"


def component_name() -> str:
    """Return the name that the component was started under."""
    return os.environ[VARIABLE]

"""The host name of each Airflow component: its own name, to tell its jobs in the database apart."""

from __future__ import annotations

import os

VARIABLE = "STABLY_SYSTEM_TEST_COMPONENT"


def component_name() -> str:
    """Return the name that this component was started with."""
    return os.environ[VARIABLE]

"""What tests of the trigger share."""

import time
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest

from airflow_provider_stably.tasks.triggerer import is_still_deferred
from airflow_provider_stably.triggers import stably
from airflow_provider_stably.triggers.stably import StablyRunTrigger
from tests.constants import PROJECT
from tests.triggers.in_triggerer import in_triggerer


@pytest.fixture
def trigger(emulator):
    """A trigger on a run that never ends by itself."""
    trigger = StablyRunTrigger(
        run_id=emulator.add_run(project_id=PROJECT),
        project_id=PROJECT,
        stably_conn_id="stably_default",
        started_at=time.time(),
        deadline=time.time() + 100,
        poll_interval=0.01,
        cancel_on_kill=True,
    )
    in_triggerer(trigger, SimpleNamespace(key="its key"))
    return trigger


@pytest.fixture
def says(monkeypatch):
    """Let Airflow say whether the task still waits for the run, or that it cannot tell."""

    def say(answer):
        effect = {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
        monkeypatch.setattr(stably, "is_still_deferred", create_autospec(is_still_deferred, **effect))

    return say

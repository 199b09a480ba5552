"""The rules are tested with their real windows and a made-up clock."""

import pytest

WINDOWS = {
    "REFUSED_SECONDS": 900.0,
    "NEVER_ACCEPTED_SECONDS": 120.0,
    "MISSING_SECONDS": 120.0,
    "REMINDER_SECONDS": 60.0,
}


@pytest.fixture(autouse=True)
def _real_windows(_impatient, monkeypatch):
    """Undo what the other tests need to be quick."""
    from airflow_provider_stably.runs import belief, cancel, watch

    for name, seconds in WINDOWS.items():
        monkeypatch.setattr(belief, name, seconds)
    monkeypatch.setattr(watch, "SHORTEST_DELAY_SECONDS", 2.0)
    monkeypatch.setattr(watch, "CANCEL_PATIENCE_SECONDS", 120.0)
    monkeypatch.setattr(cancel, "SECONDS_BETWEEN_ATTEMPTS", 1.0)

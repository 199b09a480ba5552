"""What is logged of clean-up that fails."""

import pytest

from airflow_provider_stably.exceptions import StablyError
from airflow_provider_stably.tasks.best_effort import best_effort
from tests.shown import held_by_frames


@pytest.mark.parametrize("error", [StablyError("as told"), KeyError("as it is")], ids=["ours", "other"])
def test_a_failure_is_logged_short_and_on_one_line(caplog, error):
    """It may name what comes out of a trigger's arguments or an XCom."""
    with best_effort("Run " + "\x1b[31m\n" * 10**5):
        raise error

    [record] = caplog.records
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 600


def test_a_logged_failures_frames_hold_nothing(caplog):
    """Some logs render locals, and those of a secrets backend are secret."""

    def look_up(secret):
        raise KeyError("no such connection")

    with best_effort("The connection cannot be read"):
        look_up("hush")

    [record] = caplog.records
    held = held_by_frames(record.exc_info[1])
    assert "look_up" in caplog.text
    assert "hush" not in held

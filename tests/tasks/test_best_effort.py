"""What is logged of clean-up that fails."""

import pytest

from airflow_provider_stably.exceptions import StablyError
from airflow_provider_stably.tasks.best_effort import best_effort


@pytest.mark.parametrize("error", [StablyError("as told"), KeyError("as it is")], ids=["ours", "other"])
def test_a_failure_is_logged_short_and_on_one_line(caplog, error):
    """It may name what comes out of a trigger's arguments or an XCom."""
    with best_effort("Run " + "\x1b[31m\n" * 10**5):
        raise error

    [record] = caplog.records
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 600

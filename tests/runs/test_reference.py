"""A run as an XCom or a start record names it."""

import math

import pytest

from airflow_provider_stably.runs.reference import RunReference


@pytest.mark.parametrize(
    "started_at",
    [10**400, 1e300, math.inf, -math.inf, math.nan, -1, 0, "1", None],
    ids=["huge", "1e300", "inf", "-inf", "nan", "-1", "0", "text", "none"],
)
def test_a_start_that_is_no_time_is_not_known(started_at):
    """Whoever may write an XCom ends neither the task that reads it nor keeps it from ending."""
    run = RunReference.from_json({"run_id": "r", "project_id": "p", "started_at": started_at})

    assert run.started_at is None


def test_a_start_is_read():
    """In seconds since the epoch."""
    run = RunReference.from_json({"run_id": "r", "project_id": "p", "started_at": 1_790_000_000})

    assert run.started_at == 1_790_000_000.0


@pytest.mark.parametrize("stably_conn_id", [["x"], {}, 7, None], ids=str)
def test_a_connection_that_is_no_text_is_not_known(stably_conn_id):
    """A reference is a key where runs are grouped, and a list could not be one."""
    run = RunReference.from_json({"run_id": "r", "project_id": "p", "stably_conn_id": stably_conn_id})

    assert run.stably_conn_id is None

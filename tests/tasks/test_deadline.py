"""A deferred task gives up in time, by the wall clock."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_provider_stably.tasks import deadline
from airflow_provider_stably.tasks.deadline import deferred_deadline

STARTED_AT = 1_000_000.0
RUN_STARTED_AT = STARTED_AT + 5


@pytest.mark.parametrize(
    ("airflow_enforces", "execution_timeout", "expected"),
    [
        pytest.param(False, None, RUN_STARTED_AT + 7200, id="the operator's timeout"),
        pytest.param(False, 3600, STARTED_AT + 3600, id="execution_timeout"),
        pytest.param(False, 10_000, RUN_STARTED_AT + 7200, id="the earlier of both"),
        pytest.param(True, 3600, STARTED_AT + 3570, id="half a minute before Airflow 2.11"),
        pytest.param(True, 20, STARTED_AT + 18, id="a tenth before Airflow 2.11"),
    ],
)
def test_a_deferred_task_ends_at_its_earliest_limit(
    monkeypatch, airflow_enforces, execution_timeout, expected
):
    """The operator's timeout counts from the run's start, execution_timeout from the task's."""
    monkeypatch.setattr(deadline, "AIRFLOW_ENFORCES_EXECUTION_TIMEOUT", airflow_enforces)
    limit = None if execution_timeout is None else timedelta(seconds=execution_timeout)
    ti = SimpleNamespace(start_date=datetime.fromtimestamp(STARTED_AT, UTC))
    context = {"ti": ti, "task": SimpleNamespace(execution_timeout=limit)}

    gives_up_at = deferred_deadline(context, from_time=RUN_STARTED_AT, timeout=7200)

    assert gives_up_at == expected

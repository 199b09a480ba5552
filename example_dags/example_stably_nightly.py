"""How do I run a suite every night? One run at a time, and at most one missed night made up for.

`catchup=False` stands here because it is on by default in Airflow 2: without it, a DAG copied there starts a
run for each day since its start date. With it, a DAG that is unpaused runs the last night that it missed, at
once. `max_active_runs=1` lets a late night finish before the next begins.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, Param
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_stably.operators.stably import StablyRunTestsOperator

# [START howto_schedule_safely]
with DAG(
    "example_stably_nightly",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    params={"suite": Param("nightly", type="string", title="Playwright project")},
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:
    StablyRunTestsOperator(
        task_id="run_tests",
        playwright_project_name="{{ params.suite }}",
        deferrable=True,
        min_tests=1,
        timeout=2 * 60 * 60,
        retries=0,  # each retry is another run, and a flaky suite would turn green
    )
# [END howto_schedule_safely]

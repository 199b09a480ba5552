"""How do I start a DAG whenever the tests of an environment have passed? Make that an asset.

The task with the outlet updates it only when its run has passed; the event's extra says which run that was.
On Airflow 2.11 an asset is called a dataset, and this file is the same.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import ...
from airflow.providers.common.compat.sdk import DAG, Asset, Param, task

from airflow_provider_stably.operators.stably import StablyRunTestsOperator

# [START howto_asset_stably_tests_passed]
passed_on_staging = Asset("stably://tests-passed/staging")

with DAG(
    "example_stably_schedule_on_passed_tests",
    description="Runs the Stably tests of staging, and says so when they have passed",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    params={"suite": Param(None, type=["null", "string"], title="Playwright project")},
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:
    StablyRunTestsOperator(
        task_id="run_tests",
        playwright_project_name="{{ params.suite }}",
        environment="staging",
        min_tests=1,
        deferrable=True,
        timeout=60 * 60,
        retries=0,  # each retry is another run
        outlets=[passed_on_staging],
    )

with DAG(
    "example_stably_deploy_what_passed",
    description="Deploys whenever the tests of staging have passed",
    schedule=[passed_on_staging],
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    doc_md=__doc__,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),  # Airflow 2.11 wants one
    tags=["stably", "example"],
) as deploy_dag:

    @task(inlets=[passed_on_staging], execution_timeout=timedelta(minutes=5))
    def deploy(inlet_events: Any = None) -> None:
        tested = inlet_events[passed_on_staging][-1].extra
        print(f"Deploying what run {tested['run_id']} tested: {tested['passed']} tests, {tested['run_url']}")

    deploy()
# [END howto_asset_stably_tests_passed]

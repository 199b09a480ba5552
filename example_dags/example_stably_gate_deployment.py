"""How do I let a deployment go on only if the tests passed? Put the run between its two halves.

The wait is deferred: it takes no worker slot, however long the run takes, and needs a triggerer. If the task
is marked, cleared or times out, the run is cancelled; docs/guarantees.md has all cases.
"""

from __future__ import annotations

from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, Param, task
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.operators.stably import StablyRunTestsOperator

with DAG(
    "example_stably_gate_deployment",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    params={
        "suite": Param(
            None, type=["null", "string"], title="Playwright project", description="Empty runs all"
        )
    },
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:

    @task(execution_timeout=timedelta(minutes=30))
    def deploy_to_staging() -> str:
        return "https://staging.example.com"

    @task(execution_timeout=timedelta(minutes=30))
    def deploy_to_production(tested: dict[str, object]) -> None:
        print(f"Deployed after {tested['passed']} of {tested['total']} tests passed, see {tested['run_url']}")

    staging_url = deploy_to_staging()
    # [START howto_operator_stably_run_tests]
    run_tests = StablyRunTestsOperator(
        task_id="run_tests",
        playwright_project_name="{{ params.suite }}",
        environment="staging",
        env_overrides={"BASE_URL": staging_url},
        timeout=60 * 60,
        deferrable=True,
        min_tests=1,
        retries=0,  # each retry is another run
    )
    deploy_to_production(run_tests.output)
    # [END howto_operator_stably_run_tests]

"""How do I let a deployment go on only if the tests passed? Put the run between its two halves.

The wait is deferred: it takes no worker slot, however long the run takes. If the task is killed, marked,
cleared or times out, the run is cancelled.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.operators.stably import StablyRunTestsOperator

with DAG(
    "example_stably_gate_deployment",
    description="Deploys to production only if the Stably tests pass on staging",
    schedule=None,
    params={
        "suite": Param(
            None, type=["null", "string"], title="Playwright project", description="Empty runs all"
        )
    },
    tags=["stably", "example"],
) as dag:

    @task
    def deploy_to_staging() -> str:
        return "https://staging.example.com"

    @task
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
    )
    deploy_to_production(run_tests.output)
    # [END howto_operator_stably_run_tests]

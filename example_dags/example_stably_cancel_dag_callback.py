"""How do I stop Stably runs when the DAG run fails or times out? Give the DAG a callback.

The dag processor calls it once, after the last task has ended; a DAG run that a user sets failed calls
nothing. That of Airflow 3.0 cannot read XComs: name run_ids there.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyRunTestsOperator

# [START howto_notifier_stably_dag]
with DAG(
    "example_stably_cancel_dag_callback",
    description="Cancels the Stably runs of a DAG run that fails",
    schedule=None,
    dagrun_timeout=timedelta(hours=2),
    on_failure_callback=StablyCancelRunNotifier(task_ids=["smoke_tests", "load_tests"]),
    params={"healthy": Param(True, type="boolean", title="Whether the deployment succeeds")},
    tags=["stably", "example"],
) as dag:
    smoke_tests = StablyRunTestsOperator(task_id="smoke_tests", wait_for_completion=False)
    load_tests = StablyRunTestsOperator(task_id="load_tests", wait_for_completion=False)

    @task
    def deploy(params: dict[str, bool] | None = None) -> None:
        if not (params or {})["healthy"]:
            raise RuntimeError("The deployment failed")

    [smoke_tests, load_tests] >> deploy()
# [END howto_notifier_stably_dag]

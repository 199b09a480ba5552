"""How do I stop runs by hand? Trigger this DAG and name them: a kill switch.

As the JSON of a trigger: `{"run_ids": ["run-1", "run-2"], "project_id": "project-1"}`.
"""

from __future__ import annotations

from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, Param, task
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.operators.stably import StablyCancelRunOperator

with DAG(
    "example_stably_cancel_run",
    schedule=None,
    catchup=False,
    max_active_runs=10,  # a kill switch does not wait for another one
    params={
        "run_ids": Param(
            type="array",
            items={"type": "string"},
            minItems=1,
            title="Run ids",
            description="The Stably runs to cancel, one id per line",
        ),
        "project_id": Param(
            None,
            type=["null", "string"],
            title="Project id",
            description="The project of these runs; empty takes the connection's",
        ),
    },
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:
    # [START howto_operator_stably_cancel_run]
    cancel = StablyCancelRunOperator(
        task_id="cancel",
        run_ids="{{ params.run_ids }}",
        project_id="{{ params.project_id or '' }}",
        retries=3,  # cancelling again costs nothing
        retry_delay=timedelta(minutes=1),
        execution_timeout=timedelta(minutes=15),
    )

    @task(execution_timeout=timedelta(minutes=5))
    def report(cancelled: list[str]) -> None:
        for run_id in cancelled:
            print(f"Cancelled Stably run {run_id}")

    # A teardown: it also runs if an id was wrong, and the DAG run is red then all the same.
    report(cancel.output).as_teardown()
    # [END howto_operator_stably_cancel_run]

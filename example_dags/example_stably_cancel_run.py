"""How do I stop Stably runs by hand? Trigger this DAG and name them: a kill switch.

As the JSON of a trigger: ``{"run_ids": ["run-1", "run-2"], "project_id": "project-1"}``.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.operators.stably import StablyCancelRunOperator

with DAG(
    "example_stably_cancel_run",
    description="Cancels the Stably runs that you name",
    schedule=None,
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
    tags=["stably", "example"],
) as dag:
    # [START howto_operator_stably_cancel_run]
    cancel = StablyCancelRunOperator(
        task_id="cancel",
        run_ids="{{ params.run_ids }}",
        project_id="{{ params.project_id or '' }}",
    )

    @task
    def report(cancelled: list[str]) -> None:
        for run_id in cancelled:
            print(f"Cancelled Stably run {run_id}")

    # A teardown: it also runs if an id was wrong, and the DAG run is red then all the same.
    report(cancel.output).as_teardown()
    # [END howto_operator_stably_cancel_run]

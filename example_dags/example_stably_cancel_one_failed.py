"""How do I see the cancelling as a task of its own? By the trigger rule one_failed, and another last task.

A DAG run is as its last tasks are. Were ``stop`` the only one, its success would turn a failed DAG run green;
``report`` is another, and does not run unless all went well.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

with DAG(
    "example_stably_cancel_one_failed",
    description="Cancels the Stably run in a task that runs when another one fails",
    schedule=None,
    params={"healthy": Param(True, type="boolean", title="Whether the work in between succeeds")},
    tags=["stably", "example"],
) as dag:

    @task
    def seed_data(params: dict[str, bool] | None = None) -> None:
        if not (params or {})["healthy"]:
            raise RuntimeError("The data could not be seeded")

    @task
    def report() -> None:
        print("All tests passed")

    # [START howto_operator_stably_one_failed]
    start = StablyRunTestsOperator(task_id="start", wait_for_completion=False)
    seed = seed_data()
    wait = StablyRunSensor(task_id="wait", run_id=start.output["run_id"], deferrable=True)
    stop = StablyCancelRunOperator(task_id="stop", task_ids="start", trigger_rule="one_failed")
    start >> seed >> wait >> [report(), stop]
    seed >> stop
    # [END howto_operator_stably_one_failed]

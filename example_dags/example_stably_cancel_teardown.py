"""How do I make sure that a Stably run that was started is over in the end? Cancel it in a teardown.

It runs if start succeeded, however the tasks after that ended, and leaves the DAG run as they left it: red
stays red.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

with DAG(
    "example_stably_cancel_teardown",
    description="Cancels the Stably run in a teardown, if it still goes on then",
    schedule=None,
    params={"healthy": Param(True, type="boolean", title="Whether the work in between succeeds")},
    tags=["stably", "example"],
) as dag:

    @task
    def seed_data(params: dict[str, bool] | None = None) -> None:
        if not (params or {})["healthy"]:
            raise RuntimeError("The data could not be seeded")

    # [START howto_operator_stably_teardown]
    start = StablyRunTestsOperator(task_id="start", wait_for_completion=False).as_setup()
    wait = StablyRunSensor(task_id="wait", run_id=start.output["run_id"], deferrable=True)
    stop = StablyCancelRunOperator(task_id="stop", task_ids="start").as_teardown(setups=start)
    start >> seed_data() >> wait >> stop
    # [END howto_operator_stably_teardown]

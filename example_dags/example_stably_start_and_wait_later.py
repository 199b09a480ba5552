"""How do I start a run now, do other work, and wait for it later? Start without waiting, then use the sensor.

Between the two nobody watches the run, so the teardown cancels it if the work in between fails.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

with DAG(
    "example_stably_start_and_wait_later",
    description="Starts a Stably run, works meanwhile, then waits for it",
    schedule=None,
    tags=["stably", "example"],
) as dag:

    @task
    def other_work() -> None:
        print("Seeding the database, warming the cache ...")

    # [START howto_sensor_stably_run]
    start = StablyRunTestsOperator(task_id="start", wait_for_completion=False)
    wait = StablyRunSensor(task_id="wait", run_id=start.output["run_id"], deferrable=True)
    stop = StablyCancelRunOperator(task_id="stop", task_ids="start").as_teardown(setups=start)
    start >> other_work() >> wait >> stop
    # [END howto_sensor_stably_run]

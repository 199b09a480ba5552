"""DAGs whose runs end green and red, and callbacks that are told of it."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_stably.exceptions import find_run_error
from airflow_provider_stably.operators.stably import StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

PARAMS = {"script": Param("passes", type="string"), "run_id": Param("", type="string")}

TOLD: list[object] = []
"""What the failure callbacks found in ``context["exception"]``."""

tell_people = TOLD.append


# [START howto_find_run_error]
def on_failure(context):
    error = find_run_error(context.get("exception"))
    tell_people(error.run if error else None)  # None: no run, or Airflow ended the task
    # [END howto_find_run_error]


with DAG("results_of_operator", schedule=None, params=PARAMS) as operator:
    StablyRunTestsOperator(
        task_id="task",
        playwright_project_name="{{ params.script }}",
        poll_interval=0.05,
        on_failure_callback=on_failure,
    )

with DAG("results_of_sensor", schedule=None, params=PARAMS) as sensor:
    StablyRunSensor(
        task_id="task", run_id="{{ params.run_id }}", poke_interval=0.05, on_failure_callback=on_failure
    )

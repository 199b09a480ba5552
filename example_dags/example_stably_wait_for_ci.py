"""How do I wait for a run that my CI started, and stop it if something fails? Hand its id to the DAG.

As the JSON of a trigger: `{"run_id": "run-1"}`. Stably's API has no list of runs, so the id, or the address
of the run's page, has to come from where the run was started. No task here started it: `run_ids` names it, by
a template, in the teardown and in the callback of the DAG.
"""

from __future__ import annotations

from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3.2 and later alone: airflow.sdk, and airflow.sdk.exceptions
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Param, task

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyCancelRunOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

# [START howto_sensor_stably_run]
with DAG(
    "example_stably_wait_for_ci",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),  # more than all tasks together
    on_failure_callback=StablyCancelRunNotifier(run_ids="{{ params.run_id }}"),
    params={
        "run_id": Param("", type="string", title="Run id, or the address of the run's page"),
        "healthy": Param(True, type="boolean", title="Whether the preparation succeeds"),
    },
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:

    @task(execution_timeout=timedelta(minutes=30))
    def prepare(params=None):
        if not params["run_id"]:
            raise AirflowFailException("Name the run")
        if not params["healthy"]:
            raise RuntimeError("The preparation failed")

    wait = StablyRunSensor(
        task_id="wait", run_id="{{ params.run_id }}", min_tests=1, deferrable=True, timeout=60 * 60, retries=2
    )

    @task(execution_timeout=timedelta(minutes=30))
    def deploy_to_production():
        print("The run passed")

    stop = StablyCancelRunOperator(
        task_id="stop", run_ids="{{ params.run_id }}", retries=3, retry_delay=timedelta(minutes=1)
    ).as_teardown(on_failure_fail_dagrun=True)

    prepare() >> wait >> [deploy_to_production(), stop]
# [END howto_sensor_stably_run]

"""DAGs that start runs and wait for them, on the worker and deferred."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param, task, task_group

from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

PARAMS = {
    "script": Param("passes", type="string"),
    "retries": Param(0, type="integer"),
    "run_id": Param("", type="string"),
    "scripts": Param([], type="array"),
    "token": Param("", type="string"),
}


def run_dag(dag_id: str, **arguments):
    """Make a DAG with one task, ``run``."""
    with DAG(dag_id, schedule=None, params=PARAMS) as dag:
        StablyRunTestsOperator(
            task_id="run",
            **{"playwright_project_name": "{{ params.script }}", "poll_interval": 0.05, **arguments},
        )
    return dag


run_here = run_dag("run_here", deferrable=False)
run_deferred = run_dag("run_deferred", deferrable=True)
run_here_with_retries = run_dag("run_here_retries", deferrable=False, retries=2, retry_delay=timedelta(0))
run_deferred_with_retries = run_dag(
    "run_deferred_retries", deferrable=True, retries=2, retry_delay=timedelta(0)
)
run_here_too_long = run_dag("run_here_too_long", deferrable=False, timeout=0.3)
run_deferred_too_long = run_dag("run_deferred_too_long", deferrable=True, timeout=0.3)
run_here_execution_timeout = run_dag(
    "run_here_execution_timeout", deferrable=False, execution_timeout=timedelta(seconds=3)
)
run_deferred_execution_timeout = run_dag(
    "run_deferred_execution_timeout", deferrable=True, execution_timeout=timedelta(seconds=3)
)
run_deferred_in_time = run_dag(
    "run_deferred_in_time", deferrable=True, execution_timeout=timedelta(minutes=5)
)
run_and_leave = run_dag("run_and_leave", wait_for_completion=False)
run_with_secrets = run_dag(
    "run_with_secrets",
    deferrable=True,
    env_overrides={"API_TOKEN": "{{ params.token }}", "RETRIES": 3, "HEADLESS": True},
)

with DAG("run_mapped", schedule=None, params=PARAMS) as run_mapped:

    @task
    def scripts(params=None):
        return params["scripts"]

    StablyRunTestsOperator.partial(task_id="run", poll_interval=0.05, deferrable=True).expand(
        playwright_project_name=scripts()
    )


def sensor_dag(dag_id: str, **arguments):
    """Make a DAG with one sensor, ``wait``."""
    with DAG(dag_id, schedule=None, params=PARAMS) as dag:
        StablyRunSensor(task_id="wait", run_id="{{ params.run_id }}", **{"poke_interval": 0.05, **arguments})
    return dag


wait_here = sensor_dag("wait_here", deferrable=False)
wait_rescheduled = sensor_dag("wait_rescheduled", deferrable=False, mode="reschedule")
wait_deferred = sensor_dag("wait_deferred", deferrable=True)
wait_here_softly = sensor_dag("wait_here_softly", deferrable=False, soft_fail=True)
wait_deferred_softly = sensor_dag("wait_deferred_softly", deferrable=True, soft_fail=True)
wait_here_too_long = sensor_dag("wait_here_too_long", deferrable=False, timeout=0.3)
wait_deferred_too_long = sensor_dag("wait_deferred_too_long", deferrable=True, timeout=0.3)

with DAG("run_in_mapped_group", schedule=None, params=PARAMS) as run_in_mapped_group:

    @task
    def suites(params=None):
        return params["scripts"]

    @task_group
    def suite(script):
        start = StablyRunTestsOperator(
            task_id="start", playwright_project_name=script, wait_for_completion=False
        )
        start >> StablyCancelRunOperator(task_id="stop", task_ids="suite.start")

    suite.expand(script=suites())

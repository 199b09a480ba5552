"""How do I stop a run as soon as any task fails? Put a callback into default_args, beside the safe pair.

The callback sits on the task that fails: those of tasks downstream of it, which never run, are never called.
Nor is it called if the task's process alone is killed on Airflow 3, or if the task or the DAG run is set
failed. That is what the teardown and the callback of the DAG are for, see example_stably_safe_pair.
"""

from __future__ import annotations

from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, Param, task
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

# [START howto_notifier_stably_default_args]
cancel_tests = StablyCancelRunNotifier(task_ids="start_tests")

with DAG(
    "example_stably_cancel_on_failure",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),  # more than all tasks together
    default_args={"on_failure_callback": cancel_tests},
    on_failure_callback=cancel_tests,
    params={"healthy": Param(True, type="boolean", title="Whether the migration succeeds")},
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:
    start_tests = StablyRunTestsOperator(task_id="start_tests", wait_for_completion=False, retries=0)

    @task(execution_timeout=timedelta(minutes=30))
    def migrate_database(params=None):
        if not params["healthy"]:
            raise RuntimeError("The migration failed")

    wait = StablyRunSensor(
        task_id="wait", run_id=start_tests.output, min_tests=1, deferrable=True, timeout=60 * 60, retries=2
    )

    @task(execution_timeout=timedelta(minutes=30))
    def deploy():
        print("The run passed")

    stop = StablyCancelRunOperator(
        task_id="stop", task_ids="start_tests", retries=3, retry_delay=timedelta(minutes=1)
    ).as_teardown(setups=start_tests, on_failure_fail_dagrun=True)

    start_tests >> migrate_database() >> wait >> [deploy(), stop]
# [END howto_notifier_stably_default_args]

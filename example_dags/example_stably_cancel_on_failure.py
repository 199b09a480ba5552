"""How do I stop a Stably run when any task fails? Put one callback into default_args.

It sits on the task that fails: the callbacks of tasks downstream of it, which never run, are never called.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

# [START howto_notifier_stably_default_args]
cancel_tests = StablyCancelRunNotifier(task_ids="start_tests")

with DAG(
    "example_stably_cancel_on_failure",
    description="Cancels the Stably run when any task fails",
    schedule=None,
    default_args={"on_failure_callback": cancel_tests},
    params={"healthy": Param(True, type="boolean", title="Whether the migration succeeds")},
    tags=["stably", "example"],
) as dag:
    start_tests = StablyRunTestsOperator(task_id="start_tests", wait_for_completion=False)

    @task
    def migrate_database(params: dict[str, bool] | None = None) -> None:
        if not (params or {})["healthy"]:
            raise RuntimeError("The migration failed")

    wait = StablyRunSensor(task_id="wait", run_id=start_tests.output["run_id"], deferrable=True)
    start_tests >> migrate_database() >> wait
# [END howto_notifier_stably_default_args]

"""How do I stop a waiting run when a task beside it fails? Give that task a callback.

`run_tests` cancels its own run when it is stopped, but it is not stopped when `migrate` fails beside it. The
callback cancels its run, and `run_tests` fails at its next poll. `alert` stands first: Airflow 3 begins to
end a task's process 20 s after the task, whatever callbacks wait.
"""

from __future__ import annotations

from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, Param, task
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyRunTestsOperator


def alert(context):
    print(f"Task {context['ti'].task_id} failed")


# [START howto_notifier_stably_task]
with DAG(
    "example_stably_cancel_parallel",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),  # more than all tasks together
    params={
        "suite": Param("passes", type="string", title="Playwright project"),
        "healthy": Param(True, type="boolean", title="Whether the migration succeeds"),
    },
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:
    run_tests = StablyRunTestsOperator(
        task_id="run_tests",
        playwright_project_name="{{ params.suite }}",
        min_tests=1,
        deferrable=True,
        timeout=60 * 60,
        retries=0,  # each retry is another run
    )

    @task(
        on_failure_callback=[alert, StablyCancelRunNotifier(task_ids="run_tests")],
        execution_timeout=timedelta(minutes=30),
    )
    def migrate(params=None):
        if not params["healthy"]:
            raise RuntimeError("The migration failed")

    @task(execution_timeout=timedelta(minutes=30))
    def deploy():
        print("Migrated, and the run passed")

    [run_tests, migrate()] >> deploy()
# [END howto_notifier_stably_task]

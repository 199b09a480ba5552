"""A DAG that fails after it has started a run that nobody watches."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyRunTestsOperator

with DAG(
    "failing",
    schedule=None,
    params={"project_id": Param("project-1", type="string")},
    default_args={"on_failure_callback": StablyCancelRunNotifier(task_ids="start")},
):

    @task
    def fail():
        """Fail."""
        raise RuntimeError("on purpose")

    start = StablyRunTestsOperator(
        task_id="start",
        project_id="{{ params.project_id }}",
        playwright_project_name="hangs",
        wait_for_completion=False,
    )
    start >> fail()

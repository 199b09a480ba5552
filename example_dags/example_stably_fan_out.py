"""How do I run several Playwright projects against a preview, with one report? Map the operator.

Each project gets a run and a verdict of its own. The report is made of all of them, the failed ones too.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.operators.stably import StablyRunTestsOperator

with DAG(
    "example_stably_fan_out",
    description="Runs several Playwright projects against a preview environment and reports on all of them",
    schedule=None,
    params={
        "suites": Param(
            ["smoke", "checkout"], type="array", items={"type": "string"}, title="Playwright projects"
        )
    },
    tags=["stably", "example"],
) as dag:

    @task
    def deploy_preview() -> str:
        return "https://pr-42.preview.example.com"

    @task
    def suites(params: dict[str, list[str]] | None = None) -> list[str]:
        return (params or {})["suites"]

    # [START howto_operator_stably_fan_out]
    run_tests = StablyRunTestsOperator.partial(
        task_id="run_tests",
        env_overrides={"BASE_URL": deploy_preview()},
        min_tests=1,
        deferrable=True,
    ).expand(playwright_project_name=suites())

    @task(trigger_rule="all_done")
    def report(ti: Any = None) -> None:
        for run in ti.xcom_pull(task_ids="run_tests", key="summary") or []:
            print(run["message"])

    run_tests >> report()
    # [END howto_operator_stably_fan_out]

"""How do I run several Playwright projects against a preview, with one report? Map the operator.

Each project gets a run and a verdict of its own. The report is made of all of them, the failed ones too. The
pool bounds how many runs are live at once; make it so that deferred tasks count:

    airflow pools set stably_runs 2 "Stably runs at once" --include-deferred
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import ...
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.operators.stably import StablyRunTestsOperator

with DAG(
    "example_stably_fan_out",
    description="Runs several Playwright projects against a preview environment and reports on all of them",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    params={
        "suites": Param(
            ["smoke", "checkout"],
            type="array",
            items={"type": "string"},
            minItems=1,
            maxItems=5,
            title="Playwright projects",
        )
    },
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:

    @task(execution_timeout=timedelta(minutes=5))
    def deploy_preview() -> str:
        return "https://pr-42.preview.example.com"

    @task(execution_timeout=timedelta(minutes=5))
    def suites(params: dict[str, list[str]] | None = None) -> list[str]:
        return (params or {})["suites"]

    # [START howto_operator_stably_fan_out]
    run_tests = StablyRunTestsOperator.partial(
        task_id="run_tests",
        env_overrides={"BASE_URL": deploy_preview()},
        min_tests=1,
        deferrable=True,
        timeout=60 * 60,
        pool="stably_runs",
        retries=0,  # each retry is another run
    ).expand(playwright_project_name=suites())

    @task(execution_timeout=timedelta(minutes=5))
    def report(ti: Any = None) -> None:
        for run in filter(None, ti.xcom_pull(task_ids=["run_tests"], key="summary") or []):
            print(run["message"])

    # A teardown runs also if tests failed, and the DAG run is red then all the same.
    run_tests >> report().as_teardown()
    # [END howto_operator_stably_fan_out]

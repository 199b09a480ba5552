"""How do I run the same suite against several environments? Map the operator over them, in a pool.

The pool bounds how many runs are live at once; make it so that deferred tasks count:

    airflow pools set stably_runs 2 "Stably runs at once" --include-deferred

`maxItems` bounds what one DAG run can cost. Each environment gets a run and a verdict of its own; the report
is made if all passed.
"""

from __future__ import annotations

from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, Param, task
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.operators.stably import StablyRunTestsOperator

with DAG(
    "example_stably_run_mapped",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    params={
        "environments": Param(
            ["staging", "preview"],
            type="array",
            items={"type": "string"},
            minItems=1,
            maxItems=5,
            title="Stably environments",
        ),
        "suite": Param("passes", type="string", title="Playwright project"),
    },
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:

    @task(execution_timeout=timedelta(minutes=5))
    def environments(params=None) -> list[str]:
        return params["environments"]

    # [START howto_operator_stably_run_mapped]
    run_tests = StablyRunTestsOperator.partial(
        task_id="run_tests",
        playwright_project_name="{{ params.suite }}",
        deferrable=True,
        min_tests=1,
        timeout=60 * 60,
        pool="stably_runs",
        retries=0,  # each retry is another run
    ).expand(environment=environments())
    # [END howto_operator_stably_run_mapped]

    @task(execution_timeout=timedelta(minutes=5))
    def report(runs: list[dict[str, object]]) -> None:
        for run in runs:
            print(f"Run {run['run_id']}: {run['passed']} of {run['total']} tests passed")

    report(run_tests.output)

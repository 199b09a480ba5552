"""How do I run the same suite against several environments? Map the operator over them.

Each environment gets a run and a verdict of its own; the report is made if all passed.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.operators.stably import StablyRunTestsOperator

with DAG(
    "example_stably_run_mapped",
    description="Runs the Stably tests against each of several environments",
    schedule=None,
    params={
        "environments": Param(
            ["staging", "preview"], type="array", items={"type": "string"}, title="Stably environments"
        )
    },
    tags=["stably", "example"],
) as dag:

    @task
    def environments(params: dict[str, list[str]] | None = None) -> list[str]:
        return (params or {})["environments"]

    # [START howto_operator_stably_run_mapped]
    run_tests = StablyRunTestsOperator.partial(task_id="run_tests", deferrable=True).expand(
        environment=environments()
    )
    # [END howto_operator_stably_run_mapped]

    @task
    def report(runs: list[dict[str, object]]) -> None:
        for run in runs:
            print(f"Run {run['run_id']}: {run['passed']} of {run['total']} tests passed")

    report(run_tests.output)

"""How do I stop several runs when the DAG run fails or times out? Name their tasks in teardown and callback.

The dag processor calls the callbacks of the DAG when the DAG run fails, one after the other: people are told
first, by `alert`. A DAG run that a user sets failed calls nothing; there the teardown cancels. The dag
processor of Airflow 3.0 cannot read XComs, so there the callback cancels nothing.
"""

from __future__ import annotations

from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, Param, task
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

SUITES = ["smoke", "checkout"]


def alert(context):
    print(f"DAG run {context['run_id']} failed")


# [START howto_notifier_stably_dag]
with DAG(
    "example_stably_cancel_dag_callback",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),  # more than all tasks together
    on_failure_callback=[alert, StablyCancelRunNotifier(task_ids=[f"start_{suite}" for suite in SUITES])],
    params={"healthy": Param(True, type="boolean", title="Whether the deployment succeeds")},
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:

    @task(execution_timeout=timedelta(minutes=30))
    def deploy(params=None):
        if not params["healthy"]:
            raise RuntimeError("The deployment failed")

    @task(execution_timeout=timedelta(minutes=30))
    def announce():
        print("All runs passed")

    starts = [
        StablyRunTestsOperator(
            task_id=f"start_{suite}", playwright_project_name=suite, wait_for_completion=False, retries=0
        )
        for suite in SUITES
    ]
    waits = [
        StablyRunSensor(
            task_id=f"wait_{suite}",
            run_id=start.output,
            min_tests=1,
            deferrable=True,
            timeout=60 * 60,
            retries=2,
        )
        for suite, start in zip(SUITES, starts, strict=True)
    ]
    stop = StablyCancelRunOperator(
        task_id="stop",
        task_ids=starts,
        retries=3,
        retry_delay=timedelta(minutes=1),
    ).as_teardown(setups=starts, on_failure_fail_dagrun=True)

    starts >> deploy() >> waits
    waits >> announce()
    waits >> stop
# [END howto_notifier_stably_dag]

"""How do I start a run, work meanwhile, wait for it, and leave none behind? Cancel it in two ways.

The teardown `stop` runs however the tasks after `start` ended, also if a user sets the DAG run failed.
It does not run if `start` fails, nor at `dagrun_timeout`; then the callback of the DAG cancels (not on
Airflow 3.0, where it cannot read XComs). `deploy` decides whether the DAG run is green: without a last task
beside `stop`, its success would turn a failed DAG run green. `passes` is a suite of the emulator: write a
Playwright project of yours. `min_tests=1` is there because a mistyped one may match no test, and be PASSED.
"""

from __future__ import annotations

# [START howto_safe_pair]
from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, Param, task
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

with DAG(
    "example_stably_safe_pair",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),  # more than all tasks together
    on_failure_callback=StablyCancelRunNotifier(task_ids="start"),
    params={"suite": Param("passes", type="string"), "healthy": Param(True, type="boolean")},
    doc_md=__doc__,
    tags=["stably"],
) as dag:
    start = StablyRunTestsOperator(  # a retry may start, and cost, another run
        task_id="start", playwright_project_name="{{ params.suite }}", wait_for_completion=False, retries=0
    )

    @task(execution_timeout=timedelta(minutes=30))
    def work(params=None):
        if not params["healthy"]:
            raise RuntimeError("The work failed")

    wait = StablyRunSensor(
        task_id="wait", run_id=start.output, min_tests=1, deferrable=True, timeout=60 * 60, retries=2
    )

    @task(execution_timeout=timedelta(minutes=30))
    def deploy():
        print("The run passed")

    stop = StablyCancelRunOperator(
        task_id="stop", task_ids="start", retries=3, retry_delay=timedelta(minutes=1)
    ).as_teardown(setups=start, on_failure_fail_dagrun=True)

    start >> work() >> wait >> [deploy(), stop]
# [END howto_safe_pair]

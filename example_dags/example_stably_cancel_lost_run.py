"""How do I stop a run whose task died without a word? Add a teardown to the task that waits.

A task that waits cancels its own run. But Airflow 3 calls nothing of the task if only its process is killed,
by the kernel's out-of-memory killer for instance. The teardown has no setups, so it runs however `run_tests`
ended. It finds the run by that task's XCom, and leaves one that is over as it is. It does not decide whether
the DAG run is green: `run_tests` does.
"""

from __future__ import annotations

from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, Param
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator

with DAG(
    "example_stably_cancel_lost_run",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),  # more than all tasks together
    params={"suite": Param("passes", type="string", title="Playwright project")},
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:
    # [START howto_teardown_for_lost_runs]
    run_tests = StablyRunTestsOperator(
        task_id="run_tests",
        playwright_project_name="{{ params.suite }}",
        min_tests=1,
        timeout=60 * 60,
        retries=0,  # each retry is another run
    )
    stop = StablyCancelRunOperator(
        task_id="stop", task_ids="run_tests", retries=3, retry_delay=timedelta(minutes=1)
    ).as_teardown()

    run_tests >> stop
    # [END howto_teardown_for_lost_runs]

"""How do I use another connection and project? Name the connection in each task that calls Stably.

`wait` takes run and project from the output of `start`. The connection is never taken from an XCom: whoever
may write one could name another team's. The cancel operator and the notifier read it from the task `start` in
the DAG.
"""

from __future__ import annotations

from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, Param, TaskGroup, task
from airflow.providers.common.compat.sdk import DAG, Param, TaskGroup, task

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

# [START howto_two_tenants]
TENANTS = {"acme": "acme-web", "globex": "globex-web"}  # name to Stably project

with DAG(
    "example_stably_two_tenants",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),  # more than all tasks together
    on_failure_callback=StablyCancelRunNotifier(task_ids=[f"{tenant}.start" for tenant in TENANTS]),
    params={"suite": Param("passes", type="string"), "healthy": Param(True, type="boolean")},
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:
    for tenant, project_id in TENANTS.items():
        with TaskGroup(tenant):
            conn_id = f"stably_{tenant}"
            start = StablyRunTestsOperator(
                task_id="start",
                stably_conn_id=conn_id,
                project_id=project_id,
                playwright_project_name="{{ params.suite }}",
                wait_for_completion=False,
                retries=0,  # a retry may start, and cost, another run
            )

            @task(execution_timeout=timedelta(minutes=30))
            def work(params=None):
                if not params["healthy"]:
                    raise RuntimeError("The work failed")

            wait = StablyRunSensor(
                task_id="wait",
                run_id=start.output,
                stably_conn_id=conn_id,
                min_tests=1,
                deferrable=True,
                timeout=60 * 60,
                retries=2,
            )

            @task(execution_timeout=timedelta(minutes=30))
            def deploy():
                print("The run passed")

            stop = StablyCancelRunOperator(
                task_id="stop", task_ids=start, retries=3, retry_delay=timedelta(minutes=1)
            ).as_teardown(setups=start, on_failure_fail_dagrun=True)

            start >> work() >> wait >> [deploy(), stop]
# [END howto_two_tenants]

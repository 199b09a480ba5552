# [START first_dag]
from airflow.providers.common.compat.sdk import DAG, Param, task  # Airflow 3: airflow.sdk

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

with DAG(
    "first_stably_dag",
    schedule=None,
    params={"suite": Param("passes", type="string"), "healthy": Param(True, type="boolean")},
    on_failure_callback=StablyCancelRunNotifier(task_ids="start"),
) as dag:
    start = StablyRunTestsOperator(
        task_id="start", playwright_project_name="{{ params.suite }}", wait_for_completion=False
    )

    @task
    def work(params=None):
        if not params["healthy"]:
            raise RuntimeError("The work failed")

    wait = StablyRunSensor(task_id="wait", run_id=start.output, deferrable=True)
    stop = StablyCancelRunOperator(task_id="stop", run_ids=start.output, retries=3)
    start >> work() >> wait >> stop.as_teardown(setups=start)
# [END first_dag]

"""DAGs for the tests of the harness: a task that cancels a run, one to kill, one that is deferred."""

from __future__ import annotations

import time

from airflow.providers.common.compat.sdk import DAG, Param, Variable, task

from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.operators.stably import StablyCancelRunOperator

try:
    from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
except ImportError:
    from airflow.sensors.date_time import DateTimeSensorAsync  # until Airflow 3.0

# The dag processor of Airflow 3 builds an API of its own for its first question, which takes seconds, on busy
# cores half a minute. Asked here, it has that behind it when a callback asks.
Variable.get("asked_while_parsing", None)

with DAG("harness_cancel", schedule=None, params={"run_ids": Param([], type="array")}):
    StablyCancelRunOperator(task_id="cancel", run_ids="{{ params.run_ids }}")

with DAG("harness_cancel_by_stored_connection", schedule=None, params={"run_ids": Param([], type="array")}):
    StablyCancelRunOperator(task_id="cancel", run_ids="{{ params.run_ids }}", stably_conn_id="stably_stored")


def cancel_run_of_conf(context):
    """Cancel a run in the emulator, as proof that the callback was called."""
    if run_id := context["dag_run"].conf.get("run_id"):
        StablyHook().cancel_run(run_id)


with DAG("harness_sleep", schedule=None, params={"seconds": Param(120, type="number")}):

    @task(on_failure_callback=cancel_run_of_conf)
    def sleep(params=None):
        """Sleep in short pieces, so that a signal is handled soon."""
        end = time.monotonic() + params["seconds"]
        while time.monotonic() < end:
            time.sleep(0.1)

    sleep()

with DAG("harness_defer", schedule=None, params={"until": Param("2999-01-01T00:00:00+00:00", type="string")}):
    DateTimeSensorAsync(task_id="wait", target_time="{{ params.until }}")

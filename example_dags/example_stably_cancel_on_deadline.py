"""How do I stop Stably runs when a DAG run takes too long? Give the DAG a deadline.

Unlike dagrun_timeout a deadline itself fails nothing, but a task that waits for the run, as here, fails when
the run is cancelled. Airflow 3.1 and later: the triggerer makes the callback.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyRunTestsOperator

# [START howto_notifier_stably_deadline]
with DAG(
    "example_stably_cancel_on_deadline",
    description="Cancels the Stably run of a DAG run that takes longer than half an hour",
    schedule=None,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=30),
        # The class, not an instance: Airflow makes one where it calls it.
        callback=AsyncCallback(StablyCancelRunNotifier, kwargs={"task_ids": ["run_tests"]}),
    ),
    params={"suite": Param(None, type=["null", "string"], title="Playwright project")},
    tags=["stably", "example"],
) as dag:
    StablyRunTestsOperator(
        task_id="run_tests", playwright_project_name="{{ params.suite or '' }}", deferrable=True
    )
# [END howto_notifier_stably_deadline]

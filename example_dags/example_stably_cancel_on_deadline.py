"""How do I stop a run when a DAG run takes too long? Give the DAG a deadline. Airflow 3.1 and later.

The triggerer makes the callback, so one has to run. Unlike `dagrun_timeout` a deadline itself fails nothing,
but a task that waits for the run, as here, fails when the run is cancelled.
"""

from __future__ import annotations

from datetime import timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, Param
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyRunTestsOperator

try:
    from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
except ImportError:
    raise RuntimeError("example_stably_cancel_on_deadline needs Airflow 3.1 or later: deadlines") from None

# [START howto_notifier_stably_deadline]
with DAG(
    "example_stably_cancel_on_deadline",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=30),
        # The class, not an instance: Airflow makes one where it calls it.
        callback=AsyncCallback(StablyCancelRunNotifier, kwargs={"task_ids": ["run_tests"]}),
    ),
    params={"suite": Param(None, type=["null", "string"], title="Playwright project")},
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:
    StablyRunTestsOperator(
        task_id="run_tests",
        playwright_project_name="{{ params.suite }}",
        min_tests=1,
        deferrable=True,
        timeout=60 * 60,
        retries=0,  # each retry is another run
    )
# [END howto_notifier_stably_deadline]

"""How do I learn that an API key was revoked, before the nightly suite does? Check it in a task.

It starts nothing and costs nothing. It does not show what the key may do in a project.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

# For Airflow 2 and 3. On Airflow 3 alone: from airflow.sdk import DAG, task
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_stably.hooks.stably import StablyHook

# [START howto_check_key]
with DAG(
    "example_stably_check_key",
    schedule="0 12 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["stably", "example"],
) as dag:

    @task(retries=2, retry_delay=timedelta(minutes=1), execution_timeout=timedelta(minutes=5))
    def check_key():
        accepted, message = StablyHook("stably_default").test_connection()
        if not accepted:
            raise RuntimeError(message)
        print(message)

    check_key()
# [END howto_check_key]

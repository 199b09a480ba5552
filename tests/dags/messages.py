"""DAGs that fail in the ways that users meet; tests read what their logs say."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

NOTIFIED = {"on_failure_callback": StablyCancelRunNotifier()}

with DAG("messages_bad_project", schedule=None, default_args=NOTIFIED) as bad_project:
    StablyRunTestsOperator(task_id="task", project_id="a/b")

with DAG("messages_key_refused", schedule=None, default_args=NOTIFIED) as key_refused:
    StablyRunTestsOperator(task_id="task", stably_conn_id="wrong_key")

with DAG("messages_no_connection", schedule=None) as no_connection:
    StablyRunTestsOperator(task_id="task", stably_conn_id="nope")

with DAG("messages_run_is_none", schedule=None) as run_is_none:
    StablyRunSensor(task_id="task", run_id="{{ ti.xcom_pull(task_ids='other') }}")

with DAG("messages_not_a_run", schedule=None) as not_a_run:
    StablyRunSensor(task_id="task", run_id="{{ [1, 2] }}")

with DAG("messages_wait_denied", schedule=None) as wait_denied:
    StablyRunSensor(task_id="task", run_id="abc", stably_conn_id="wrong_key", poke_interval=0.01)

with DAG("messages_mistyped_task", schedule=None) as mistyped_task:
    StablyRunTestsOperator(task_id="start", wait_for_completion=False)
    StablyCancelRunOperator(task_id="task", task_ids="strat")

with DAG("messages_malformed", schedule=None) as malformed:
    StablyCancelRunOperator(task_id="task", run_ids="LazySelectSequence([2 items])")

with DAG("messages_not_found", schedule=None) as not_found:
    StablyCancelRunOperator(task_id="task", run_ids="abc")

with DAG("messages_two_not_found", schedule=None) as two_not_found:
    StablyCancelRunOperator(task_id="task", run_ids="abc,def")

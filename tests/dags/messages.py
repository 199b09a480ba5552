"""DAGs that fail in the ways that users meet; tests read what their logs say."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.standard.operators.empty import EmptyOperator

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

with DAG("messages_wrapped_run", schedule=None) as wrapped_run:
    StablyRunSensor(task_id="task", run_id={"run": {"run_id": "abc"}})

with DAG("messages_wrapped_runs", schedule=None) as wrapped_runs:
    StablyCancelRunOperator(task_id="task", run_ids={"run": {"run_id": "abc"}})

with DAG("messages_task_as_run", schedule=None) as task_as_run:
    EmptyOperator(task_id="start") >> StablyRunSensor(task_id="task", run_id="start")

with DAG("messages_task_as_runs", schedule=None) as task_as_runs:
    EmptyOperator(task_id="start") >> StablyCancelRunOperator(task_id="task", run_ids="start")

with DAG("messages_no_connection_to_cancel", schedule=None) as no_connection_to_cancel:
    StablyCancelRunOperator(task_id="task", run_ids="abc", stably_conn_id="nope")

with DAG("messages_no_connection_to_wait", schedule=None) as no_connection_to_wait:
    StablyRunSensor(task_id="task", run_id="abc", stably_conn_id="nope")

with DAG("messages_bad_project_mapped", schedule=None, default_args=NOTIFIED) as bad_project_mapped:
    StablyRunTestsOperator.partial(task_id="task").expand(project_id=["a/b"])

with DAG("messages_template_fails", schedule=None, default_args=NOTIFIED) as template_fails:
    StablyRunTestsOperator(task_id="task", branch="{{ nothing.there }}")

with DAG("messages_template_fails_to_wait", schedule=None) as template_fails_to_wait:
    StablyRunSensor(task_id="task", run_id="{{ nothing.there }}")

with DAG("messages_cancelled_twice", schedule=None) as cancelled_twice:
    start = StablyRunTestsOperator(task_id="start", wait_for_completion=False)
    first = StablyCancelRunOperator(task_id="first", run_ids=start)
    first >> StablyCancelRunOperator(task_id="second", task_ids=start)


def notified_dag(name, notifier, *, of_dag=False):
    """Make a DAG whose one task fails, and a notifier that is told of it."""
    callback = {"on_failure_callback": notifier}
    whose = callback if of_dag else {"default_args": callback}
    with DAG(f"messages_{name}", schedule=None, **whose) as dag:

        @task
        def start():
            raise RuntimeError("boom")

        start()
    return dag


notified_without_connection = notified_dag(
    "notified_without_connection", StablyCancelRunNotifier(run_ids="abc", stably_conn_id="nope")
)
notified_of_no_task = notified_dag("notified_of_no_task", StablyCancelRunNotifier(task_ids="strat"))
notified_of_no_run = notified_dag("notified_of_no_run", StablyCancelRunNotifier(run_ids={"run": "abc"}))
notified_of_a_task = notified_dag("notified_of_a_task", StablyCancelRunNotifier(run_ids="start"))
dag_notified_of_nothing = notified_dag("dag_notified_of_nothing", StablyCancelRunNotifier(), of_dag=True)

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

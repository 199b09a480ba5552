"""DAGs whose tasks fail, are skipped or tried again, with one notifier for all of them."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, Param, task

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier

PARAMS = {"runs": Param([], type="array")}
HOW_A_TASK_ENDS = ("on_failure_callback", "on_retry_callback", "on_skipped_callback")


def pushing(dag_id: str, callback: str, **arguments):
    """Make a DAG whose tasks, plain and mapped, push a run as ours do and then end badly."""
    with DAG(
        dag_id, schedule=None, params=PARAMS, default_args={callback: StablyCancelRunNotifier(), **arguments}
    ) as dag:

        def end(ti):
            if callback == "on_skipped_callback":
                raise AirflowSkipException("nothing to do here")
            if callback == "on_failure_callback" or ti.try_number == 1:
                raise RuntimeError("on purpose")

        @task
        def one(ti=None, params=None):
            ti.xcom_push(key="stably_run", value={**params["runs"][0], "try_number": ti.try_number})
            end(ti)

        @task
        def many(index, ti=None, params=None):
            ti.xcom_push(key="stably_run", value={**params["runs"][index], "try_number": ti.try_number})
            end(ti)

        @task
        def none(ti=None):
            end(ti)

        one(), many.expand(index=[1, 2]), none()
    return dag


failing = pushing("callbacks_failure", "on_failure_callback")
retried = pushing("callbacks_retry", "on_retry_callback", retries=1, retry_delay=timedelta(0))
skipped = pushing("callbacks_skipped", "on_skipped_callback")


def failing_beside_runs(dag_id: str, **arguments):
    """Make a DAG whose callback names the runs that a plain and a mapped task have pushed."""
    with DAG(
        dag_id, schedule=None, params=PARAMS, on_failure_callback=StablyCancelRunNotifier(**arguments)
    ) as dag:

        @task
        def one(ti=None, params=None):
            ti.xcom_push(key="stably_run", value=params["runs"][0])

        @task
        def many(index, ti=None, params=None):
            ti.xcom_push(key="stably_run", value=params["runs"][index])

        @task
        def fail(index):
            raise RuntimeError("on purpose")

        [one(), many.expand(index=[1, 2])] >> fail.expand(index=[1])
    return dag


failing_dag = failing_beside_runs("callbacks_dag", task_ids=["one", "many"])
failing_dag_by_ids = failing_beside_runs(
    "callbacks_dag_by_ids",
    run_ids=[
        "{{ ti.xcom_pull('one', dag.dag_id, 'stably_run', default={})['run_id'] }}",
        "{{ ti.xcom_pull('many', key='stably_run')[0]['run_id'] }}",
        "{{ ti.xcom_pull(task_ids='many', key='stably_run', map_indexes=1)['run_id'] }}",
        "{{ ti.xcom_pull('nobody', key='stably_run', include_prior_dates=False) }}",
    ],
)

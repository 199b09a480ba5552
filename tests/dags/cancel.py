"""DAGs that cancel runs which tasks before them started or failed to start."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, Param, task, task_group

from airflow_provider_stably.operators.stably import StablyCancelRunOperator

with DAG("cancel_runs_of_tasks", schedule=None, params={"runs": Param([], type="array")}) as runs_of_tasks:

    @task
    def start(ti=None, params=None):
        ti.xcom_push(key="stably_run", value=params["runs"][0])

    @task
    def start_many(index, ti=None, params=None):
        if index == 1:
            raise AirflowSkipException("nothing to start for this one")
        ti.xcom_push(key="stably_run", value=params["runs"][index])

    @task
    def skipped():
        raise AirflowSkipException("nothing to start")

    before = [start(), start_many.expand(index=[1, 2, 3]), skipped()]
    before >> StablyCancelRunOperator(
        task_id="cancel", task_ids=["start", "start_many", "skipped"], trigger_rule="all_done"
    )
    before >> StablyCancelRunOperator(task_id="cancel_none", task_ids="skipped", trigger_rule="all_done")
    before >> StablyCancelRunOperator(
        task_id="cancel_rendered_none",
        run_ids="{{ ti.xcom_pull(task_ids='skipped', key='run_id') }}",
        trigger_rule="all_done",
    )

with DAG("cancel_runs_named", schedule=None, params={"run_ids": Param([], type="array")}) as runs_named:

    @task
    def choose(params=None):
        return params["run_ids"]

    chosen = choose()
    StablyCancelRunOperator(task_id="cancel_xcom_arg", run_ids=chosen)
    StablyCancelRunOperator.partial(task_id="cancel_mapped").expand(run_ids=chosen)

with DAG("cancel_fails", schedule=None, params={"run_ids": Param([], type="array")}) as fails:
    StablyCancelRunOperator(
        task_id="cancel", run_ids="{{ params.run_ids }}", retries=2, retry_delay=timedelta(0)
    )

with DAG("cancel_lists_in_xcoms", schedule=None, params={"runs": Param([], type="array")}) as lists_in_xcoms:

    @task
    def start_one(index, ti=None, params=None):
        ti.xcom_push(key="stably_run", value=params["runs"])

    @task_group
    def each(index):
        start_one(index) >> StablyCancelRunOperator(task_id="cancel", task_ids="each.start_one")

    start_one.expand(index=[1]) >> StablyCancelRunOperator(task_id="cancel", task_ids="start_one")
    each.expand(index=[1, 2])

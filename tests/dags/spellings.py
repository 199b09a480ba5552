"""DAGs that name runs of another project in the ways that people write, rendered as text and natively."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

PULL = "{{ ti.xcom_pull(task_ids='%s') }}"


def spellings_dag(dag_id: str, *, native: bool):
    """Make a DAG that starts three runs; each task after them names all or one of them."""
    with DAG(dag_id, schedule=None, render_template_as_native_obj=native) as dag:
        arguments = {"project_id": "another-project", "wait_for_completion": False}
        start = StablyRunTestsOperator(task_id="start", **arguments)
        many = StablyRunTestsOperator.partial(task_id="start_many", **arguments).expand(
            environment=["a", "b"]
        )
        run_ids = {
            "one_operator": start,
            "one_output": start.output,
            "one_stably_run": start.output["stably_run"],
            "one_template": PULL % "start",
            "one_json": "{{ ti.xcom_pull(task_ids='start') | tojson }}",
            "one_page": start.output["run_url"],
            "one_address": "{{ ti.xcom_pull(task_ids='start', key='run_url') }}",
            "many_output": many.output,
            "many_stably_run": many.output["stably_run"],
            "many_list": "{{ ti.xcom_pull(task_ids='start_many') | list }}",
            "many_operator": many,
            "many_map": many.output.map(lambda run: run["run_url"]),
            "many_filter": "{{ ti.xcom_pull(task_ids='start_many') | map(attribute='run_url') | join(' ') }}",
            "all_outputs": [start.output, many.output],
            "all_operators": [start, many],
            "all_set": {start, many},
            "all_templates": [PULL % "start", "{{ ti.xcom_pull(task_ids='start_many') | list }}"],
            "all_lines": "{{ ti.xcom_pull(task_ids='start') }}\n"
            "{% for run in ti.xcom_pull(task_ids='start_many') %}{{ run.run_url }}\n{% endfor %}",
        }
        for task_id, named in run_ids.items():
            [start, many] >> StablyCancelRunOperator(task_id=task_id, run_ids=named)
        StablyCancelRunOperator.partial(task_id="each").expand(run_ids=many.output)
        StablyCancelRunOperator.partial(task_id="each_kwargs").expand_kwargs(
            many.output.map(lambda run: {"run_ids": run["run_id"], "project_id": run["project_id"]})
        )
        StablyRunSensor(task_id="wait_operator", run_id=start, poke_interval=0.05)
        StablyRunSensor(task_id="wait_output", run_id=start.output, poke_interval=0.05)
        start >> StablyRunSensor(task_id="wait_template", run_id=PULL % "start", poke_interval=0.05)
        StablyRunSensor.partial(task_id="wait_each", poke_interval=0.05).expand(run_id=many.output)
    return dag


as_text = spellings_dag("spellings_as_text", native=False)
native = spellings_dag("spellings_native", native=True)

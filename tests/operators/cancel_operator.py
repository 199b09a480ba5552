"""Run the cancel operator, and read what it pushed."""

from airflow_provider_stably.operators.stably import StablyCancelRunOperator


def cancel(context, run_ids=None, **arguments):
    """Run the operator with what its template would render to."""
    which = {} if "task_ids" in arguments else {"run_ids": "{{ rendered }}"}
    operator = StablyCancelRunOperator(task_id="cancel", **which, **arguments)
    operator.run_ids = run_ids
    return operator.execute(context)


def outcomes(context):
    """Return what it said became of each run."""
    return {run_id: entry["outcome"] for run_id, entry in context["xcom"]["outcomes"].items()}

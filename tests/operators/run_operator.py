"""The run operator, impatient and on the worker."""

from airflow_provider_stably.operators.stably import StablyRunTestsOperator


def run_operator(**arguments):
    """Make the operator; its run never ends by itself."""
    defaults = {
        "task_id": "run",
        "playwright_project_name": "hangs",
        "poll_interval": 0.02,
        "deferrable": False,
    }
    return StablyRunTestsOperator(**{**defaults, **arguments})

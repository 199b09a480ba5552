"""The run operator, impatient and on the worker."""

import inspect
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_stably.exceptions import StablyRunCancelledError
from airflow_provider_stably.operators.stably import StablyRunTestsOperator

ENDS_KILLED = (AirflowException, StablyRunCancelledError)
"""A killed task ends at once or, if it polls first, with the run that on_kill has cancelled."""


def run_operator(**arguments):
    """Make the operator; its run never ends by itself."""
    defaults = {
        "task_id": "run",
        "playwright_project_name": "hangs",
        "poll_interval": 0.02,
        "deferrable": False,
    }
    return StablyRunTestsOperator(**{**defaults, **arguments})


@contextmanager
def executing(operator, context):
    """Execute an operator in a thread; gives the future of what comes of it."""
    # Without the guard that Airflow wraps it in: that of 2.11 exists in the main thread only.
    execute = inspect.unwrap(type(operator).execute)
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(execute, operator, context)

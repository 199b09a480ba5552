"""The run operator, impatient and on the worker; and how to wait for what it does."""

import threading

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


def wait_for(condition):
    """Wait, within bounds, until something is so."""
    waiting = threading.Event()
    for _ in range(1000):
        if condition():
            return
        waiting.wait(0.005)
    raise AssertionError("did not come about in 5 s")

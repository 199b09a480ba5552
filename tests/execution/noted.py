"""A start that an earlier try recorded."""

from airflow_provider_stably.tasks.start_record import START_RECORD_KEY
from tests.constants import PROJECT


def noted(emulator, store, **changes):
    """Record a live run in the store, as a try that was lost did."""
    run_id = emulator.add_run(project_id=PROJECT, **changes.pop("run", {}))
    names = {"run_id": run_id, "project_id": PROJECT, "stably_conn_id": "stably_default", "started_at": 1.0}
    store[START_RECORD_KEY] = {**names, "max_tries": 0, "clear_number": 0, **changes}
    return run_id

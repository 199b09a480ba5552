"""Runs that Airflow knows of: from a start record, or from an XCom."""

from airflow_provider_stably.tasks.start_record import START_RECORD_KEY
from tests.constants import PROJECT


def noted(emulator, store, **changes):
    """Record a live run in the store, as a try that was lost did."""
    run_id = emulator.add_run(project_id=PROJECT, **changes.pop("run", {}))
    names = {"run_id": run_id, "project_id": PROJECT, "stably_conn_id": "stably_default", "started_at": 1.0}
    store[START_RECORD_KEY] = {**names, "max_tries": 0, "clear_number": 0, **changes}
    return run_id


def pushed(emulator, context, *, try_number=1):
    """Record a live run in XCom, as a try of the task ``run`` did."""
    run_id = emulator.add_run(project_id=PROJECT)
    context["xcom"]["stably_run"] = {
        "run_id": run_id,
        "project_id": PROJECT,
        "try_number": try_number,
        "stably_conn_id": "stably_default",
    }
    return run_id

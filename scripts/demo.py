"""Does it work? A real Airflow cancels a run in the emulator of Stably's API: ``make demo``.

Everything is temporary: Airflow's home with its SQLite database, the emulator, the run.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from steps import ROOT, NotAsPromisedError, Steps, TemporaryAirflow, main

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.api.endpoint import Endpoint
from airflow_provider_stably.testing import StablyEmulator

DAG_ID = "example_stably_cancel_run"
TASK_ID = "cancel"
PROJECT_ID = "demo-project"


def demo(steps: Steps) -> None:
    """Cancel a run and print what Airflow and the emulator have to say about it."""
    print(
        f"Airflow {version('apache-airflow')} on Python {platform.python_version()}, in a temporary folder\n"
    )
    with StablyEmulator() as emulator, airflow_with(emulator) as airflow:
        with steps.step("Create Airflow's metadata database (SQLite)"):
            airflow.airflow("db", "migrate")
        with steps.step(f"Start a test run in the emulator, {emulator.url}"):
            run_id = start_run(emulator)
        print(f"    Run {run_id} is {emulator.status(run_id)}.")
        with steps.step(f"Run the DAG {DAG_ID} on it"):
            conf = json.dumps({"run_ids": [run_id], "project_id": PROJECT_ID})
            log = airflow.airflow("dags", "test", DAG_ID, "--conf", conf)
        with steps.step(f"Read the XCom of its task '{TASK_ID}' from the database"):
            lines = airflow.python(str(ROOT / "scripts" / "read_dag_run.py"), DAG_ID, TASK_ID)
            dag_run = json.loads(lines.splitlines()[-1])
        status = emulator.status(run_id)
        print(f"\nThe DAG run, as Airflow has it:          {dag_run['state']}")
        print(f"Cancelled ids, as its XCom has them:     {json.dumps(dag_run['returned'])}")
        print(f"Status of that run, as the emulator has: {status}")
    expected = {"state": "success", "returned": [run_id]}
    if dag_run != expected or status != "CANCELLED":
        raise NotAsPromisedError(f"expected {expected} and status CANCELLED", output=log)
    print(f"\nThat took {steps.seconds:.0f} s.")


def airflow_with(emulator: StablyEmulator) -> TemporaryAirflow:
    """Make an Airflow that has the example DAGs and a connection to the emulator."""
    settings = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
        "AIRFLOW_CONN_STABLY_DEFAULT": emulator.connection(),
    }
    return TemporaryAirflow(Path(sys.executable), settings)


def start_run(emulator: StablyEmulator) -> str:
    """Start a run that goes on until it is cancelled, and return its id."""
    endpoint = Endpoint(emulator.url, emulator.api_key, trust_env=False)
    with StablyClient(endpoint) as client:
        return client.send(calls.start_run(PROJECT_ID, playwright_project_name="hangs"))


if __name__ == "__main__":
    sys.exit(main(demo))

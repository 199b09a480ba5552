# [START your_dags_conftest]
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest_plugins = ["airflow_provider_stably.testing.fixtures"]

DAGS = Path(__file__).parent / "dags"

# Airflow reads these when it is first imported, so they stand here and not in a fixture.
_home = tempfile.TemporaryDirectory()
os.environ["AIRFLOW_HOME"] = _home.name
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(DAGS)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@pytest.fixture(scope="session")
def airflow_db():
    """Airflow's metadata database, migrated once."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)


@pytest.fixture
def deployment_dag(airflow_db):
    """The DAG of dags/deployment.py, made anew for each test."""
    return runpy.run_path(str(DAGS / "deployment.py"))["dag"]


# [END your_dags_conftest]

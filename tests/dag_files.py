"""Load a DAG file by way of the DAGs folder, where Airflow looks for it."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType


def load_dag_file(folder: str, name: str) -> ModuleType:
    """Import a DAG file.

    :param folder: ``example_dags`` or ``tests/dags``.
    :param name: The file's name without ``.py``.
    """
    path = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], folder.replace("/", "_"), f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

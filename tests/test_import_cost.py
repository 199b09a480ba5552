"""What a DAG file pays for importing us, measured in fresh interpreters."""

import json
import subprocess
import sys

_SHOW = "import json, sys; print(json.dumps(sorted(sys.modules)))"
_AIRFLOW_NAMES = (
    "from airflow.providers.common.compat.sdk import "
    "AirflowFailException, AirflowNotFoundException, AirflowSkipException, "
    "BaseHook, BaseNotifier, BaseOperator"
)


def _modules_after(statement):
    output = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{_SHOW}"], check=True, capture_output=True, text=True
    ).stdout
    return set(json.loads(output.splitlines()[-1]))


def test_what_dag_files_import_loads_no_http_library():
    """Beyond what the Airflow names load come neither requests nor aiohttp, nor what they stand on."""
    base = _modules_after(_AIRFLOW_NAMES)
    imports = [
        f"import airflow_provider_stably.{room}.stably" for room in ("operators", "sensors", "notifications")
    ]
    ours = _modules_after("\n".join([_AIRFLOW_NAMES, *imports]))

    added = {name.partition(".")[0] for name in ours - base}
    heavy = {"requests", "aiohttp", "urllib3", "tenacity", "certifi", "charset_normalizer", "yarl", "http"}
    assert "airflow_provider_stably" in added
    assert added & heavy == set()

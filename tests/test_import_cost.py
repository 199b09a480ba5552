"""What a DAG file pays for importing us, measured in a fresh interpreter."""

import json
import subprocess
import sys

_SHOW = "import json, sys; print('MODULES', json.dumps(sorted(sys.modules)))"
_AIRFLOW_NAMES = (
    "from airflow.providers.common.compat.sdk import "
    "AirflowFailException, AirflowNotFoundException, AirflowSkipException, "
    "BaseHook, BaseNotifier, BaseOperator"
)


def _modules_after(*statements):
    """Return what is loaded after each of these, one after the other in one interpreter."""
    program = "\n".join(f"{statement}\n{_SHOW}" for statement in statements)
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    return [
        set(json.loads(line.removeprefix("MODULES ")))
        for line in output.splitlines()
        if line.startswith("MODULES ")
    ]


def test_what_dag_files_import_loads_no_http_library():
    """Beyond what the Airflow names load come neither requests nor aiohttp, nor what they stand on."""
    imports = [
        f"import airflow_provider_stably.{room}.stably" for room in ("operators", "sensors", "notifications")
    ]

    base, ours = _modules_after(_AIRFLOW_NAMES, "\n".join(imports))

    added = {name.partition(".")[0] for name in ours - base}
    heavy = {"requests", "aiohttp", "urllib3", "tenacity", "certifi", "charset_normalizer", "yarl", "http"}
    assert "airflow_provider_stably" in added
    assert added & heavy == set()

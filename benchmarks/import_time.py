"""What does importing the operators cost a DAG file? CPU milliseconds on top of the Airflow names they use.

Run ``python benchmarks/import_time.py`` (``--processes 31`` for steadier figures) in an environment with this
package; other providers that are installed there are measured beside it. Each figure is the median over fresh
interpreters, in turns. Not counted is what Airflow itself takes: ``airflow.sdk`` and whatever else of Airflow
the provider's modules import by name. Other providers' modules, ``http`` say, do count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec

MODULES = {
    "Stably": "airflow_provider_stably.operators.stably",
    "dbt Cloud": "airflow.providers.dbt.cloud.operators.dbt",
    "Fivetran": "fivetran_provider_async.operators",
    "Airbyte": "airflow.providers.airbyte.operators.airbyte",
}

# Prints the imports from Airflow that stand at the top of the provider's modules.
FIND_AIRFLOW_NAMES = """
import ast, sys
from pathlib import Path
__import__(module)
own = module.rpartition(".operators")[0]
for name, loaded in list(sys.modules.items()):
    if (name + ".").startswith(own + ".") and getattr(loaded, "__file__", None):
        for node in ast.parse(Path(loaded.__file__).read_text()).body:
            origin = (getattr(node, "module", None) or "") + "."
            another = origin.startswith("airflow.providers.") and ".common.compat." not in origin
            if origin.startswith("airflow.") and not another:
                print("IMPORT", ast.unparse(node))
"""

MEASURE = """
import sys, time
before, base = set(sys.modules), time.process_time()
__import__(module)
print(time.process_time() - base, len(set(sys.modules) - before), base)
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=15, help="per provider, default %(default)s")
    processes = parser.parse_args().processes
    modules = {name: module for name, module in MODULES.items() if is_installed(module)}
    with tempfile.TemporaryDirectory() as home:
        names = {name: airflow_names(module, home) for name, module in modules.items()}
        # Nothing is learned from the first round, which may compile.
        rounds = [
            {name: measure(module, names[name], home) for name, module in modules.items()}
            for _ in range(processes + 1)
        ][1:]
    print(f"{'provider':10} {'ms on top':>9} {'fastest':>8} {'modules':>8} {'Airflow ms':>11}  imported")
    for name, module in modules.items():
        on_top, loaded, base = zip(*(results[name] for results in rounds), strict=True)
        print(
            f"{name:10} {1000 * statistics.median(on_top):9.1f} {1000 * min(on_top):8.1f} {loaded[0]:8.0f}"
            f" {1000 * statistics.median(base):11.0f}  {module}"
        )


def is_installed(module: str) -> bool:
    """Whether the module could be imported; importing it here would tell nothing about its cost."""
    try:
        return find_spec(module.rpartition(".")[0]) is not None
    except ModuleNotFoundError:
        return False


def airflow_names(module: str, home: str) -> str:
    """Return the statements that import the Airflow names that a provider's operators use."""
    printed = run(f"module = {module!r}\n{FIND_AIRFLOW_NAMES}", home)
    lines = [line.removeprefix("IMPORT ") for line in printed.splitlines() if line.startswith("IMPORT ")]
    return "\n".join(["import airflow.sdk", *dict.fromkeys(lines)])


def measure(module: str, before: str, home: str) -> tuple[float, ...]:
    """Return, from a fresh interpreter: seconds on top, modules loaded on top, seconds before."""
    printed = run(f"{before}\nmodule = {module!r}\n{MEASURE}", home)
    return tuple(float(word) for word in printed.splitlines()[-1].split())


def run(program: str, home: str) -> str:
    """Run a program in a fresh interpreter with bytecode, as workers have it, and return what it printed."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-P", "-W", "ignore", "-c", program]
    return subprocess.run(
        command, env=env | {"AIRFLOW_HOME": home}, check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    main()

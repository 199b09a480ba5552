"""Example DAGs as they stand, but for what a test cannot wait for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "example_dags"
ALWAYS = {
    "max_active_runs=1": "max_active_runs=30",
    "retry_delay=timedelta(minutes=1)": "retry_delay=timedelta(seconds=2)",
}
SAFE_PAIR = {
    # A project for each test; the tasks after it take the project from the XCom of this one.
    "wait_for_completion=False": "wait_for_completion=False, project_id=\"{{ dag_run.conf['project_id'] }}\"",
    'if not params["healthy"]:': f"__import__('time').sleep(params['seconds'])\n{' ' * 8}"
    'if not params["healthy"]:',
    'params={"suite"': 'params={"seconds": Param(0, type="number"), "suite"',
}
LOST_RUN = {
    '"{{ params.suite }}"': "\"{{ dag_run.conf['script'] }}\", "
    "project_id=\"{{ dag_run.conf['project_id'] }}\", deferrable=False",
}
VARIANTS: Mapping[str, tuple[str, dict[str, str]]] = {
    "safe_pair": ("example_stably_safe_pair", SAFE_PAIR),
    "safe_pair_dagrun_timeout": (
        "example_stably_safe_pair",
        {**SAFE_PAIR, "dagrun_timeout=timedelta(hours=3)": "dagrun_timeout=timedelta(seconds=20)"},
    ),
    "matrix_teardown_sync": ("example_stably_cancel_lost_run", LOST_RUN),
}


def changed(source: str, changes: Mapping[str, str]) -> str:
    """Replace some parts of a source, each of which is there once."""
    for old, new in changes.items():
        if source.count(old) != 1:
            raise ValueError(f"{old!r} is {source.count(old)} times in the example")
        source = source.replace(old, new)
    return source


for dag_id, (example, changes) in VARIANTS.items():
    names = {"__name__": __name__, "__doc__": "An example DAG"}
    source = changed(
        (EXAMPLES / f"{example}.py").read_text(), {**ALWAYS, f'"{example}",': f'"{dag_id}",', **changes}
    )
    exec(compile(source, __file__, "exec"), names)  # noqa: S102 - our own file; Airflow looks for it here
    globals()[dag_id] = names["dag"]

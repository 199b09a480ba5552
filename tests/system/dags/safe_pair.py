"""The example DAG example_stably_safe_pair as it stands, but for what a test cannot wait for."""

from __future__ import annotations

from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "example_dags" / "example_stably_safe_pair.py"
ALWAYS = {
    "max_active_runs=1": "max_active_runs=30",
    "retry_delay=timedelta(minutes=1)": "retry_delay=timedelta(seconds=2)",
    # A project for each test; the tasks after it take the project from the XCom of this one.
    "wait_for_completion=False": "wait_for_completion=False, project_id=\"{{ dag_run.conf['project_id'] }}\"",
    'if not params["healthy"]:': f"__import__('time').sleep(params['seconds'])\n{' ' * 8}"
    'if not params["healthy"]:',
    'params={"suite"': 'params={"seconds": Param(0, type="number"), "suite"',
}
VARIANTS = {
    "safe_pair": {},
    "safe_pair_dagrun_timeout": {"dagrun_timeout=timedelta(hours=3)": "dagrun_timeout=timedelta(seconds=20)"},
}


def changed(source, changes):
    """Replace some parts of a source, each of which is there once."""
    for old, new in changes.items():
        if source.count(old) != 1:
            raise ValueError(f"{old!r} is {source.count(old)} times in the example")
        source = source.replace(old, new)
    return source


for dag_id, changes in VARIANTS.items():
    names = {"__name__": __name__, "__doc__": "The example DAG with the safe pair"}
    source = changed(
        EXAMPLE.read_text(), {**ALWAYS, '"example_stably_safe_pair",': f'"{dag_id}",', **changes}
    )
    exec(compile(source, __file__, "exec"), names)  # noqa: S102 - our own file; Airflow looks for it here
    globals()[dag_id] = names["dag"]

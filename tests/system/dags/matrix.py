"""DAGs of the matrix: a task that runs Stably tests, in each mode and in the variants of the scenarios."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.operators.stably import StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor


def show(context):
    """Request a run that does not exist, as proof in the emulator's journal that the callback was called."""
    project_id = context["dag_run"].conf["project_id"]
    StablyHook().get_run(f"callback-of-{project_id}", project_id=project_id)


RETRY = {"retries": 1, "retry_delay": timedelta(seconds=10)}  # before Airflow 3.3, callbacks need this time
RETRY_SOON = {"retries": 1, "retry_delay": timedelta(seconds=1)}
LATE_RETRY = {"retries": 1, "retry_delay": timedelta(hours=1)}
RUN = {
    "project_id": "{{ params.project_id }}",
    "playwright_project_name": "{{ params.script }}",
    "branch": "{{ ti.task_id }}/{{ ti.map_index }}",
    "poll_interval": 1,
}
MODES = {"sync": False, "deferrable": True}
VARIANTS = {
    "plain": {},
    "retry": RETRY,
    "shown": RETRY_SOON | {"on_retry_callback": show, "on_failure_callback": show},
    "late_retry": LATE_RETRY,
    "execution_timeout": {"execution_timeout": timedelta(seconds=10)},
    "timeout": {"timeout": 6},
    "timeout_retry": {"timeout": 6} | LATE_RETRY,
    "slow_exit": {},
}


def dag_of(mode, variant, **options):
    """Declare the DAG of a variant in a mode."""
    params = {"project_id": Param("project-1", type="string"), "script": Param("hangs", type="string")}
    return DAG(f"matrix_{variant}_{mode}", schedule=None, params=params, max_active_runs=30, **options)


for mode, deferrable in MODES.items():
    for variant, options in VARIANTS.items():
        with dag_of(mode, variant):
            StablyRunTestsOperator(task_id="tests", deferrable=deferrable, **RUN, **options)

    for variant, options in {"crash": {}, "crash_retry": LATE_RETRY, "slow_exit_crash": LATE_RETRY}.items():
        with dag_of(mode, variant):
            crashing = StablyRunTestsOperator(task_id="tests", deferrable=deferrable, **RUN, **options)
            crashing.poll_interval = "not a number"  # not validated here, so waiting fails

    for variant in ("unknown", "untrusted"):
        with dag_of(mode, variant):
            StablyRunTestsOperator(
                task_id="tests", deferrable=deferrable, stably_conn_id=f"stably_{variant}", **RUN
            )

    for variant in ("rotated", "revoked", "impatient", "stored"):
        with dag_of(mode, variant):
            StablyRunTestsOperator(
                task_id="tests", deferrable=deferrable, stably_conn_id=f"stably_{variant}_{mode}", **RUN
            )

    with dag_of(mode, "dagrun_timeout", dagrun_timeout=timedelta(seconds=12)):
        StablyRunTestsOperator(task_id="tests", deferrable=deferrable, **RUN)

    for variant, options in {"mapped": {}, "mapped_retry": RETRY}.items():
        with dag_of(mode, variant):
            StablyRunTestsOperator.partial(task_id="tests", deferrable=deferrable, **RUN, **options).expand(
                environment=["staging"]
            )

with dag_of("deferrable", "slow_exit_sensor"):
    start = StablyRunTestsOperator(task_id="start", wait_for_completion=False, **RUN)
    StablyRunSensor(
        task_id="wait",
        run_id=start.output["run_id"],
        project_id=RUN["project_id"],
        poke_interval=1,
        deferrable=True,
    )

with dag_of("deferrable", "many", max_active_tasks=6):  # at once; deferred ones do not count
    StablyRunTestsOperator.partial(task_id="tests", deferrable=True, **RUN).expand(
        environment=[f"staging-{number}" for number in range(50)]
    )

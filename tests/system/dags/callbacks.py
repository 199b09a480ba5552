"""DAGs that fail while Stably runs are live that no task waits for."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, Param, TaskGroup, task

from airflow_provider_stably.api.calls import get_run
from airflow_provider_stably.exceptions import StablyError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyRunTestsOperator
from tests.system.versions import is_airflow

PARAMS = {"project_id": Param("project-1", type="string")}
RUN = {"project_id": "{{ params.project_id }}", "playwright_project_name": "hangs", "poll_interval": 1}
STARTED = ["start", "mapped", "group"]


def mark(name):
    """Make a callback that requests a run named after it and its process, for the emulator's journal."""

    def request(context):
        with suppress(StablyError):
            call = get_run(context["params"]["project_id"], f"{name}-{os.getpid()}")
            StablyHook().client.send_once(call)

    return request


@task(on_failure_callback=mark("task"))
def work(params=None):
    """Fail after some seconds, unless killed before."""
    end = time.monotonic() + params["seconds"]
    while time.monotonic() < end:
        time.sleep(0.1)
    raise RuntimeError("on purpose")


@task(on_failure_callback=mark("downstream"))
def after():
    """Do nothing: the task never runs, since the one before it fails."""


CONNECTIONS = {"": "stably_default", "_stored": "stably_in_database"}
"""Suffix of a DAG's id to its connection: one from the environment, one only in the metadata database."""


def callbacks_of(conn_id):
    """Return callbacks that cancel the runs, between two that are seen in the emulator's journal."""
    return [
        mark("began"),
        StablyCancelRunNotifier(task_ids=STARTED, stably_conn_id=conn_id),
        mark("ended"),
    ]


def start_runs(conn_id="stably_default"):
    """Start four runs: one in a plain task, two in a mapped task, one in a task of a group."""
    options = {**RUN, "wait_for_completion": False, "stably_conn_id": conn_id}
    start = StablyRunTestsOperator(task_id="start", **options)
    mapped = StablyRunTestsOperator.partial(task_id="mapped", **options).expand(
        environment=["staging", "preview"]
    )
    with TaskGroup("group"):
        grouped = StablyRunTestsOperator(task_id="start", **options)
    return [start, mapped, grouped]


@task
def fail():
    """Fail."""
    raise RuntimeError("on purpose")


for suffix, conn_id in CONNECTIONS.items():
    with DAG(
        f"callbacks_of_task{suffix}",
        schedule=None,
        params=PARAMS,
        default_args={"on_failure_callback": callbacks_of(conn_id)},
    ):
        start_runs(conn_id) >> fail()

    with DAG(
        f"callbacks_of_dag{suffix}",
        schedule=None,
        params=PARAMS,
        on_failure_callback=callbacks_of(conn_id),
    ):
        start_runs(conn_id) >> fail()

VANISHED = Path(os.environ["AIRFLOW_HOME"], "task-is-gone")
"""The test makes this file: the task that fails is then gone from its DAG, so the callback gets no ``ti``."""


@task
def vanish(params=None):
    """Fail as soon as the task is gone from the DAG's file."""
    mark("waits")({"params": params})
    while not VANISHED.exists():
        time.sleep(0.1)
    raise RuntimeError("on purpose")


with DAG(
    "callbacks_of_dag_without_ti",
    schedule=None,
    params=PARAMS,
    on_failure_callback=StablyCancelRunNotifier(task_ids=STARTED),
):
    started = start_runs()
    if not VANISHED.exists():
        started >> vanish()

for name, options in {"calls": {}, "calls_timeout": {"dagrun_timeout": timedelta(seconds=10)}}.items():
    with DAG(
        f"callbacks_{name}",
        schedule=None,
        params={**PARAMS, "seconds": Param(0, type="number")},
        on_failure_callback=mark("DAG"),
        **options,
    ):
        work() >> after()

with DAG("callbacks_of_lost_worker", schedule=None, params=PARAMS):
    StablyRunTestsOperator(
        task_id="tests",
        deferrable=False,
        cancel_on_kill=False,
        on_failure_callback=StablyCancelRunNotifier(),
        **RUN,
    )

with DAG("callbacks_of_failing_retry", schedule=None, params=PARAMS):
    StablyRunTestsOperator(
        task_id="tests",
        deferrable=False,
        branch="{{ ti.try_number if ti.try_number == 1 else fails_when_rendered.here }}",
        retries=1,
        retry_delay=timedelta(seconds=1),
        **RUN,
    )

with suppress(ImportError):  # Airflow 3.1 brought deadlines
    from airflow.sdk.definitions import deadline

    KINDS = {
        f"deadline{suffix}": (deadline.AsyncCallback, conn_id) for suffix, conn_id in CONNECTIONS.items()
    }
    if is_airflow(">=3.2"):  # 3.1 has the class, and refuses it
        KINDS["sync_deadline"] = (deadline.SyncCallback, "stably_default")
    for kind, (callback, conn_id) in KINDS.items():
        with DAG(
            f"callbacks_of_{kind}",
            schedule=None,
            params=PARAMS,
            deadline=deadline.DeadlineAlert(
                reference=deadline.DeadlineReference.DAGRUN_QUEUED_AT,
                interval=timedelta(seconds=45),
                callback=callback(
                    StablyCancelRunNotifier,
                    kwargs={"task_ids": [*STARTED, "tests"], "stably_conn_id": conn_id},
                ),
            ),
        ):
            start_runs(conn_id) >> StablyRunTestsOperator(
                task_id="tests", deferrable=True, stably_conn_id=conn_id, **RUN
            )

"""DAGs that fail while Stably runs are live that no task waits for."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param, TaskGroup, task

from airflow_provider_stably.api.calls import get_run
from airflow_provider_stably.exceptions import StablyError
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyRunTestsOperator

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


CALLBACKS = [mark("began"), StablyCancelRunNotifier(task_ids=STARTED), mark("ended")]


def start_runs():
    """Start four runs: one in a plain task, two in a mapped task, one in a task of a group."""
    start = StablyRunTestsOperator(task_id="start", wait_for_completion=False, **RUN)
    mapped = StablyRunTestsOperator.partial(task_id="mapped", wait_for_completion=False, **RUN).expand(
        environment=["staging", "preview"]
    )
    with TaskGroup("group"):
        grouped = StablyRunTestsOperator(task_id="start", wait_for_completion=False, **RUN)
    return [start, mapped, grouped]


@task
def fail():
    """Fail."""
    raise RuntimeError("on purpose")


with DAG(
    "callbacks_of_task",
    schedule=None,
    params=PARAMS,
    default_args={"on_failure_callback": CALLBACKS},
):
    start_runs() >> fail()

with DAG(
    "callbacks_of_dag",
    schedule=None,
    params=PARAMS,
    on_failure_callback=CALLBACKS,
):
    start_runs() >> fail()

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
        task_id="tests", deferrable=False, on_failure_callback=StablyCancelRunNotifier(), **RUN
    )

with suppress(ImportError):  # Airflow 3.1 brought deadlines
    from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

    with DAG(
        "callbacks_of_deadline",
        schedule=None,
        params=PARAMS,
        deadline=DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(seconds=20),
            callback=AsyncCallback(StablyCancelRunNotifier, kwargs={"task_ids": [*STARTED, "tests"]}),
        ),
    ):
        start_runs() >> StablyRunTestsOperator(task_id="tests", deferrable=True, **RUN)

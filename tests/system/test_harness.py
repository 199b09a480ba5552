"""The harness of the system tests does what it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.constants import KEY, PROJECT
from tests.system.processes import is_gone
from tests.system.versions import DETECTION_SECONDS


def test_cancel_dag_cancels_and_returns_the_id(airflow, emulator):
    """A DAG run that is started through the REST API reaches the emulator, and its XCom can be read."""
    run_id = emulator.add_run(project_id=PROJECT)

    dag_run = airflow.trigger("harness_cancel", {"run_ids": [run_id]})

    dag_run.wait_for("success")
    assert dag_run.task("cancel").xcom() == [run_id]
    assert emulator.status(run_id) == "CANCELLED"


def test_stored_connection_can_change(airflow, emulator):
    """A connection can be stored, and its key rotated, through the REST API."""
    run_id = emulator.add_run(project_id=PROJECT)
    airflow.add_connection(
        "stably_stored", conn_type="stably", host=emulator.url, login=PROJECT, password="old"
    )
    task = airflow.trigger("harness_cancel_by_stored_connection", {"run_ids": [run_id]}).task("cancel")
    task.dag_run.wait_for("failed")

    airflow.change_connection("stably_stored", password=KEY)
    task.clear()

    task.wait_for("success")
    assert emulator.status(run_id) == "CANCELLED"


def test_task_marked_failed_ends(airflow):
    """The process of a running task that is marked failed is gone, its worker goes on."""
    task = airflow.trigger("harness_sleep").task("sleep")
    task.wait_for("running")
    *supervisors, process = task.processes()

    task.set_state("failed")

    task.wait_until_gone([process])
    assert task.state == "failed"
    assert not is_gone(airflow.scheduler.process)
    assert supervisors


def test_killed_process_fails_the_task(airflow):
    """A task whose own process is killed fails, and its supervisor survives."""
    task = airflow.trigger("harness_sleep").task("sleep")
    task.wait_for("running")
    supervisor = task.processes()[0]

    process = task.kill_process()

    assert is_gone(process)
    assert not is_gone(supervisor)
    task.wait_for("failed", timeout=DETECTION_SECONDS)


def test_killed_worker_fails_the_task(airflow, emulator):
    """A task whose whole worker is killed fails when its heartbeats are missed; its callback is called."""
    run_id = emulator.add_run(project_id=PROJECT)
    task = airflow.trigger("harness_sleep", {"run_id": run_id}).task("sleep")
    task.wait_for("running")

    processes = task.kill_worker()

    assert len(processes) > 1
    assert all(is_gone(process) for process in processes)
    assert task.state == "running"
    task.wait_for("failed", timeout=DETECTION_SECONDS)
    airflow.wait_until(lambda: emulator.status(run_id) == "CANCELLED", what="the failure callback")


def test_deferred_task_survives_its_triggerer(airflow):
    """A deferred task goes on after its triggerer was killed and started again."""
    until = datetime.now(UTC) + timedelta(seconds=10)
    task = airflow.trigger("harness_defer", {"until": until.isoformat()}).task("wait")
    task.wait_for("deferred")
    airflow.wait_until(lambda: airflow.triggerer_of(task), what="a triggerer to take the trigger")

    airflow.triggerer.kill()
    airflow.triggerer.start()

    task.wait_for("success")


def test_deferred_task_moves_to_the_other_triggerer(airflow):
    """A second triggerer takes over what a killed one had."""
    task = airflow.trigger("harness_defer").task("wait")
    task.wait_for("deferred")
    first = airflow.wait_until(lambda: airflow.triggerer_of(task), what="a triggerer to take the trigger")
    second = airflow.start_triggerer("triggerer-2")

    first.kill()

    airflow.wait_until(lambda: airflow.triggerer_of(task) is second, what="the other one to take it over")
    task.set_state("success")
    first.start()
    second.terminate()


def test_deferred_task_can_be_cleared(airflow):
    """A deferred task that is cleared starts over."""
    task = airflow.trigger("harness_defer").task("wait")
    task.wait_for("deferred", try_number=1)

    task.clear()

    task.wait_for("deferred", try_number=2)
    task.dag_run.set_state("failed")
    task.wait_for("failed", "skipped")

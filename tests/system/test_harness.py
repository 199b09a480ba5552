"""The harness of the system tests: DAG runs, kills, triggerers and connections."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.constants import KEY, PROJECT
from tests.system.processes import is_gone
from tests.system.versions import DETECTION_SECONDS


def test_dag_run_cancels_and_returns_the_run_id(airflow, emulator):
    """A DAG run started through the REST API cancels a run in the emulator, and its XCom can be read."""
    run_id = emulator.add_run(project_id=PROJECT)

    dag_run = airflow.trigger("harness_cancel", {"run_ids": [run_id]})

    dag_run.wait_for("success")
    assert dag_run.task("cancel").xcom() == [run_id]
    assert emulator.status(run_id) == "CANCELLED"


def test_stored_connection_can_change(airflow, emulator):
    """A connection can be stored, and its API key changed, through the REST API."""
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
    """When a running task is marked failed, its process ends and the scheduler stays up."""
    task = airflow.trigger("harness_sleep").task("sleep")
    task.wait_for("running")
    *supervisors, process = task.processes()

    task.set_state("failed")

    task.wait_until_gone([process])
    assert task.state == "failed"
    assert not is_gone(airflow.scheduler.process)
    assert supervisors


def test_killed_process_fails_the_task(airflow):
    """When a task's own process is killed, the task fails and its supervisor survives."""
    task = airflow.trigger("harness_sleep").task("sleep")
    task.wait_for("running")
    supervisor = task.processes()[0]

    process = task.kill_process()

    assert is_gone(process)
    assert not is_gone(supervisor)
    task.wait_for("failed", timeout=DETECTION_SECONDS)


def test_killed_worker_fails_the_task(airflow, emulator):
    """When a task's whole worker is killed, it fails for lack of heartbeats and its callback is called."""
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
    """A deferred task succeeds although its triggerer was killed and started again."""
    until = datetime.now(UTC) + timedelta(seconds=10)
    task = airflow.trigger("harness_defer", {"until": until.isoformat()}).task("wait")
    task.wait_for("deferred")
    airflow.wait_until(lambda: airflow.triggerer_of(task), what="a triggerer to run the trigger")

    airflow.triggerer.kill()
    airflow.triggerer.start()

    task.wait_for("success")


def test_deferred_task_moves_to_the_other_triggerer(airflow):
    """A second triggerer takes over the deferred task of a killed one."""
    task = airflow.trigger("harness_defer").task("wait")
    task.wait_for("deferred")
    first = airflow.wait_until(lambda: airflow.triggerer_of(task), what="a triggerer to run the trigger")
    second = airflow.start_triggerer("triggerer-2")

    first.kill()

    airflow.wait_until(lambda: airflow.triggerer_of(task) is second, what="the second triggerer to take over")
    task.set_state("success")
    first.start()
    second.terminate()


def test_deferred_task_can_be_cleared(airflow):
    """A deferred task that is cleared is deferred again in its next try."""
    task = airflow.trigger("harness_defer").task("wait")
    task.wait_for("deferred", try_number=1)

    task.clear()

    task.wait_for("deferred", try_number=2)
    task.dag_run.set_state("failed")
    task.wait_for("failed", "skipped")

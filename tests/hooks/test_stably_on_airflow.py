"""The hook in a task of one's own, as its documentation shows it, on a real Airflow."""

from tests.dag_files import load_dag_file


def test_the_documented_task_waits_for_both_runs(emulator, airflow_db):
    """A @task starts two runs by hand and returns how they ended."""
    emulator.run_seconds = 0.05

    dag_run = load_dag_file("tests/dags", "hook").dag.test()

    ti = dag_run.get_task_instance("run_both")
    assert ti.xcom_pull(task_ids="run_both") == {"chromium": "PASSED", "firefox": "PASSED"}
    assert [request.json()["envOverrides"] for request in emulator.requests("start")] == [
        {"RETRIES": "2"}
    ] * 2

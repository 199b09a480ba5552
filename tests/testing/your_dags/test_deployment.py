# [START your_dags_test]
from airflow_provider_stably.testing import check_dag


def test_every_run_is_cleaned_up(deployment_dag):
    """No clean-up has a mistyped task id, and no run is left without one."""
    check_dag(deployment_dag)


def test_a_red_suite_stops_the_deployment(run_stably_dag, deployment_dag):
    """Nothing is deployed if the Stably run fails."""
    dag_run, journal = run_stably_dag(deployment_dag, {"suite": "fails"})

    assert dag_run.state == "failed"
    assert journal[0].call == "start"
    assert journal[0].json()["environment"] == "staging"


def test_a_run_that_takes_too_long_is_cancelled(run_stably_dag, stably_emulator, deployment_dag):
    """No run is left behind when the task gives up."""
    deployment_dag.get_task("run_tests").timeout = 0.2

    run_stably_dag(deployment_dag, {"suite": "hangs"})

    assert stably_emulator.live_runs() == []


# [END your_dags_test]

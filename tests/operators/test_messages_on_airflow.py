"""What the log of a failed task says first, on a real Airflow; its view does not wrap long lines."""

import re

import pytest

from tests.constants import PROJECT
from tests.dag_files import load_dag_file
from tests.shown import shown


@pytest.fixture
def log(emulator, airflow_db, capfd, monkeypatch):
    """Run a DAG of tests/dags/messages.py that fails, and return what it printed."""
    monkeypatch.setenv("AIRFLOW_CONN_WRONG_KEY", emulator.connection(login=PROJECT, password="wrong"))

    def run(name):
        assert getattr(load_dag_file("tests/dags", "messages"), name).test().state == "failed"
        return shown(capfd.readouterr())

    return run


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bad_project", "'a/b' is not a Stably project id"),
        ("no_connection", "Airflow connection 'nope' is not defined: add a connection of type 'stably'"),
        ("run_is_none", "run_id is 'None': the task that should give it was skipped, has failed, returned"),
        ("not_a_run", "run_id: not an id (letters, digits and '._~-'): 1"),
        ("wrapped_run", "run_id: a mapping without 'run_id': {'run': {'run_id': 'abc'}}"),
        ("wrapped_runs", "run_ids: a mapping without 'run_id': {'run': {'run_id': 'abc'}}; nothing was sent"),
        ("task_as_run", "run_id: a task of this DAG, not a run (pass its .output, or task_ids): start"),
        ("task_as_runs", "run_ids: a task of this DAG, not a run (pass its .output, or task_ids): start"),
        (
            "no_connection_to_cancel",
            "abc: unknown, Airflow connection 'nope' is not defined: add a conn",
        ),
        (
            "no_connection_to_wait",
            "Airflow connection 'nope' is not defined: add a connection of type 'stably'",
        ),
        ("mistyped_task", "task_ids: this DAG has no task 'strat'; did you mean 'start'?"),
        (
            "malformed",
            "run_ids: a template cannot show a mapped task's XComs (use task_ids, or .output[",
        ),
        ("not_found", f"abc: not_found, project {PROJECT} has no such run; check project_id"),
        ("two_not_found", "2 of 2 Stably runs are not known to be over (2 not_found):"),
    ],
)
def test_the_cause_comes_first(log, name, says):
    """The first hundred characters of the error say what is wrong; no chained error repeats it."""
    printed = log(name)

    words = r"\s+".join(map(re.escape, says.split()))  # Airflow 3.0 breaks the line
    assert re.search(rf"^(?:\S+\.)?\w*(?:Exception|Error|Timeout): {words}", printed, re.MULTILINE)
    assert "direct cause of" not in printed


@pytest.mark.parametrize(
    "name",
    [
        "bad_project",
        "bad_project_mapped",
        "key_refused",
        "no_connection",
        "run_is_none",
        "template_fails",
        "template_fails_to_wait",
    ],
)
def test_no_noise_follows_a_failure_before_the_start(log, name):
    """XComs of a run that was never started are not read, so Airflow logs no errors about them."""
    printed = log(name)

    lines = [line for line in printed.splitlines() if "[debug " not in line]  # Airflow 3.0's own
    assert not re.search("XCom.*(run_url|stably_run)", "\n".join(lines))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("notified_without_connection", "Airflow connection 'nope' is not defined: add a connection of type"),
        ("notified_of_no_task", "task_ids: this DAG has no task 'strat'; did you mean 'start'?"),
        ("notified_of_no_run", "run_ids: a mapping without 'run_id': {'run': 'abc'}; nothing is sent for it"),
        (
            "notified_of_a_task",
            "run_ids: a task of this DAG, not a run (pass its .output, or task_ids): start",
        ),
        ("dag_notified_of_nothing", "Neither task_ids nor run_ids is given, and this callback belongs to no"),
    ],
)
def test_a_notifier_says_why_it_cancels_nothing(log, caplog, name, says):
    """The cause is the first thing that it logs, and no line says that there was no run."""
    log(name)

    logged = [record for record in caplog.records if record.name.startswith("airflow_provider_stably.")]
    messages = [record.getMessage() for record in logged if "server" not in record.name]
    assert messages[0].startswith(says)
    assert "Found no Stably run" not in messages
    assert not any(record.exc_info for record in logged)


def test_a_second_cancel_logs_no_refusal(emulator, airflow_db, caplog):
    """A run that is cancelled already is no failure of the API's."""
    caplog.set_level("INFO")

    dag_run = load_dag_file("tests/dags", "messages").cancelled_twice.test()

    assert dag_run.state == "success"
    assert caplog.text.count(": cancelled (CANCELLED)") == 2
    assert "refused" not in caplog.text


def test_a_run_never_read_is_not_called_started(log):
    """The sensor has not started the run, and does not say so."""
    printed = log("wait_denied")

    assert "Run abc was never read" in printed
    assert "Run abc started" not in printed

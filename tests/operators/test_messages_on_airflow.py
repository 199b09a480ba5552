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
        ("run_is_none", "run_id is 'None': the task that should give it was skipped, has failed or returned"),
        ("not_a_run", "run_id is not a Stably run: 1; ids are made of letters, digits and '._~-'"),
        ("mistyped_task", "task_ids: this DAG has no task 'strat'; did you mean 'start'?"),
        (
            "malformed",
            "LazySelectSequence([2 items]): malformed, a template cannot show a mapped task's XComs",
        ),
        ("not_found", f"abc: not_found, project {PROJECT} has no such run; check project_id"),
        ("two_not_found", "2 of 2 Stably runs are not known to be over (2 not_found):"),
    ],
)
def test_the_cause_comes_first(log, name, says):
    """The first hundred characters of the error say what is wrong; no chained error repeats it."""
    printed = log(name)

    messages = re.findall(r"^(?:\S+\.)?\w*(?:Exception|Error|Timeout): (.+)$", printed, re.MULTILINE)
    assert any(message.startswith(says) for message in messages)
    assert "direct cause of" not in printed


@pytest.mark.parametrize("name", ["bad_project", "key_refused", "no_connection", "run_is_none"])
def test_no_noise_follows_a_failure_before_the_start(log, name):
    """XComs of a run that was never started are not read, so Airflow logs no errors about them."""
    printed = log(name)

    assert not re.search("XCom.*(run_url|stably_run)", printed)


def test_a_run_never_read_is_not_called_started(log):
    """The sensor has not started the run, and does not say so."""
    printed = log("wait_denied")

    assert "Run abc was never read" in printed
    assert "Run abc started" not in printed

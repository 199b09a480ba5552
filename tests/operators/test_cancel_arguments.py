"""The cancel operator: what is wrong with its arguments, and what names nothing."""

import math
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSkipException, TaskGroup

from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from tests.constants import KEY, PROJECT
from tests.operators.cancel_operator import cancel, outcomes


@pytest.mark.parametrize(
    "nothing", [None, "", [], "[]", "None", "null", "  ", ["None", None], "[None]"], ids=repr
)
@pytest.mark.parametrize(
    ("on_empty", "end"), [("skip", AirflowSkipException), ("fail", AirflowFailException), ("success", None)]
)
def test_nothing_to_cancel_ends_as_on_empty_says(emulator, context, nothing, on_empty, end):
    """XCom has an empty list, no request is made, and the task is skipped by default."""
    if end is None:
        assert cancel(context, nothing, on_empty=on_empty) == []
    else:
        with pytest.raises(end, match="No Stably run to cancel"):
            cancel(context, nothing, on_empty=on_empty)
        assert context["xcom"]["return_value"] == []

    assert context["xcom"]["outcomes"] == {}
    assert emulator.requests() == []


def test_nothing_to_cancel_needs_no_connection(context, monkeypatch):
    """A skipped upstream does not turn into a failure about the connection."""
    monkeypatch.delenv("AIRFLOW_CONN_STABLY_DEFAULT", raising=False)

    with pytest.raises(AirflowSkipException):
        cancel(context, "None", stably_conn_id="no_such_connection")


def test_a_rendered_none_is_skipped_with_a_warning(context, run_id, caplog, capsys):
    """Jinja renders a missing XCom as 'None'; the warning points to the argument that copes with that."""
    assert cancel(context, [run_id, "None"]) == [run_id]
    logged = caplog.text + capsys.readouterr().out  # Airflow 3 logs tasks past the logging module
    assert "Ignored None in run_ids" in logged
    assert "task_ids names tasks instead" in logged


@pytest.mark.parametrize("text", ["['{}', '{}']", '["{}", "{}"]', "('{}', '{}')"])
def test_a_rendered_list_is_read_as_a_list(emulator, context, text):
    """A template renders a list as text."""
    run_ids = [emulator.add_run(project_id=PROJECT) for _ in range(2)]

    assert cancel(context, text.format(*run_ids)) == run_ids


def test_malformed_ids_fail_after_the_valid_ones(emulator, context, run_id):
    """The valid ids are cancelled first, then one clear error that no retry repeats."""
    with pytest.raises(AirflowFailException, match=r"- run_ids: not an id .*: \.\./x; nothing was sent"):
        cancel(context, ["../x", run_id, "a/b"])

    assert context["xcom"]["return_value"] == [run_id]
    assert outcomes(context) == {run_id: "cancelled", "../x": "malformed", "a/b": "malformed"}
    assert len(emulator.requests()) == 1


def test_a_malformed_id_does_not_hide_its_valid_twin(emulator, context):
    """The number 123 is no id, the text is: its result stays and it is listed, and the task fails."""
    emulator.add_run(run_id="123", project_id=PROJECT)

    with pytest.raises(AirflowFailException, match=r"^run_ids: not an id .*: 123; nothing was sent"):
        cancel(context, ["123", 123])

    assert (context["xcom"]["return_value"], outcomes(context)) == (["123"], {"123": "cancelled"})


@pytest.mark.parametrize("run_ids", ["[a, b]", "LazySelectSequence([2 items])", [7], {"a": 1}], ids=repr)
def test_if_all_ids_are_malformed_nothing_is_sent(emulator, context, run_ids):
    """No request goes out for what is not an id."""
    with pytest.raises(AirflowFailException, match=r"^run_ids: .*; nothing was sent for it$"):
        cancel(context, run_ids)

    assert emulator.requests() == []


@pytest.mark.parametrize(
    ("connection", "problem"),
    [
        pytest.param({"password": ""}, r"'stably_default', field 'password'", id="no key"),
        pytest.param({"host": "http://stably.example"}, r"'stably_default', field 'host'", id="http"),
        pytest.param({"extra": {"timeout": "x"}}, r"'stably_default', field 'extra.timeout'", id="extra"),
        pytest.param({"login": ""}, r"'stably_default', field 'login'.*project_id", id="no project"),
        pytest.param({"login": "a/b"}, "'a/b' is not a Stably project id", id="bad project"),
    ],
)
def test_bad_input_is_one_error_that_is_not_retried(emulator, context, monkeypatch, connection, problem):
    """The error names the connection and the field, and shows no key."""
    fields = {"login": PROJECT, **connection}
    monkeypatch.setenv("AIRFLOW_CONN_STABLY_DEFAULT", emulator.connection(**fields))

    with pytest.raises(AirflowFailException, match=problem) as caught:
        cancel(context, "run-1")

    assert emulator.requests() == []
    assert KEY not in repr(caught.value) + repr(caught.value.__context__)
    assert (context["xcom"]["return_value"], outcomes(context)) == ([], {"run-1": "not_attempted"})


@pytest.mark.parametrize("project_id", [None, "", "None", " "], ids=repr)
def test_an_empty_project_means_the_connections(context, run_id, project_id):
    """A template that renders to nothing does not make a project called 'None'."""
    assert cancel(context, run_id, project_id=project_id) == [run_id]


def test_the_project_may_be_named(emulator, context):
    """A project id of the task wins over the connection's."""
    run_id = emulator.add_run(project_id="other")

    assert cancel(context, run_id, project_id="other") == [run_id]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "name the runs to cancel: pass run_ids, or task_ids"),
        ({"run_ids": None}, "name the runs to cancel"),
        ({"task_ids": []}, "task_ids is empty"),
        ({"run_ids": "a", "task_ids": "b"}, "not both"),
        ({"task_ids": ["start", None]}, "task_ids are tasks or task groups, or their ids, not None"),
        ({"task_ids": " "}, "task_ids are tasks"),
        ({"task_ids": 7}, "task_ids are tasks"),
        ({"task_ids": "{{ params.task }}"}, "task_ids is not templated"),
        ({"run_ids": "a", "on_empty": "panic"}, "on_empty is one of skip, success, fail"),
        *[
            ({"run_ids": "a", "timeout": wrong}, "timeout is a number")
            for wrong in (-1, math.nan, math.inf, "120", True)
        ],
        *[
            ({"run_ids": "a", "poll_interval": wrong}, "poll_interval is a number")
            for wrong in (0, None, timedelta(0))
        ],
    ],
)
def test_senseless_arguments_fail_the_dags_parse(arguments, problem):
    """What is not templated is checked when the DAG is parsed."""
    with pytest.raises(ValueError, match=problem):
        StablyCancelRunOperator(task_id="cancel", **arguments)


def test_task_ids_accept_tasks_groups_and_outputs():
    """An operator, a mapped one, a task's output or a task group stands for its id."""
    with DAG("names", schedule=None):
        with TaskGroup("suites") as suites:
            start = StablyRunTestsOperator(task_id="start")
        mapped = StablyRunTestsOperator.partial(task_id="mapped").expand(environment=["a"])
        given = [
            start,
            start.output,
            suites,
            mapped,
            [start, mapped.output, "other"],
            {"other"},
            "mapped, other",
        ]

        tasks = [
            StablyCancelRunOperator(task_id=f"cancel_{number}", task_ids=task_ids)
            for number, task_ids in enumerate(given)
        ]

    assert [task.task_ids for task in tasks] == [
        ["suites.start"],
        ["suites.start"],
        ["suites"],
        ["mapped"],
        ["suites.start", "mapped", "other"],
        ["other"],
        ["mapped", "other"],
    ]


def test_a_mapped_cancel_that_gets_none_is_skipped(context):
    """What a task returned for one map index may be None; that is no forgotten wiring."""
    mapped = StablyCancelRunOperator.partial(task_id="cancel").expand(run_ids=["a", None])

    with pytest.raises(AirflowSkipException):
        mapped.unmap({"run_ids": None}).execute(context)

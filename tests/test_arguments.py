from functools import partial
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_stably.arguments import (
    env_overrides_as_text,
    is_missing,
    read_task_ids,
    text_or_none,
    true_or_false,
)
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor


@pytest.mark.parametrize(
    ("value", "missing"),
    [(None, True), ("", True), (" ", True), ("None", True), ("NULL", True), ("nope", False), (0, False)],
)
def test_a_rendered_nothing_is_missing(value, missing):
    """None and what Jinja makes of it are missing."""
    assert is_missing(value) is missing


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, None), ("", None), ("None", None), (" ", None), ("main", "main"), (7, "7"), (1.5, "1.5")],
)
def test_a_rendered_nothing_is_no_argument(value, text):
    """A template that renders to nothing does not run a branch called 'None'."""
    assert text_or_none(value, "branch") == text


@pytest.mark.parametrize("value", [["main"], ("main",), {"a": 1}, True, b"main"], ids=repr)
def test_what_is_neither_text_nor_a_number_is_an_error(value):
    """A list that a template rendered natively does not run a branch called "['main']"."""
    with pytest.raises(ValueError, match=f"branch is neither text nor a number but {type(value).__name__}$"):
        text_or_none(value, "branch")


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (None, {}),
        ({}, {}),
        ("None", {}),
        ({"A": "x", "B": 1, "C": 1.5, "D": True, "E": False, "F": ""}, None),
    ],
    ids=["None", "empty", "rendered None", "scalars"],
)
def test_scalars_are_sent_as_text(overrides, text):
    """Numbers and booleans become text, as JSON spells them."""
    expected = {"A": "x", "B": "1", "C": "1.5", "D": "true", "E": "false", "F": ""} if text is None else text

    assert env_overrides_as_text(overrides) == expected


@pytest.mark.parametrize("overrides", ["{'TOKEN': 'hush'}", ["hush"], {"TOKEN": ["hush"]}, {"TOKEN": None}])
def test_bad_overrides_are_an_error_without_values(overrides):
    """The error names the argument and the variable, never a value."""
    with pytest.raises(ValueError, match="env_overrides") as caught:
        env_overrides_as_text(overrides)

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "fail",
    [
        lambda name: env_overrides_as_text({name: None}),
        lambda name: read_task_ids("{{" + name, run_ids=None),
    ],
    ids=["env_overrides", "task_ids"],
)
def test_errors_cut_what_is_long(fail):
    """A name of a megabyte makes no log line of one."""
    with pytest.raises(ValueError, match=r"^(env_overrides|task_ids)") as caught:
        fail("n" * 10**6)

    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("min_tests", [-1, True, 1.5, "1", None], ids=repr)
def test_min_tests_is_a_whole_number(min_tests):
    """Anything else is refused when the DAG is parsed, by operator and sensor; mapped tasks, too."""
    for make in (
        lambda: StablyRunTestsOperator(task_id="run", min_tests=min_tests),
        lambda: StablyRunTestsOperator.partial(task_id="run", min_tests=min_tests),
        lambda: StablyRunSensor(task_id="wait", run_id="r1", min_tests=min_tests),
        lambda: StablyRunSensor.partial(task_id="wait", min_tests=min_tests),
    ):
        with pytest.raises(ValueError, match="min_tests is a whole number"):
            make()


@pytest.mark.parametrize(
    "wrong",
    [7, True, b"r1", Path("r1"), ["r1", 7], [["r1", b"r2"]], object()],
    ids=lambda value: repr(value)[:9],
)
def test_what_never_names_a_run_is_refused(wrong):
    """By operator, sensor and notifier, when the DAG is parsed; alone, and in a list."""
    for make in (
        lambda: StablyCancelRunOperator(task_id="cancel", run_ids=wrong),
        lambda: StablyCancelRunNotifier(run_ids=wrong),
        lambda: StablyRunSensor(task_id="wait", run_id=wrong),
    ):
        with pytest.raises(ValueError, match=r"^run_ids?: a run is its id, .* output of its task, not "):
            make()


def test_a_generator_is_refused():
    """Airflow copies the arguments of tasks when a DAG is cleared, and cannot copy one."""
    for make in (
        lambda: StablyCancelRunOperator(task_id="cancel", run_ids=(run for run in ["r1"])),
        lambda: StablyCancelRunNotifier(run_ids=iter(["r1"])),
        lambda: StablyRunSensor(task_id="wait", run_id=iter(["r1"])),
    ):
        with pytest.raises(ValueError, match=r"^run_ids? is a generator, .*: write a list$"):
            make()
    with pytest.raises(ValueError, match=r"^task_ids are tasks .* not <generator"):
        StablyCancelRunOperator(task_id="cancel", task_ids=(task for task in ["start"]))


def test_outputs_in_a_set_are_found():
    """As a list: Airflow looks for outputs in no other collection, so none would be rendered."""
    with DAG("collections", schedule=None):
        starts = [StablyRunTestsOperator(task_id=f"start_{number}") for number in range(2)]

        unordered = StablyCancelRunOperator(task_id="unordered", run_ids=set(starts))
        by_task = StablyCancelRunOperator(task_id="by_task", task_ids=set(starts))

    started = {"start_0", "start_1"}
    assert unordered.upstream_task_ids == set(by_task.task_ids) == started


@pytest.mark.parametrize("name", ["project_id", "playwright_project_name", "branch", "environment"])
@pytest.mark.parametrize("value", [["main"], True, b"main", Path("main")], ids=repr)
def test_what_is_no_text_fails_the_dags_parse(name, value):
    """Where it is sent as text; a template, an output or a function of the context may become text."""
    makers = [lambda: StablyRunTestsOperator(task_id="run", **{name: value})]
    if name == "project_id":
        makers += [
            lambda: StablyCancelRunOperator(task_id="cancel", run_ids="r1", project_id=value),
            lambda: StablyCancelRunNotifier(run_ids="r1", project_id=value),
            lambda: StablyRunSensor(task_id="wait", run_id="r1", project_id=value),
        ]

    for make in makers:
        with pytest.raises(ValueError, match=f"^{name} is neither text nor a number but "):
            make()
    with DAG("texts", schedule=None):
        first = StablyRunTestsOperator(task_id="first")
        for number, later in enumerate(["{{ params.x }}", first.output["branch"], lambda **_: "x", 7, None]):
            StablyRunTestsOperator(task_id=f"run_{number}", **{name: later})


@pytest.mark.parametrize("value", ["False", "{{ params.x }}", 0, None], ids=repr)
def test_a_flag_is_true_or_false(value):
    """The text 'False' counts as true in Python: a run would be waited for, or a missing one be green."""
    flags = ("wait_for_completion", "cancelled_elsewhere", "deferrable", "cancel_on_kill")
    makers = [partial(StablyRunTestsOperator, task_id="run", **{flag: value}) for flag in flags]
    makers += [
        partial(StablyCancelRunOperator, task_id="cancel", run_ids="r1", **{flag: value})
        for flag in ("ignore_missing", "wait_for_termination")
    ]
    makers.append(partial(StablyRunSensor, task_id="wait", run_id="r1", deferrable=value))

    for make in makers:
        with pytest.raises(ValueError, match="is True or False, and not templated; not "):
            make()


@pytest.mark.parametrize("conn_id", [None, "", 7, ["stably_default"]], ids=repr)
def test_a_connection_is_named_by_text(conn_id):
    """By operators, sensor and notifier when the DAG is parsed, and by the hook."""
    for make in (
        partial(StablyRunTestsOperator, task_id="run"),
        partial(StablyCancelRunOperator, task_id="cancel", run_ids="r1"),
        partial(StablyRunSensor, task_id="wait", run_id="r1"),
        partial(StablyCancelRunNotifier, run_ids="r1"),
        StablyHook,
    ):
        with pytest.raises(ValueError, match=r"^stably_conn_id is the id of a connection, not "):
            make(stably_conn_id=conn_id)


@pytest.mark.parametrize("run_id", [None, "", " ", "None", [], {}, 7], ids=repr)
def test_a_sensor_has_to_name_a_run(run_id):
    """A sensor that can never find its run is an error when the DAG is parsed."""
    with pytest.raises(ValueError, match=r"^run_id: a run is its id, .* not ") as refused:
        StablyRunSensor(task_id="wait", run_id=run_id)

    assert str(refused.value).endswith(f"not {run_id!r}")


def test_what_may_come_to_a_run_is_not_refused():
    """Templates, outputs, operators, lists of them and mapped values are known when the task runs."""
    with DAG("names", schedule=None):
        start = StablyRunTestsOperator(task_id="start")
        names = ["{{ params.run }}", start.output, start.output["run_id"], start, [start], {"run_id": "r1"}]

        waits = [StablyRunSensor(task_id=f"wait_{i}", run_id=name) for i, name in enumerate(names)]
        mapped = StablyRunSensor.partial(task_id="mapped").expand(run_id=[None, "r1"])

    assert len(waits) == len(names)
    assert mapped.unmap({"run_id": None}).run_id is None  # it fails when it runs, and for good


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, None),
        (True, True),
        (False, False),
        ("True", True),
        ("False", False),
        (" true\n", True),
        ("None", None),
        ("", None),
    ],
    ids=repr,
)
def test_a_rendered_boolean_is_read(value, read):
    """A template renders booleans as text; what is missing stays None."""
    assert true_or_false(value, "autofix") is read


@pytest.mark.parametrize(
    "value", ["yes", "0", 1, 0.0, ["True"], "x" * 1000], ids=lambda value: repr(value)[:9]
)
def test_what_is_no_boolean_is_refused(value):
    """When the DAG is parsed, and by the hook; the error names the argument and is short."""
    with pytest.raises(ValueError, match="autofix is") as refused:
        true_or_false(value, "autofix")
    with pytest.raises(ValueError, match="autofix is"):
        StablyRunTestsOperator(task_id="run", autofix=value)

    assert len(str(refused.value)) < 150
    assert StablyRunTestsOperator(task_id="run", autofix="{{ params.autofix }}").autofix


def test_a_junit_file_needs_its_library(monkeypatch):
    """Without the extra it is an error when the DAG is parsed, not after an hour's run; mapped tasks, too."""
    monkeypatch.setattr("airflow_provider_stably.arguments.find_spec", lambda _: None)

    for make in (
        lambda: StablyRunTestsOperator(task_id="run", junit_xml="/x.xml"),
        lambda: StablyRunTestsOperator.partial(task_id="run", junit_xml="/x.xml"),
        lambda: StablyRunSensor(task_id="wait", run_id="r1", junit_xml="/x.xml"),
        lambda: StablyRunSensor.partial(task_id="wait", junit_xml="/x.xml"),
    ):
        with pytest.raises(ValueError, match=r"install airflow-provider-stably\[junit\]"):
            make()
    assert StablyRunTestsOperator(task_id="run", junit_xml=None).junit_xml is None


@pytest.mark.parametrize("arguments", [{"junit_xml": "/x.xml"}, {"min_tests": 1}, {"queue_timeout": 9}])
def test_what_needs_the_end_needs_the_wait(arguments):
    """A task that does not wait for its run's end can hold it to nothing, and writes no results."""
    with pytest.raises(ValueError, match="need wait_for_completion=True"):
        StablyRunTestsOperator(task_id="run", wait_for_completion=False, **arguments)


@pytest.mark.parametrize("target", [7, b"/x.xml", "x.xml", "./x", "://x", Path("x.xml"), ["/x"]], ids=repr)
def test_a_junit_file_has_an_absolute_path(target):
    """A relative one would lie in the worker's folder or, on Airflow 2.11, in the root."""
    with pytest.raises(ValueError, match="junit_xml is an absolute path or an address"):
        StablyRunTestsOperator(task_id="run", junit_xml=target)


@pytest.mark.parametrize("target", ["/x.xml", "s3://bucket/x.xml", "{{ params.file }}", Path("/x/{{ ds }}")])
def test_a_junit_file_has_a_path_address_or_template(target):
    """A path becomes text."""
    assert StablyRunTestsOperator(task_id="run", junit_xml=target).junit_xml == str(target)

"""A DAG's wiring: what a test of one's own, or the task that starts a run, says of it."""

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskGroup, task

from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.testing import check_dag
from tests.operators.run_operator import run_operator
from tests.shown import shown


@pytest.fixture
def dag():
    """A DAG that starts a run and leaves it, has a task that does not, and a group with another."""
    with DAG("wired", schedule=None) as dag:
        StablyRunTestsOperator(task_id="start", wait_for_completion=False)

        @task
        def build():
            """Start nothing."""

        build()
        with TaskGroup("suites"):
            StablyRunTestsOperator(task_id="smoke")
    return dag


def _cancel(**arguments):
    return StablyCancelRunOperator(task_id="stop", **arguments)


def _cancel_mapped(**arguments):
    return StablyCancelRunOperator.partial(task_id="stop").expand(**arguments)


@pytest.mark.parametrize(
    "clean_up",
    [
        pytest.param(lambda _: _cancel(task_ids="start"), id="task id"),
        pytest.param(lambda _: _cancel(task_ids=["start", "suites"]), id="task and group"),
        pytest.param(
            lambda dag: _cancel(task_ids="start").as_teardown(setups=dag.get_task("start")), id="teardown"
        ),
        pytest.param(lambda dag: _cancel(run_ids=dag.get_task("start").output), id="output"),
        pytest.param(lambda dag: _cancel(run_ids=[dag.get_task("start")]), id="operator"),
        pytest.param(lambda dag: _cancel(task_ids=dag.get_task("start").output), id="output as task id"),
        pytest.param(lambda dag: _cancel(run_ids=[dag.get_task("start").output["run_id"]]), id="outputs"),
        pytest.param(lambda _: _cancel(run_ids="{{ ti.xcom_pull(task_ids='start') }}"), id="template"),
        pytest.param(lambda dag: _cancel_mapped(run_ids=[dag.get_task("start").output]), id="mapped list"),
        pytest.param(lambda dag: _cancel_mapped(run_ids=dag.get_task("start").output), id="mapped"),
        pytest.param(lambda _: _cancel_mapped(task_ids=[["start"]]), id="mapped task ids"),
        pytest.param(
            lambda dag: setattr(dag, "on_failure_callback", StablyCancelRunNotifier(task_ids="start")),
            id="DAG callback",
        ),
        pytest.param(
            lambda dag: setattr(
                dag.get_task("build"),
                "on_failure_callback",
                [print, StablyCancelRunNotifier(task_ids="start")],
            ),
            id="task callback",
        ),
    ],
)
def test_a_run_that_is_left_and_named_is_fine(dag, clean_up):
    """Whatever names the starting task is taken for its clean-up."""
    with dag:
        clean_up(dag)

    check_dag(dag)


def test_a_run_that_is_left_and_not_named_is_a_leak(dag):
    """Nobody would cancel it: the slip that DAG authors really make."""
    with pytest.raises(AssertionError, match=r"^DAG 'wired':\n- task 'start' leaves its run"):
        check_dag(dag)


def test_a_leak_says_how_to_name_what_is_not_seen(dag):
    """An id that passes through another task is a false alarm, and the message says what to do about it."""

    @task
    def pick(summary):
        return summary["run_id"]

    with dag:
        _cancel(run_ids=pick(dag.get_task("start").output))

    with pytest.raises(AssertionError, match=r"through another task or DAG, set cancelled_elsewhere=True$"):
        check_dag(dag)


def test_a_run_that_is_cancelled_elsewhere_is_no_leak():
    """By another DAG, or by an id that passes through another task; of a mapped task, too."""
    left = {"wait_for_completion": False, "cancelled_elsewhere": True}
    with DAG("wired", schedule=None) as dag:
        StablyRunTestsOperator(task_id="start", **left)
        StablyRunTestsOperator.partial(task_id="many", **left).expand(environment=["a"])

    check_dag(dag)


def test_a_mapped_start_is_checked_too():
    """What partial() says of waiting counts for each index."""
    with DAG("wired", schedule=None) as dag:
        StablyRunTestsOperator.partial(task_id="many", wait_for_completion=False).expand(environment=["a"])

    with pytest.raises(AssertionError, match="'many' leaves its run"):
        check_dag(dag)


@pytest.mark.parametrize(
    ("clean_up", "problem"),
    [
        pytest.param(
            lambda _: _cancel(task_ids=["start", "strat"]),
            "task 'stop': task_ids: this DAG has no task 'strat'; did you mean 'start'",
            id="typo in a task",
        ),
        pytest.param(
            lambda _: _cancel(task_ids=["start", "build"]),
            "task 'stop': task_ids: 'build' starts no Stably run",
            id="task that starts nothing",
        ),
        pytest.param(
            lambda dag: setattr(dag, "on_failure_callback", StablyCancelRunNotifier(task_ids="strat")),
            "on_failure_callback of the DAG: task_ids: this DAG has no task 'strat'",
            id="typo in a DAG's callback",
        ),
        pytest.param(
            lambda dag: setattr(dag, "on_failure_callback", StablyCancelRunNotifier()),
            "on_failure_callback of the DAG: it names neither task_ids nor run_ids",
            id="DAG callback without a name",
        ),
        pytest.param(
            lambda dag: setattr(
                dag.get_task("build"), "on_retry_callback", StablyCancelRunNotifier(task_ids="strat")
            ),
            "on_retry_callback of task 'build': task_ids: this DAG has no task 'strat'",
            id="typo in a task's callback",
        ),
        pytest.param(
            lambda _: _cancel_mapped(task_ids=["{{ x }}"]),
            "task 'stop': task_ids is not templated",
            id="mapped template",
        ),
    ],
)
def test_a_name_that_means_nothing_is_a_problem(dag, clean_up, problem):
    """The message says who names what, and the nearest task."""
    with dag:
        clean_up(dag)

    with pytest.raises(AssertionError, match=problem):
        check_dag(dag)


def test_wrong_wiring_is_logged_before_the_start(emulator, context, caplog, capsys):
    """The task that starts a run warns of a clean-up that would not find it."""
    with context["dag"]:
        _cancel(task_ids="strat")

    run_operator(playwright_project_name="passes", wait_for_completion=False).execute(context)

    assert "task 'stop': task_ids: this DAG has no task 'strat'" in caplog.text + shown(capsys.readouterr())


@pytest.mark.parametrize("warns", [True, False], ids=["of its own", "of another's"])
def test_a_task_warns_of_the_run_that_it_leaves(emulator, context, caplog, capsys, warns):
    """In a DAG of many tasks that start runs, each log warns of its own run only."""
    with context["dag"]:
        leaves = run_operator(task_id="leaves", playwright_project_name="passes", wait_for_completion=False)
        waits = run_operator(task_id="waits", playwright_project_name="passes")
    emulator.run_seconds = 0
    starter = leaves if warns else waits

    starter.execute({**context, "task": starter})

    printed = caplog.text + shown(capsys.readouterr())
    assert ("A run may be left live: task 'leaves' leaves its run" in printed) is warns

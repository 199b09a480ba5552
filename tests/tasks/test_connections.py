"""Which connection a run is cancelled with, whatever its XCom says."""

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, task

from airflow_provider_stably.operators.stably import StablyRunTestsOperator
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.tasks.connections import with_named_connection

PARTIAL = StablyRunTestsOperator.partial


def _echo(value):
    return value


@pytest.fixture
def dag():
    """A DAG whose tasks name connections in each way there is."""
    with DAG("dag", schedule=None) as dag:
        BaseOperator(task_id="other")
        StablyRunTestsOperator(task_id="default")
        StablyRunTestsOperator(task_id="named", stably_conn_id="a")
        PARTIAL(task_id="mapped").expand(environment=["x", "y"])
        PARTIAL(task_id="mapped_named", stably_conn_id="a").expand(environment=["x", "y"])
        PARTIAL(task_id="mapped_over", stably_conn_id="a").expand_kwargs([{"environment": "x"}])
        PARTIAL(task_id="expanded").expand(stably_conn_id=["a", "b"])
        PARTIAL(task_id="expanded_kwargs").expand_kwargs([{"stably_conn_id": "a"}, {"stably_conn_id": "b"}])
        PARTIAL(task_id="by_xcom").expand(stably_conn_id=dag.get_task("default").output)
        task(task_id="mapped_other")(_echo).expand(value=[1, 2])
        PARTIAL(task_id="kwargs_by_xcom").expand_kwargs(dag.get_task("default").output)
    return dag


@pytest.mark.parametrize(
    ("task_id", "in_xcom", "used"),
    [
        ("default", "stably_default", "stably_default"),
        ("default", "victim", "stably_default"),
        ("default", None, "stably_default"),
        ("named", "a", "a"),
        ("named", "stably_default", "a"),
        ("mapped", "stably_default", "stably_default"),
        ("mapped", "victim", "stably_default"),
        ("mapped_named", "a", "a"),
        ("mapped_named", "victim", "a"),
        ("mapped_over", "victim", "a"),
        ("expanded", "b", "b"),
        ("expanded", "victim", "stably_default"),
        ("expanded_kwargs", "b", "b"),
        ("by_xcom", "victim", "stably_default"),
        ("kwargs_by_xcom", "victim", "stably_default"),
        ("other", "victim", None),
        ("other", None, None),
        ("mapped_other", "victim", None),
    ],
)
def test_a_run_is_cancelled_with_its_tasks_connection(dag, task_id, in_xcom, used, caplog):
    """Whoever may write an XCom cannot borrow another team's connection."""
    run = with_named_connection(RunReference("r", "p", in_xcom), dag.get_task(task_id))

    assert run == RunReference("r", "p", used)
    assert (in_xcom is not None and in_xcom != used) == ("does not name" in caplog.text)

from unittest.mock import create_autospec

import pytest


@pytest.fixture
def context():
    """A task's context whose task instance keeps XComs in ``context["xcom"]``."""
    from airflow.providers.common.compat.sdk import DAG, BaseOperator

    try:
        from airflow.sdk.types import RuntimeTaskInstanceProtocol as TaskInstance
    except ImportError:  # Airflow 2.11
        from airflow.models import TaskInstance

    with DAG("dag") as dag:
        for task_id in ("start", "start_many"):
            BaseOperator(task_id=task_id)
    xcom = {}
    ti = create_autospec(TaskInstance, instance=True)
    ti.xcom_push.side_effect = lambda key, value: xcom.update({key: value})
    ti.xcom_pull.side_effect = lambda task_ids, key: xcom.get((task_ids, key))
    return {"ti": ti, "dag": dag, "xcom": xcom}

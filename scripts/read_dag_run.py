"""Print the newest run of a DAG as the metadata database has it: its state, and what one task returned.

python scripts/read_dag_run.py DAG_ID TASK_ID, in the environment of the Airflow in question.
"""

from __future__ import annotations

import json
import sys

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session

try:
    from airflow.models.xcom import XComModel
except ImportError:  # Airflow 2
    from airflow.models.xcom import XCom as XComModel


def main(dag_id: str, task_id: str) -> None:
    """Print a line of JSON."""
    with create_session() as session:
        dag_run = session.query(DagRun).filter_by(dag_id=dag_id).order_by(DagRun.id.desc()).first()
        found = dag_run and (
            session.query(XComModel)
            .filter_by(dag_id=dag_id, run_id=dag_run.run_id, task_id=task_id, key="return_value")
            .one_or_none()
        )
        returned = found and XComModel.deserialize_value(found)
        print(json.dumps({"state": dag_run and dag_run.state, "returned": returned}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A custom XCom backend, and a DAG run with it: prints what the database then has of the run's addresses."""

import json
import sys

from airflow.sdk.bases.xcom import BaseXCom

ELSEWHERE = "file:///elsewhere#"


class References(BaseXCom):
    """Keeps a reference in the database, as the object-storage backend does."""

    @staticmethod
    def serialize_value(value, **_):
        return ELSEWHERE + json.dumps(value)

    @staticmethod
    def deserialize_value(result):
        kept = BaseXCom.deserialize_value(result)
        is_reference = isinstance(kept, str) and kept.startswith(ELSEWHERE)
        return json.loads(kept.removeprefix(ELSEWHERE)) if is_reference else kept


def main():
    """Run a DAG whose task starts a run, and print the rows of both addresses."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    from tests import cheap_dag_test
    from tests.dag_files import load_dag_file

    cheap_dag_test.install()
    dag = load_dag_file("tests/dags", "run").run_here
    dag.get_task("run").operator_extra_links = ()  # at the end of a task Airflow writes the link itself
    dag_run = dag.test(run_conf={"script": "passes"})
    with create_session() as session:
        rows = session.query(XComModel).filter_by(run_id=dag_run.run_id, task_id="run").all()
        kept = {row.key: row.value for row in rows if row.key in {"run_url", "_link_StablyRunLink"}}
    sys.stdout.write(f"ROWS {json.dumps(kept)}\n")


if __name__ == "__main__":
    main()

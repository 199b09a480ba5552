"""Reading XComs where Airflow 3 has no supervisor that answers: in callbacks, in two places."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def with_readable_xcoms(context: Context) -> Context:
    """Return the context itself, or within ``dag.test()`` one whose task instance reads the database.

    There Airflow 3 makes a DAG's callback without a supervisor.

    :param context: The context of a DAG's callback.
    """
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:  # Airflow 2.11; delete with it
        return context
    if hasattr(task_runner, "SUPERVISOR_COMMS") or "ti" not in context:
        return context
    ti = _ReadingDatabase(context["ti"])
    return cast("Context", {**context, "ti": ti, "task_instance": ti})


def can_pull_xcoms() -> bool:
    """Whether this process gets an answer if it asks for an XCom. Delete with Airflow 3.0.

    The dag processor of 3.0 does not understand the question: it lets the callback wait until the time for
    its file is over, and then takes all DAGs of that file for broken.
    """
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:
        return True  # Airflow 2.11 reads the database
    decoder = getattr(getattr(task_runner, "SUPERVISOR_COMMS", None), "body_decoder", None)
    if decoder is None:
        return True  # dag.test()
    try:
        decoder.validate_python({"type": "XComResult", "key": "any", "value": None})
    except ValueError:
        return False
    return True


class _ReadingDatabase:
    """A task instance, but for its XComs.

    Not Airflow's own from the database: on 3.1 that fails to read the XComs of a mapped task.
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        """Return what a task has pushed: of a mapped one, a list."""
        from airflow.utils.session import create_session

        model = import_module("airflow.models.xcom").XComModel  # 2.11, which has none, never gets here
        with create_session() as session:
            rows = (
                session.query(model)
                .filter_by(dag_id=self.dag_id, run_id=self.run_id, task_id=task_ids, key=key)
                .order_by(model.map_index)
                .all()
            )
        values = {row.map_index: XCom.deserialize_value(row) for row in rows}
        return values.get(-1) if values.keys() <= {-1} else list(values.values())

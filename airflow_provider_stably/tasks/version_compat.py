"""Every difference between Airflow versions; all else is the same for all of them.

Each asks whether a name is there, not for a version number. Imports of Airflow stand in the functions: DAG
files that import an operator are parsed all the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # one of the packages around it
        return False


AIRFLOW_ENFORCES_EXECUTION_TIMEOUT = not _has("airflow.sdk")
"""Whether Airflow ends a deferred task at its ``execution_timeout``. Only 2.11 does.

Remove when the oldest supported Airflow is 3.0.
"""

HAS_TASK_STATE_STORE = _has("airflow.sdk.bases.resumablejobmixin")
"""Whether Airflow keeps a task's state across retries (3.3 and later); the module came with the store.

Remove when the oldest supported Airflow is 3.3.
"""

HAS_TRIGGER_ON_KILL = HAS_TASK_STATE_STORE
"""Whether Airflow calls a trigger's ``on_kill`` when a user acts on its task; it came in the same release.

Remove when the oldest supported Airflow is 3.3.
"""


def task_started_at(context: Any) -> float:
    """Return when the task began, in seconds since the epoch; now, in ``dag.test()`` of Airflow 2.11."""
    start_date = context["ti"].start_date
    return time.time() if start_date is None else float(start_date.timestamp())


def is_mapped_instance(operator: object) -> bool:
    """Whether Airflow has made an operator to run one index of a mapped task, and not to parse a DAG."""
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))


def is_asset(outlet: object) -> bool:
    """Whether a task's outlet is an asset, or (on Airflow 3) a reference to one: each has an event."""
    from airflow.providers.common.compat.sdk import Asset

    try:
        from airflow.sdk.definitions.asset import AssetRef
    except ImportError:  # Remove when the oldest supported Airflow is 3.0
        return isinstance(outlet, Asset)
    return isinstance(outlet, Asset | AssetRef)


def state_of_task(ti: Any) -> str | None:
    """Return the state of a trigger's task instance; None if it is not known."""
    if not _has("airflow.sdk"):  # Remove when the oldest supported Airflow is 3.0
        from airflow.models import TaskInstance
        from airflow.utils.session import create_session

        names = {name: getattr(ti, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
        with create_session() as session:
            state: str | None = session.query(TaskInstance.state).filter_by(**names).scalar()
        return state
    states = states_by_name(ti.dag_id, ti.run_id, task_ids=[ti.task_id], map_index=ti.map_index)
    return states.get(ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}")


def states_by_name(dag_id: str, dag_run_id: str, **which: Any) -> dict[str, str]:
    """Return the states of some task instances of a DAG run (Airflow 3).

    :param which: As ``RuntimeTaskInstance.get_task_states`` takes it.
    :returns: ``<task id>``, or ``<task id>_<map index>``, to state.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states: dict[str, dict[str, str]]
    states = RuntimeTaskInstance.get_task_states(dag_id=dag_id, run_ids=[dag_run_id], **which)
    return states.get(dag_run_id, {})


def has_been_rescheduled(context: Context) -> bool:
    """Whether a sensor in reschedule mode has poked before in this try."""
    if _has("airflow.sdk"):
        return bool(context.get("task_reschedule_count"))
    # Remove when the oldest supported Airflow is 3.0
    model = import_module("airflow.models.taskreschedule").TaskReschedule
    from airflow.utils.session import create_session

    with create_session() as session:
        return session.scalar(model.stmt_for_task_instance(context["ti"]).limit(1)) is not None


def with_readable_xcoms(context: Context) -> Context:
    """Return the context itself, or within ``dag.test()`` one whose task instance reads the database.

    There Airflow 3 calls a DAG's callback without a supervisor, so ``xcom_pull`` fails.
    """
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:  # Remove when the oldest supported Airflow is 3.0
        return context
    if hasattr(task_runner, "SUPERVISOR_COMMS") or "ti" not in context:
        return context
    ti = _ReadingDatabase(context["ti"])
    return cast("Context", {**context, "ti": ti, "task_instance": ti})


def can_pull_xcoms() -> bool:
    """Whether this process gets an answer when it asks for an XCom; the dag processor of 3.0 gets none."""
    return _understands({"type": "XComResult", "key": "any", "value": None})


def can_read_task_state_store() -> bool:
    """Whether this process gets an answer from the task state store: a task does, the dag processor not."""
    return HAS_TASK_STATE_STORE and _understands({"type": "TaskStateStoreResult", "value": None})


def _understands(answer: dict[str, Any]) -> bool:
    """Whether this process knows an answer of its supervisor.

    If not, the supervisor never gives it: a callback would wait until the time for its file is over, and then
    Airflow takes all DAGs of that file for broken.
    """
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:  # Remove when the oldest supported Airflow is 3.0
        return True  # Airflow 2.11 reads the database
    decoder = getattr(getattr(task_runner, "SUPERVISOR_COMMS", None), "body_decoder", None)
    if decoder is None:
        return True  # dag.test()
    try:
        decoder.validate_python(answer)
    except ValueError:
        return False
    return True


def read_xcom(ti_key: Any, key: str) -> Any:
    """Return an XCom of a task instance; None if there is none.

    Airflow 3 logs an error where a single XCom is missing, but not where a list of them is empty.
    """
    from airflow.providers.common.compat.sdk import XCom

    if ti_key.map_index >= 0 or not hasattr(XCom, "get_all"):
        return XCom.get_value(key=key, ti_key=ti_key)
    names = {name: getattr(ti_key, name) for name in ("dag_id", "task_id", "run_id")}
    return next(iter(XCom.get_all(key=key, **names) or []), None)


def push_past_backend(ti: Any, key: str, value: str) -> None:
    """Push an XCom past a custom backend, which keeps a reference where Airflow 3 itself reads the value."""
    from airflow.providers.common.compat.sdk import XCom

    # Airflow 2.11 reads it through the backend. Remove when the oldest supported Airflow is 3.0
    plain = import_module("airflow.sdk.bases.xcom").BaseXCom if _has("airflow.sdk") else XCom
    if plain is XCom:
        ti.xcom_push(key=key, value=value)
        return
    task = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
    plain.set(key=key, value=value, **task)


class _ReadingDatabase:
    """A task instance whose XComs come from the database.

    Not Airflow's own from the database: on 3.1 that fails to read the XComs of a mapped task.
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)

    def xcom_pull(
        self,
        task_ids: str | Iterable[str] | None = None,
        dag_id: str | None = None,
        key: str = "return_value",
        include_prior_dates: bool = False,  # noqa: ARG002 - other DAG runs' runs are not ours to cancel
        *,
        map_indexes: Any = None,
        default: Any = None,
        run_id: str | None = None,
    ) -> Any:
        """Return what a task has pushed: of a mapped one, or of a list of tasks, a list.

        The parameters are those of ``RuntimeTaskInstance.xcom_pull``.
        """
        from airflow.providers.common.compat.sdk import XCom
        from airflow.utils.session import create_session

        is_single = task_ids is None or isinstance(task_ids, str)
        model = import_module("airflow.models.xcom").XComModel  # 2.11, which has none, never gets here
        with create_session() as session:
            query = (
                session.query(model)
                .filter_by(dag_id=dag_id or self.dag_id, run_id=run_id or self.run_id, key=key)
                .filter(model.task_id.in_([task_ids or self.task_id] if is_single else task_ids))
            )
            if isinstance(map_indexes, int | Iterable):  # neither None nor Airflow's mark for "not given"
                indexes = [map_indexes] if isinstance(map_indexes, int) else map_indexes
                query = query.filter(model.map_index.in_(indexes))
            rows = query.order_by(model.map_index).all()
        values = [XCom.deserialize_value(row) for row in rows]
        if is_single and (isinstance(map_indexes, int) or all(row.map_index < 0 for row in rows)):
            return values[0] if values else default
        return values

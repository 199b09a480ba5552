"""Check a DAG's wiring in a test: a slip in a clean-up shows only when the clean-up is needed."""

from __future__ import annotations

from typing import Any


def check_dag(dag: Any) -> None:
    """Check that a DAG leaves no Stably run behind for lack of a name.

    What a Stably cancel task or notifier names in ``task_ids`` has to exist and start runs. Every task that
    starts a run with ``wait_for_completion=False`` has to be named by a cancel task, a teardown or a
    notifier: in ``task_ids``, by its output, or in a template.

    Not seen are ids that pass through another task (a ``@task`` that returns one) or to another DAG (the
    ``conf`` of a ``TriggerDagRunOperator``). Give the starting task ``cancelled_elsewhere=True`` then, which
    also ends its warning when it runs.

    :param dag: The DAG as its file makes it.
    :raises AssertionError: listing what is wrong.
    """
    from airflow_provider_stably.tasks.wiring import (
        wiring_problems,  # loads Airflow, which the emulator does not
    )

    problems = wiring_problems(dag)
    if problems:
        raise AssertionError("\n".join([f"DAG {dag.dag_id!r}:", *(f"- {problem}" for problem in problems)]))

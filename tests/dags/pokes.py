"""Sensors in reschedule mode whose connection is not defined at one poke."""

from __future__ import annotations

import os
from collections import Counter
from unittest.mock import patch

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_stably.sensors.stably import StablyRunSensor


class ForgetfulSensor(StablyRunSensor):
    """Keeps nothing between two pokes, as they are processes of their own.

    :param lost_at: The poke at which the connection is not defined; the first one is 1.
    """

    def __init__(self, *, lost_at: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.lost_at = lost_at

    def execute(self, context):
        """Poke once, with the connection or without it."""
        self.__dict__.pop("_execution", None)
        POKES[self.dag_id] += 1
        with patch.dict(os.environ):
            if POKES[self.dag_id] == self.lost_at:
                del os.environ["AIRFLOW_CONN_STABLY_DEFAULT"]
            return super().execute(context)


POKES: Counter[str] = Counter()
"""How often the sensor of each DAG has poked: Airflow copies the sensor for each poke."""


def rescheduled(dag_id: str, **arguments):
    """Make a DAG with one sensor, ``wait``."""
    with DAG(dag_id, schedule=None, params={"run_id": Param("", type="string")}) as dag:
        ForgetfulSensor(
            task_id="wait", run_id="{{ params.run_id }}", mode="reschedule", poke_interval=0, **arguments
        )
    return dag


lost_at_first = rescheduled("lost_at_first", lost_at=1)
lost_later = rescheduled("lost_later", lost_at=3)

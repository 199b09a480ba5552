"""What is measured side by side: each way to poll a run, given a server and the seconds between two polls."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import aiohttp
from loopback import Server

HOUR = 3600.0

Poll = Callable[[int], Awaitable[None]]
"""Polls the run of that number for good."""


@asynccontextmanager
async def stably(server: Server, pause: float) -> AsyncIterator[Poll]:
    """Poll runs that are an hour old with our trigger; the pause is the mean one."""
    from airflow_provider_stably.runs import watch  # noqa: PLC0415 - once env is set
    from airflow_provider_stably.triggers.stably import StablyRunTrigger  # noqa: PLC0415 - likewise

    conn_id = connect(server, "stably", host=server.url)
    yield lambda number: run_trigger(
        StablyRunTrigger(
            run_id=f"run-{number}",
            project_id="project-1",
            stably_conn_id=conn_id,
            started_at=time.time() - HOUR,
            deadline=time.time() + HOUR,
            poll_interval=pause * (1 + watch.JITTER),
            cancel_on_kill=False,  # before Airflow 3.3 it would ask Airflow about the task when it is ended
        )
    )


@asynccontextmanager
async def bare_loop(server: Server, pause: float) -> AsyncIterator[Poll]:
    """Do the least that can be done, at our trigger's pace."""
    from airflow_provider_stably.runs import watch  # noqa: PLC0415 - once env is set

    async with aiohttp.ClientSession() as session:

        async def poll(number: int) -> None:
            url = f"{server.url}/v1/projects/project-1/runs/run-{number}"
            while True:
                async with session.get(url) as response:
                    if (await response.json())["status"] != "RUNNING":
                        raise RuntimeError("unexpected status")
                await asyncio.sleep(watch.next_delay(HOUR, pause * (1 + watch.JITTER)))

        yield poll


@asynccontextmanager
async def databricks(server: Server, pause: float) -> AsyncIterator[Poll]:
    """Poll with the trigger of Databricks' run operators."""
    from airflow.providers.databricks.triggers.databricks import (  # noqa: PLC0415 - where installed
        DatabricksExecutionTrigger,
    )

    conn_id = connect(server, "databricks", host=server.url, port=server.port)
    yield lambda number: run_trigger(
        DatabricksExecutionTrigger(number, conn_id, polling_period_seconds=pause)
    )


@asynccontextmanager
async def dbt_cloud(server: Server, pause: float) -> AsyncIterator[Poll]:
    """Poll with the trigger of dbt Cloud's run operator."""
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger  # noqa: PLC0415 - where installed

    conn_id = connect(server, "dbt_cloud", host=f"127.0.0.1:{server.port}", login="1")
    yield lambda number: run_trigger(
        DbtCloudRunJobTrigger(conn_id, number, time.time() + HOUR, poll_interval=pause, account_id=1)
    )


def connect(server: Server, conn_type: str, **fields: Any) -> str:
    """Make an Airflow connection to a server, and return its id."""
    conn_id = f"{conn_type}_{server.port}"
    connection = {"conn_type": conn_type, "password": "made-up-key", **fields}
    os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(connection)
    return conn_id


async def run_trigger(trigger: Any) -> None:
    """Run a trigger as the triggerer does."""
    async for event in trigger.run():
        raise RuntimeError(f"unexpected {event}")


@dataclass(frozen=True)
class Side:
    """One way to poll.

    :param polling: Gives what polls.
    :param module: What has to be installed for it.
    :param most_connections: How many it ever has open at once; None: one for each run.
    """

    polling: Callable[[Server, float], AbstractAsyncContextManager[Poll]]
    module: str
    most_connections: int | None = None

    def connections(self, pollers: int) -> int:
        """Return how many so many pollers open if none is answered."""
        return min(pollers, self.most_connections or pollers)

    def is_installed(self) -> bool:
        """Whether it can be measured here."""
        try:
            return find_spec(self.module) is not None
        except ModuleNotFoundError:
            return False


AIOHTTPS_LIMIT = 100
"""Of a session's connections."""

SIDES = {
    "Stably": Side(stably, "airflow_provider_stably.triggers", AIOHTTPS_LIMIT),
    "bare loop": Side(bare_loop, "airflow_provider_stably", AIOHTTPS_LIMIT),
    "Databricks": Side(databricks, "airflow.providers.databricks.triggers"),
    "dbt Cloud": Side(dbt_cloud, "airflow.providers.dbt.cloud.triggers"),
}

"""The clients of a task that answers for a run: one for each situation, made from its connection."""

from __future__ import annotations

import logging
import time
from typing import Self

from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.exceptions import StablyConfigError
from airflow_provider_stably.execution.ownership import Ownership
from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.runs.driver import BlockingDriver
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.tasks.best_effort import best_effort

log = logging.getLogger(__name__)

LOOK_UP_SECONDS = 30.0
"""Between two reads of a connection that a worker needs for a live run."""


class Clients:
    """Clients on one connection; none before :meth:`connect`.

    :param ownership: Says whether the task was killed, which shortens waits.
    """

    usual: StablyClient
    on_kill: StablyClient | None = None
    at_last: StablyClient

    def __init__(self, stably_conn_id: str, ownership: Ownership) -> None:
        self._stably_conn_id = stably_conn_id
        self._ownership = ownership

    def connect(self) -> StablyHook:
        """Look the connection up and make the clients that all calls use from now on.

        :raises StablyConfigError: if the connection cannot be used.
        """
        hook = StablyHook(self._stably_conn_id)
        # Of its own: inside on_kill the interrupted thread may hold a lock of the other one.
        self.on_kill = hook.make_client(connect_timeout=1, read_timeout=2, by_address=True)
        # Nor may it be this one: a kill may come while the run is cancelled for another reason. If not, there
        # is time: an API that takes seconds may drop the request of a client that does not wait. But no name
        # look-up that may stall: a kill during the start leaves the cancel to this one.
        self.at_last = hook.make_client(sleep=self._ownership.sleep_less_if_killed, by_address=True)
        self.usual = hook.make_client(sleep=self._ownership.sleep_unless_killed)
        return hook

    def connect_for(self, run: RunReference, *, until: float) -> StablyHook:
        """Do the same for a run that is live, again until it works: nobody else may watch or cancel it.

        :param until: When to give up, in seconds since the epoch.
        :raises StablyConfigError: if the connection could not be used until then.
        """
        while True:
            try:
                return self.connect()
            except StablyConfigError as error:
                left = until - time.time()
                if left <= 0:
                    raise
                log.warning("%s; looking it up again for run %s", error, run.run_id)
            self._ownership.sleep_unless_killed(min(LOOK_UP_SECONDS, left))

    def reconnect(self) -> Self:
        """Look the connection up anew, if that works, and return the clients to go on with."""
        with best_effort("The connection cannot be read now, so the old one is kept"):
            self.connect()
        return self

    def driver(self) -> BlockingDriver:
        """Return what drives a rule until the task is killed, over a connection that may change meanwhile."""
        sleep = self._ownership.sleep_unless_killed
        return BlockingDriver(self.usual, sleep=sleep, reconnect=lambda: self.reconnect().usual)

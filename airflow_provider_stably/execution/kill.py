"""Cancel a run from ``on_kill``, within the five seconds that Airflow 3 leaves."""

from __future__ import annotations

import time
from typing import Any

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.client import StablyClient
from airflow_provider_stably.exceptions import StablyError, StablyHTTPError
from airflow_provider_stably.execution.ownership import KILL_PAUSE_SECONDS
from airflow_provider_stably.runs.reference import RunReference

KILL_REPEAT_SECONDS = 1.5
"""How long a request that fails is repeated. It takes 1 s to see that the address it knows is dead."""


def cancel_at_once(run: RunReference, client: StablyClient, log: Any) -> bool:
    """Cancel a run in a signal handler, taking no lock; return whether that worked.

    :param client: One that nothing else uses.
    """
    log.info("Run %s: the task was killed, so it is cancelled now", run.run_id)
    call = calls.cancel_run(run.project_id, run.run_id)
    began = time.monotonic()
    while True:
        try:
            if run.run_id in client.send_once(call):
                log.info("Run %s: cancelled", run.run_id)
                return True
            failure, is_usual = "the API does not list it as cancelled", False
        except StablyError as error:
            # The API's own 400 is its usual answer for a run that is over. Whatever else it is may pass.
            is_usual = isinstance(error, StablyHTTPError) and error.status == 400 and error.is_from_api
            failure = str(error)
        if is_usual or time.monotonic() - began > KILL_REPEAT_SECONDS:
            # Not a warning: the task, when it goes on, settles it.
            log.info("Run %s: not cancelled yet: %s", run.run_id, failure)
            return False
        # The API needs a moment. An Event's lock could be held by what this signal handler interrupted.
        time.sleep(KILL_PAUSE_SECONDS)

"""How long do 100 cancellations take at 100 ms per call? ``python benchmarks/cancel_many.py``.

The operator, 8 runs at a time, against the emulator; and beside it, in the same process, the barest loop that
could do it: a pool of 8 threads that post through one ``requests.Session``.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests

from airflow_provider_stably.testing import Fault, StablyEmulator

RUNS = 100
SECONDS_PER_CALL = 0.1
CONCURRENCY = 8
PROJECT_ID = "project-1"


def main() -> None:
    """Print seconds, and how often they hold what the calls alone would take."""
    with tempfile.TemporaryDirectory() as home, StablyEmulator() as emulator:
        # Airflow reads these when it is first imported. It warns when execute is called by hand.
        os.environ.update(
            AIRFLOW_HOME=home,
            AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
            AIRFLOW_CONN_STABLY_DEFAULT=emulator.connection(login=PROJECT_ID),
        )
        emulator.inject(Fault(delay=SECONDS_PER_CALL), call="cancel", times=math.inf)
        ideal = RUNS * SECONDS_PER_CALL / CONCURRENCY
        print(f"{RUNS} runs, {SECONDS_PER_CALL:g} s per call, {CONCURRENCY} at a time: {ideal:.2f} s at best")
        for name, cancel in {"operator": by_operator(), "bare loop": by_loop(emulator)}.items():
            seconds = timed(cancel, emulator)
            print(f"{name:10} {seconds:5.2f} s, ratio {seconds / ideal:.2f}")


def timed(cancel: Callable[[list[str]], None], emulator: StablyEmulator) -> float:
    """Return the seconds to cancel fresh runs; the first call, which imports, is not among them."""
    cancel([emulator.add_run(project_id=PROJECT_ID)])
    run_ids = [emulator.add_run(project_id=PROJECT_ID) for _ in range(RUNS)]
    began = time.perf_counter()
    cancel(run_ids)
    seconds = time.perf_counter() - began
    if emulator.live_runs():
        raise RuntimeError(f"{len(emulator.live_runs())} runs are still live")
    return seconds


def by_operator() -> Callable[[list[str]], None]:
    """Return the operator as a function of run ids."""
    from airflow.providers.common.compat.sdk import DAG  # noqa: PLC0415 - see main

    from airflow_provider_stably.operators.stably import StablyCancelRunOperator  # noqa: PLC0415 - see main

    def cancel(run_ids: list[str]) -> None:
        with DAG("benchmark", schedule=None) as dag:
            operator = StablyCancelRunOperator(task_id="cancel", run_ids=run_ids, do_xcom_push=False)
        operator.execute({"dag": dag})

    return cancel


def by_loop(emulator: StablyEmulator) -> Callable[[list[str]], None]:
    """Return the bare loop as a function of run ids."""
    url = f"{emulator.url}/v1/projects/{PROJECT_ID}/runs/cancel"
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {emulator.api_key}"

    def post(run_id: str) -> None:
        session.post(url, json={"where": {"runId": run_id}}, timeout=30).raise_for_status()

    def cancel(run_ids: list[str]) -> None:
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            list(pool.map(post, run_ids))

    return cancel


if __name__ == "__main__":
    main()

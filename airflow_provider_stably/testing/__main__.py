"""Serve the emulator until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import logging
import signal
import sys

from airflow_provider_stably.testing.emulated_run import SCRIPTS
from airflow_provider_stably.testing.emulator import DEFAULT_RUN_SECONDS
from airflow_provider_stably.testing.server import StablyEmulator


def main() -> int:
    """Serve until a signal stops it.

    :returns: Exit code: 0 after a signal, 1 if it cannot serve on the port.
    """
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_stably.testing",
        description="Emulate Stably's API on 127.0.0.1. The Playwright project name decides how a run goes: "
        + ", ".join(SCRIPTS)
        + "; any other name passes.",
    )
    parser.add_argument("--port", type=int, default=8484, help="default %(default)s; 0 takes a free one")
    parser.add_argument(
        "--api-key",
        default="emulator-key",
        help="the key it accepts, default %(default)s",
    )
    parser.add_argument(
        "--run-seconds",
        type=float,
        default=DEFAULT_RUN_SECONDS,
        help="how long a run takes, default %(default)g",
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)

    # Waited for, not handled: a handler that interrupts the wait it is to end can lock it for good.
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    emulator = StablyEmulator(port=options.port, api_key=options.api_key, run_seconds=options.run_seconds)
    try:
        with emulator:
            print(
                f"Stably emulator at {emulator.url}, where a browser sees its runs; Ctrl-C stops it.",
                "An Airflow connection to it:",
                f"  export AIRFLOW_CONN_STABLY_DEFAULT='{emulator.connection(login='project-1')}'",
                sep="\n",
                flush=True,
            )
            signal.sigwait(stops)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        print(f"Cannot serve on port {options.port}: {reason}; --port 0 takes a free one", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

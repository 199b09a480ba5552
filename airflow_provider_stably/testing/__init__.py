"""A local emulator of Stably's API, for the tests of this package and of your DAGs.

Run it alone with ``python -m airflow_provider_stably.testing``.
"""

from airflow_provider_stably.testing.check_dag import check_dag
from airflow_provider_stably.testing.emulated_run import SCRIPTS
from airflow_provider_stably.testing.emulator import Emulator
from airflow_provider_stably.testing.server import Fault, StablyEmulator

__all__ = ["SCRIPTS", "Emulator", "Fault", "StablyEmulator", "check_dag"]

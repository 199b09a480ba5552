"""Switch one mechanism of the package off, in a test Airflow only: Python imports this module at its start.

A cell of the matrix that stays green without the mechanism that it is to prove proves nothing.
"""

from __future__ import annotations

import os
import sys
from functools import reduce
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

MECHANISMS = {
    "on_kill": ("operators.stably", "StablyRunTestsOperator.on_kill"),
    "trigger_on_kill": ("triggers.stably", "StablyRunTrigger._cancel_if_abandoned"),
    "deadline": ("deadline", "deferred_deadline"),
    "callback": ("own_run", "cancel_own_run"),
    "ledger": ("start_record", "StartLedger.read"),
    "resume": ("execution.run_tests", "RunTests.cancel_pushed_run"),
}
"""Name to the module it is in and what is replaced there."""


def _nothing(*args, **kwargs):
    """Stand in for a method that returns nothing."""


async def _nothing_async(*args, **kwargs):
    """Stand in for a coroutine that returns nothing."""


def _never(*args, from_time, **kwargs):
    """Stand in for a deadline."""
    return from_time + 1e6


_STAND_INS = {"trigger_on_kill": _nothing_async, "deadline": _never}


class _Mutating(MetaPathFinder):
    """Find one module as usual, and have something in it replaced once it is loaded."""

    def __init__(self, mechanism):
        module, self._path = MECHANISMS[mechanism]
        self._module = f"airflow_provider_stably.{module}"
        self._stand_in = _STAND_INS.get(mechanism, _nothing)

    def find_spec(self, name, path=None, target=None):
        """Find the module, nothing else."""
        if name != self._module:
            return None
        spec = PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def load_and_replace(module):
            load(module)
            *owners, attribute = self._path.split(".")
            setattr(reduce(getattr, owners, module), attribute, self._stand_in)

        spec.loader.exec_module = load_and_replace
        return spec


if "MUTATE" in os.environ:
    sys.meta_path.insert(0, _Mutating(os.environ["MUTATE"]))

"""Switch off one mechanism of the package in a test Airflow; Python imports this module when it starts."""

from __future__ import annotations

import os
import sys
from functools import reduce
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

from tests.system.mechanisms import MECHANISMS


class _Mutating(MetaPathFinder):
    """Find one module as usual, and replace one of its attributes once it is loaded."""

    def __init__(self, mechanism):
        self._mechanism = mechanism
        self._module = f"airflow_provider_stably.{mechanism.place[0]}"

    def find_spec(self, name, path=None, target=None):
        """Find the mechanism's module; leave others to the next finder."""
        if name != self._module:
            return None
        spec = PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def load_and_replace(module):
            load(module)
            *owners, attribute = self._mechanism.place[1].split(".")
            owner = reduce(getattr, owners, module)
            setattr(owner, attribute, self._mechanism.instead(getattr(owner, attribute)))

        spec.loader.exec_module = load_and_replace
        return spec


if "MUTATE" in os.environ:
    sys.meta_path.insert(0, _Mutating(MECHANISMS[os.environ["MUTATE"]]))

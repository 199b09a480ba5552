"""Change constants and switch off a mechanism of the package; Python imports this module when it starts.

Two environment variables of a test Airflow say what is changed, once its module is loaded:

``STABLY_TEST_CONSTANTS``
    Constants as JSON, by module and name: ``{"runs.watch:REFUSED_SECONDS": 20}``. Windows of many minutes are
    shortened so; the code is the package's own.
``MUTATE``
    The mechanism to switch off, a key of ``MECHANISMS`` in ``tests/system/mechanisms.py``.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from functools import reduce
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

from tests.system.mechanisms import MECHANISMS


class _Replacing(MetaPathFinder):
    """Find modules of the package as usual, and replace some of their attributes once they are loaded.

    :param replacements: By module: dotted names in it, each with what makes the new value from the old one.
    """

    def __init__(self, replacements):
        self._replacements = replacements

    def find_spec(self, name, path=None, target=None):
        """Find a module with attributes to replace; leave others to the next finder."""
        if name not in self._replacements:
            return None
        spec = PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def load_and_replace(module):
            load(module)
            for dotted_name, instead in self._replacements[name]:
                *owners, attribute = dotted_name.split(".")
                owner = reduce(getattr, owners, module)
                setattr(owner, attribute, instead(getattr(owner, attribute)))

        spec.loader.exec_module = load_and_replace
        return spec


def _replacements():
    found = defaultdict(list)
    for place, value in json.loads(os.environ.get("STABLY_TEST_CONSTANTS", "{}")).items():
        module, name = place.split(":")
        found[f"airflow_provider_stably.{module}"].append((name, lambda _, value=value: value))
    if "MUTATE" in os.environ:
        mechanism = MECHANISMS[os.environ["MUTATE"]]
        module, name = mechanism.place
        found[f"airflow_provider_stably.{module}"].append((name, mechanism.instead))
    return found


sys.meta_path.insert(0, _Replacing(_replacements()))

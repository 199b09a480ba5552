"""The arrows between modules, read from their source: what is absent here is forbidden."""

import ast

import pytest

from tests.constants import ROOT

PACKAGE = "airflow_provider_stably"

API = {"exceptions", "api.models", "api.endpoint", "api.protocol", "api.client", "api.async_client"}
RULES = {"connection", "run_ids", "run_reference", "cancellation"}

ALLOWED = {
    "": set(),
    "exceptions": set(),
    "get_provider_info": set(),
    "api": set(),
    "api.models": {"exceptions"},
    "api.endpoint": set(),
    "api.protocol": {"exceptions", "api.models", "api.endpoint"},
    "api.replay": {"api.protocol"},
    "api.client": {"exceptions", "api.endpoint", "api.protocol", "api.replay"},
    "api.async_client": {"exceptions", "api.endpoint", "api.protocol", "api.replay"},
    "connection": {"", "exceptions", "api.endpoint"},
    "run_ids": {"exceptions", "api.protocol"},
    "run_reference": {"api.protocol"},
    "cancellation": API | {"run_reference"},
    "hooks": set(),
    "hooks.stably": API | {"connection", "get_provider_info"},
    "operators": set(),
    "operators.stably": API | RULES | {"hooks.stably"},
    "testing": {"testing.emulator", "testing.server"},
    "testing.emulator": {"exceptions", "api.models", "api.protocol"},
    "testing.server": {"testing.emulator"},
    "testing.__main__": {"testing.emulator", "testing.server"},
}

KNOWS_NO_AIRFLOW = ("api", "testing", "exceptions")


def _modules():
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        yield ".".join(parts).removesuffix("__init__").removesuffix("."), path


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _own(name):
    """Reduce an imported name to the module of ours that it is in, or None."""
    known = {f"{PACKAGE}.{module}".rstrip("."): module for module, _ in _modules()}
    while name:
        if name in known:
            return known[name]
        name = name.rpartition(".")[0]
    return None


def test_every_module_has_its_place():
    """The table above names every module, and no other."""
    assert {module for module, _ in _modules()} == set(ALLOWED)


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m or "package") for m, p in _modules()])
def test_a_module_imports_only_what_its_place_allows(module, path):
    """No import arrow points where the design has none, type-only imports included."""
    imported = {own for name in _imports(path) if (own := _own(name)) is not None}

    assert imported <= ALLOWED[module]


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m or "package") for m, p in _modules()])
def test_the_api_and_its_emulator_know_no_airflow(module, path):
    """What knows Stably knows no Airflow, and old Airflow paths are never imported directly."""
    airflow = {name for name in _imports(path) if name == "airflow" or name.startswith("airflow.")}
    allowed = (
        ()
        if module.startswith(KNOWS_NO_AIRFLOW)
        else ("airflow.providers.common.compat.", "airflow.__version__")
    )

    assert all(name.startswith(allowed) for name in airflow) if allowed else airflow == set()

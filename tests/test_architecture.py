"""The arrows between modules, read from their source: what is absent here is forbidden."""

import ast

import pytest

from tests.constants import ROOT

PACKAGE = "airflow_provider_stably"

API = {"exceptions", "api.models", "api.endpoint", "api.protocol", "api.client", "api.async_client"}
RULES = {
    "cancellation",
    "conclusion",
    "connection",
    "conversation",
    "deadline",
    "run_ids",
    "run_reference",
    "run_summary",
    "seconds",
    "task_ids",
    "asking",
    "awaiting",
    "own_run",
    "best_effort",
    "callback_cancelling",
    "pushed_runs",
    "triggerer_view",
    "unsupervised",
    "start_arguments",
    "start_record",
    "uninterrupted",
    "watching",
}

EXECUTION = {
    "execution.cancel_in_callback",
    "execution.cancel_run",
    "execution.run_tests",
    "execution.watch_run",
}

ALLOWED = {
    "": set(),
    "exceptions": set(),
    "get_provider_info": set(),
    "api": set(),
    "api.models": {"exceptions"},
    "api.endpoint": set(),
    "api.quotation": {"api.models"},
    "api.protocol": {"exceptions", "api.models", "api.endpoint", "api.quotation"},
    "api.replay": {"api.protocol"},
    "api.client": {"exceptions", "api.endpoint", "api.protocol", "api.replay"},
    "api.async_client": {"exceptions", "api.endpoint", "api.protocol", "api.replay"},
    "connection": {"", "exceptions", "seconds", "api.endpoint"},
    "run_ids": {"exceptions", "api.protocol"},
    "run_reference": {"api.protocol"},
    "conversation": {"exceptions", "api.protocol", "api.client", "api.async_client"},
    "cancellation": API | {"run_reference", "conversation"},
    "watching": API | {"run_reference", "conversation", "cancellation"},
    "run_summary": API | {"run_reference"},
    "conclusion": API | {"cancellation", "run_reference", "run_summary", "watching"},
    "start_arguments": {"run_ids"},
    "start_record": {"best_effort", "run_reference"},
    "asking": set(),
    "awaiting": {"asking", "run_reference"},
    "pushed_runs": {"best_effort", "run_reference", "unsupervised"},
    "triggerer_view": {"asking", "run_reference"},
    "unsupervised": set(),
    "best_effort": set(),
    "callback_cancelling": API
    | {"best_effort", "cancellation", "conversation", "run_reference", "hooks.stably"},
    "own_run": {"exceptions", "best_effort", "callback_cancelling", "pushed_runs"},
    "deadline": set(),
    "seconds": set(),
    "task_ids": set(),
    "uninterrupted": set(),
    "hooks": set(),
    "hooks.stably": API | {"asking", "connection", "get_provider_info", "seconds"},
    "operators": set(),
    "links": set(),
    "links.stably": set(),
    "triggers": set(),
    "triggers.stably": API | RULES | {"hooks.stably"},
    "operators.stably": {"hooks.stably", "links.stably", "own_run", "seconds", "task_ids", *EXECUTION},
    "sensors": set(),
    "sensors.stably": {"hooks.stably", "links.stably", *EXECUTION},
    "notifications": set(),
    "notifications.stably": {"hooks.stably", "task_ids", *EXECUTION},
    "execution": set(),
    "execution.cancel_in_callback": API | RULES | {"hooks.stably", "notifications.stably"},
    "execution.cancel_run": API | RULES | {"hooks.stably", "operators.stably"},
    "execution.run_tests": API
    | RULES
    | {"hooks.stably", "links.stably", "operators.stably", "triggers.stably"},
    "execution.watch_run": API
    | RULES
    | {"hooks.stably", "links.stably", "sensors.stably", "triggers.stably"},
    "testing": {"testing.emulator", "testing.server"},
    "testing.emulator": {"exceptions", "api.models", "api.protocol"},
    "testing.page": {"testing.emulator"},
    "testing.server": {"testing.emulator", "testing.page"},
    "testing.fixtures": {"testing.emulator", "testing.server"},
    "testing.__main__": {"testing.emulator", "testing.server"},
}

KNOWS_NO_AIRFLOW = ("api", "testing", "exceptions")
SAME_IN_EVERY_AIRFLOW = (
    "airflow.providers.common.compat.",
    "airflow.triggers.base.",
    "airflow.__version__",
)

BRIDGES_VERSIONS = {
    "awaiting": {
        "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance",
        "airflow.models.TaskInstance",
        "airflow.utils.session.create_session",
    },
    "triggerer_view": {"airflow.sdk.execution_time.task_runner.RuntimeTaskInstance"},
    "unsupervised": {
        "airflow.sdk.execution_time.task_runner",
        "airflow.utils.session.create_session",
    },
}
"""Modules that ask one Airflow or the other, by whether a name is there."""


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
    allowed = () if module.startswith(KNOWS_NO_AIRFLOW) else SAME_IN_EVERY_AIRFLOW
    exceptions = BRIDGES_VERSIONS.get(module, set())

    assert all(name.startswith(allowed) for name in airflow - exceptions) if allowed else airflow == set()

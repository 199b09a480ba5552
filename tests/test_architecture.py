"""The rooms of the package and the arrows between them, read from the source: what is absent is forbidden."""

import ast
import functools

import pytest

from tests.constants import ROOT

pytestmark = pytest.mark.unmeasured

PACKAGE = "airflow_provider_stably"

DECLARED = {"operators", "sensors", "notifications", "links"}
"""What DAG authors import."""

MAY_IMPORT = {
    "api": {"exceptions"},
    "arguments": set(),
    "runs": {"exceptions", "api", "arguments"},
    "tasks": {"exceptions", "api", "runs", "arguments"},
    "hooks": {"", "exceptions", "arguments", "api", "runs", "tasks", "get_provider_info"},
    "triggers": {"exceptions", "api", "runs", "tasks", "hooks"},
    "links": {"api", "tasks"},
    "execution": {"exceptions", "arguments", "api", "runs", "tasks", "hooks", "triggers", "links"},
    "operators": {"arguments", "tasks", "hooks", "links", "execution"},
    "sensors": {"exceptions", "arguments", "tasks", "hooks", "links", "execution"},
    "notifications": {"arguments", "hooks", "execution"},
    "testing": {"exceptions", "api", "hooks", "tasks"},
    "exceptions": set(),
    "get_provider_info": set(),
    "": set(),
}
"""A room, or a module at the root, to what it may import besides itself; type-only imports count."""

KNOWS_NO_AIRFLOW = {"api", "runs", "testing", "arguments", "exceptions"}
SAME_IN_EVERY_AIRFLOW = (
    "airflow.providers.common.compat.",
    "airflow.triggers.base.",
    "airflow.__version__",
)
BRIDGES_VERSIONS = "tasks.version_compat"
"""The one module that may import what only some Airflows have."""

HTTP_LIBRARIES = {
    "requests": {"api.client", "api.endpoint", "api.transport"},
    "aiohttp": {"api.async_client", "api.async_transport", "testing.server"},
}
"""A library to the modules that may import it at run time."""

LONGEST_MODULE = 300


def _modules():
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        yield ".".join(parts).removesuffix("__init__").removesuffix("."), path


MODULES = dict(_modules())
each_module = pytest.mark.parametrize("module", [pytest.param(m, id=m or "package") for m in MODULES])


def _room(module):
    return module.partition(".")[0]


def _type_only(tree):
    """The nodes below ``if TYPE_CHECKING:``."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    typed = [node for node in blocks if ast.unparse(node.test) == "TYPE_CHECKING"]
    return {below for block in typed for below in ast.walk(block)}


@functools.cache
def _imports(module, *, at_run_time=False, at_import=False):
    """Return the full names that a module imports.

    :param at_run_time: Without type-only imports.
    :param at_import: Nor those inside functions.
    """
    tree = ast.parse(MODULES[module].read_text())
    nodes = set(tree.body if at_import else ast.walk(tree))
    if at_run_time or at_import:
        nodes -= _type_only(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _own(name):
    """Reduce an imported name to the module of ours that it is in, or None."""
    while name:
        if name == PACKAGE or name.removeprefix(f"{PACKAGE}.") in MODULES:
            return name.removeprefix(PACKAGE).removeprefix(".")
        name = name.rpartition(".")[0]
    return None


def _own_imports(module, **which):
    return {own for name in _imports(module, **which) if (own := _own(name)) is not None}


def test_every_room_has_its_row():
    """The table names every room and every module at the root, and no other."""
    assert {_room(module) for module in MODULES} == set(MAY_IMPORT)


@each_module
def test_imports_point_down(module):
    """A module imports from its own room and from the rooms of its row, for types too."""
    room = _room(module)

    assert {_room(own) for own in _own_imports(module)} <= MAY_IMPORT[room] | {room}


def test_no_import_circle():
    """No module imports itself by way of others, for types neither."""
    below = {module: _own_imports(module) - {module} for module in MODULES}

    while leaves := {module for module, imported in below.items() if not imported & set(below)}:
        below = {module: imported for module, imported in below.items() if module not in leaves}

    assert below == {}


@each_module
def test_execution_is_imported_late(module):
    """What DAG authors import loads the execution only when a task runs."""
    if _room(module) != "execution":
        assert "execution" not in {_room(own) for own in _own_imports(module, at_import=True)}


@each_module
def test_declarations_are_cheap_to_import(module):
    """A DAG parse loads neither the API's clients nor the rules."""
    if _room(module) in DECLARED:
        loaded, todo = set(), {module}
        while todo:
            loaded |= todo
            todo = {own for each in todo for own in _own_imports(each, at_import=True)} - loaded
        assert {_room(each) for each in loaded} <= DECLARED | {
            "",
            "arguments",
            "exceptions",
            "hooks",
            "tasks",
        }


@each_module
def test_old_airflow_names_stay_in_one_module(module):
    """What knows Stably knows no Airflow, and only one module asks which Airflow this is."""
    airflow = {name for name in _imports(module) if name == "airflow" or name.startswith("airflow.")}

    if _room(module) in KNOWS_NO_AIRFLOW:
        assert airflow == set()
    elif module != BRIDGES_VERSIONS:
        assert all(name.startswith(SAME_IN_EVERY_AIRFLOW) for name in airflow)


@each_module
def test_http_libraries_stay_in_their_clients(module):
    """Requests and aiohttp are imported only where calls are sent or served."""
    roots = {name.partition(".")[0] for name in _imports(module, at_run_time=True)}

    assert {library for library in HTTP_LIBRARIES if library in roots} <= {
        library for library, modules in HTTP_LIBRARIES.items() if module in modules
    }


@each_module
def test_no_module_is_too_long(module):
    """A module has one job; past 300 lines it has another."""
    assert len(MODULES[module].read_text().splitlines()) <= LONGEST_MODULE

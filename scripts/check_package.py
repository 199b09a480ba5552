"""Is what users install whole? Build sdist and wheel, try the wheel on its own: ``make test-package``."""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import tempfile
import zipfile
from email.parser import Parser
from functools import partial
from pathlib import Path

from steps import ROOT, NotAsPromisedError, Steps, TemporaryAirflow, main, run

from airflow_provider_stably import __version__

PACKAGE = "airflow_provider_stably"
DISTRIBUTION = "airflow-provider-stably"
NEEDS_PYTEST = {f"{PACKAGE}.testing.fixtures"}  # which users have where they test, not where they run
BIN = Path(sys.executable).parent


def check_package(steps: Steps, constraints: Path) -> None:
    """Build, look inside, install elsewhere, and ask that Airflow about the provider."""
    with tempfile.TemporaryDirectory(prefix="stably-package-") as folder:
        with steps.step("Build the sdist, and the wheel from it"):
            sdist, wheel = build(Path(folder, "dist"))
        with steps.step(f"Look into {sdist.name}"):
            check_sdist(sdist)
        with steps.step(f"Look into {wheel.name}"):
            check_wheel(wheel)
        with steps.step("twine check --strict"):
            run(str(BIN / "python"), "-m", "twine", "check", "--strict", str(sdist), str(wheel))
        with steps.step("Install the wheel into an environment of its own"):
            python = install(wheel, Path(folder, "venv"), constraints)
        with TemporaryAirflow(python) as airflow:
            with steps.step("Import every module there"):
                airflow.python("-c", f"import {', '.join(modules())}")
            with steps.step("Create an Airflow database there"):
                airflow.airflow("db", "migrate")
            check_provider(steps, airflow)
            check_connection(steps, airflow)


def build(folder: Path) -> tuple[Path, Path]:
    """Return the sdist and the wheel that a release would upload."""
    run(str(BIN / "uv"), "build", "--out-dir", str(folder), str(ROOT))
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def check_sdist(path: Path) -> None:
    """Expect all that building and reading need, and nothing for developing."""
    with tarfile.open(path) as sdist:
        files = {name.partition("/")[2] for name in sdist.getnames()}
    needed = source_files() | {"LICENSE", "PKG-INFO", "pyproject.toml"}
    needed |= {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
    needed |= {str(example.relative_to(ROOT)) for example in ROOT.glob("example_dags/*.py")}
    expect(needed <= files, f"{path.name} lacks {sorted(needed - files)}")
    welcome = (PACKAGE, "example_dags", "docs")
    strange = {file for file in files - needed if "/" in file and file.split("/")[0] not in welcome}
    strange |= {file for file in files if "__pycache__" in file}
    expect(not strange, f"{path.name} has {sorted(strange)}")


def check_wheel(path: Path) -> None:
    """Expect the package's files and its metadata, and nothing else."""
    with zipfile.ZipFile(path) as wheel:
        files = set(wheel.namelist())
        (info,) = {name.split("/")[0] for name in files if ".dist-info/" in name}
        metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    written = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    expected = source_files() | written | {f"{info}/licenses/LICENSE"}
    expect(f"{PACKAGE}/py.typed" in files, "type checkers would not use its types: py.typed is missing")
    expect(
        files == expected,
        f"{path.name} lacks {sorted(expected - files)} and has besides {sorted(files - expected)}",
    )
    facts = {
        "Name": DISTRIBUTION,
        "Version": __version__,
        "Requires-Python": ">=3.11",
        "License-Expression": "Apache-2.0",
        "Description-Content-Type": "text/markdown",
    }
    for name, value in facts.items():
        expect(metadata[name] == value, f"{name} is {metadata[name]!r}, not {value!r}")
    extras = metadata.get_all("Provides-Extra")
    expect(extras == ["junit"], f"the extras that users see are {extras}, not junit alone")
    expect(metadata.get_payload().strip(), "the README is not in the metadata")


def source_files() -> set[str]:
    """Return the package's files as git would have them: no bytecode."""
    files = {path for path in ROOT.glob(f"{PACKAGE}/**/*") if path.is_file()}
    return {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


def modules() -> list[str]:
    """Return the names of the modules that need nothing but what the wheel requires."""
    paths = [file.removesuffix(".py") for file in source_files() if file.endswith(".py")]
    names = {path.removesuffix("/__init__").replace("/", ".") for path in paths}
    return sorted(names - NEEDS_PYTEST)


def install(wheel: Path, venv: Path, constraints: Path) -> Path:
    """Return the interpreter of a new environment that has the wheel and what it requires."""
    uv = str(BIN / "uv")
    run(uv, "venv", "--quiet", "--python", sys.executable, str(venv))
    python = venv / "bin" / "python"
    run(
        *(uv, "pip", "install", "--quiet", "--python", str(python)),
        *("--constraints", str(constraints), str(wheel)),
    )
    return python


def check_provider(steps: Steps, airflow: TemporaryAirflow) -> None:
    """Expect Airflow to have found the provider and its hook."""
    with steps.step("airflow providers list"):
        listed = {row["package_name"] for row in ask(airflow, "providers", "list")}
        expect(DISTRIBUTION in listed, f"lists {sorted(listed)}")
    with steps.step(f"airflow providers get {DISTRIBUTION}"):
        (provider,) = ask(airflow, "providers", "get", DISTRIBUTION)
        expect(provider["Provider"] == DISTRIBUTION, f"shows {provider}")
    with steps.step("airflow providers hooks"):
        hooks = {row["connection_type"]: row for row in ask(airflow, "providers", "hooks")}
        expect("stably" in hooks, f"lists {sorted(hooks)}")
        hook = hooks["stably"]
        expect(hook["class"] == f"{PACKAGE}.hooks.stably.StablyHook", f"shows {hook}")


def check_connection(steps: Steps, airflow: TemporaryAirflow) -> None:
    """Expect a connection of the provider's type to be stored and shown."""
    login, password = ("--conn-login", "project-1"), ("--conn-password", "made-up-key")
    with steps.step("airflow connections add stably_default --conn-type stably"):
        airflow.airflow("connections", "add", "stably_default", "--conn-type", "stably", *login, *password)
    with steps.step("airflow connections get stably_default"):
        (connection,) = ask(airflow, "connections", "get", "stably_default")
        facts = {name: connection[name] for name in ("conn_type", "login")}
        expect(facts == {"conn_type": "stably", "login": "project-1"}, f"shows {facts}")


def ask(airflow: TemporaryAirflow, *words: str) -> list[dict[str, str]]:
    """Return an Airflow command's table."""
    printed = airflow.airflow(*words, "--output", "json")
    try:
        # Log lines may stand before the table.
        table: list[dict[str, str]] = json.loads(printed[printed.index("[{") :])
    except ValueError:
        raise NotAsPromisedError(f"no table from airflow {' '.join(words)}", output=printed) from None
    return table


def expect(promise: object, otherwise: str) -> None:
    """Go on only if a promise is kept."""
    if not promise:
        raise NotAsPromisedError(otherwise)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constraints", type=Path, required=True, help="what to install the wheel under")
    options = parser.parse_args()
    sys.exit(main(partial(check_package, constraints=options.constraints.absolute())))

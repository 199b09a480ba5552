"""The version matrix: the tests on each Airflow and Python, under the pins of ``constraints/``.

``make test-matrix`` runs all cells, ``make test-matrix CELLS="3.0 lowest"`` those with any of the words.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import nox
from uv import find_uv_bin

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).parent
# A cell of the Python that runs this is made with that very one, and not with another of its version.
os.environ["PATH"] = f"{Path(sys.base_prefix, 'bin')}{os.pathsep}{os.environ['PATH']}"
PYTHON_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Pins:
    """What a series of cells is pinned to.

    :param airflow: Version of Airflow.
    :param pythons: The Pythons it is tested on.
    :param as_of: The day whose newest packages are taken, that of the release; None is today.
    :param newer: What has to be newer than that, for we require it so.
    :param older: What has to be older, for that Airflow is broken by newer ones.
    :param lowest: Whether of what we require ourselves, the lowest versions that we allow are taken.
    :param mypy: What to check types with; None checks none.
    """

    airflow: str
    pythons: tuple[str, ...] = ("3.11", "3.12", "3.13")
    as_of: str | None = None
    newer: tuple[str, ...] = ()
    older: tuple[str, ...] = ()
    lowest: bool = False
    mypy: tuple[str, ...] | None = None


WITHOUT_SDK = (
    *("--allow-subclassing-any", "--no-warn-unused-ignores"),
    *("--disable-error-code=import-untyped", "--no-warn-return-any", "--allow-untyped-calls"),
)
"""Airflow 2.11 does not have the SDK, which types its base classes; its libraries have fewer types."""

SERIES = {
    "lowest": Pins(
        "2.11.*", pythons=("3.11",), older=("universal-pathlib<0.3",), lowest=True, mypy=WITHOUT_SDK
    ),
    "2.11": Pins("2.11.2", pythons=("3.11", "3.12"), as_of="2026-03-14", mypy=WITHOUT_SDK),
    "3.0": Pins(
        "3.0.6",
        pythons=("3.11", "3.12"),
        as_of="2025-08-29",
        newer=("apache-airflow-providers-common-compat", "urllib3"),
    ),
    "3.1": Pins("3.1.8", as_of="2026-03-11"),
    "3.2": Pins("3.2.2", as_of="2026-05-29"),
    "3.3": Pins("3.3.*", mypy=()),
}
"""All but the newest have what was current when they were released: the sets that people keep."""


@dataclass(frozen=True)
class Cell:
    """One Airflow on one Python."""

    series: str
    python: str

    @property
    def name(self) -> str:
        """The name of its constraints file, and one of the words that choose it."""
        return f"{'' if self.series == 'lowest' else 'airflow-'}{self.series}-py{self.python}"

    @property
    def constraints(self) -> Path:
        """The file with its pins."""
        return ROOT / "constraints" / f"{self.name}.txt"

    @property
    def tags(self) -> list[str]:
        """The words that choose it."""
        words = [self.name, self.series, f"py{self.python}"]
        return [*words, "cheap"] if self._is_cheap else words

    @property
    def _is_cheap(self) -> bool:
        """Whether every change is checked with it: it needs no other Python, and is as old as can be."""
        oldest = next(name for name, pins in SERIES.items() if self.python in pins.pythons)
        return self.python == PYTHON_HERE and self.series == oldest


CELLS = [Cell(series, python) for series, pins in SERIES.items() for python in pins.pythons]
SYSTEM_CELLS = [
    Cell(series, min(PYTHON_HERE, pins.pythons[-1])) for series, pins in SERIES.items() if not pins.lowest
]


@dataclass
class Outcome:
    """What became of a cell."""

    result: str
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def count(self, junit: Path) -> None:
        """Take over the numbers that pytest has written, if it came so far."""
        self.seconds = time.monotonic() - self.began
        if junit.exists():
            suite = ElementTree.parse(junit).getroot()[0].attrib  # noqa: S314 - pytest wrote it
            self.failed = int(suite["failures"]) + int(suite["errors"])
            self.skipped = int(suite["skipped"])
            self.passed = int(suite["tests"]) - self.failed - self.skipped


OUTCOMES: dict[str, Outcome] = {}


@nox.session
@nox.parametrize(
    ["python", "cell"], [nox.param(cell.python, cell, id=cell.name, tags=cell.tags) for cell in CELLS]
)
def matrix(session: nox.Session, cell: Cell) -> None:
    """Install the wheel as users do, in this cell's versions, and run the tests against it."""
    session.notify("table")
    outcome = OUTCOMES[cell.name] = Outcome("FAILED to install")
    junit = Path(session.create_tmp(), "junit.xml")
    junit.unlink(missing_ok=True)
    try:
        install(session, cell)
        outcome.result = "FAILED"
        # The tests are found beside the checkout's package, which must not stand in for the wheel's.
        paths = ("-o", "pythonpath=", f"--junit-xml={junit}")
        parallel = ("-n", "4", "--dist", "worksteal")  # as in the Makefile
        session.run("pytest", *parallel, *paths, *session.posargs, env={"PYTHONSAFEPATH": "1"})
        outcome.result = "FAILED in types"
        if (options := SERIES[cell.series].mypy) is not None:
            session.run("mypy", *options)
        outcome.result = "passed"
    finally:
        outcome.count(junit)


def install(session: nox.Session, cell: Cell) -> None:
    """Bring a cell's environment to its pins, with the wheel of this checkout."""
    session.install("--exact", "--constraint", str(cell.constraints), str(wheel()), *groups("test", "lint"))
    session.run(find_uv_bin(), "pip", "check", external=True, silent=True)
    (folder,) = Path(session.virtualenv.location).glob("lib/python*/site-packages")
    # Last on sys.path: the tests are found in the checkout, the package is not.
    (folder / "checkout.pth").write_text(f"{ROOT}\n")
    code = "import airflow_provider_stably; print(airflow_provider_stably.__file__)"
    found = session.run("python", "-P", "-c", code, silent=True)
    if not Path(found.strip()).is_relative_to(folder):
        session.error(f"not the wheel would be tested but {found}")


def groups(*names: str) -> Iterator[str]:
    """Return the options that install groups of pyproject.toml."""
    for name in names:
        yield from ("--group", name)


@functools.cache
def wheel() -> Path:
    """Build this checkout's wheel, once."""
    folder = Path(_SCRATCH.name)
    build = (find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT))
    subprocess.run(build, check=True)
    return next(folder.glob("*.whl"))


_SCRATCH = tempfile.TemporaryDirectory(prefix="stably-matrix-")


@nox.session(default=False)
@nox.parametrize(
    ["python", "cell"],
    [nox.param(cell.python, cell, id=cell.series, tags=[f"system-{cell.series}"]) for cell in SYSTEM_CELLS],
)
def system(session: nox.Session, cell: Cell) -> None:
    """Run the system tests on this Airflow, or those that are named after ``--``."""
    session.install("--constraint", str(cell.constraints), "--editable", str(ROOT), *groups("system"))
    session.run("pytest", *(session.posargs or ["tests/system"]))


@nox.session(python=False, default=False)
def table(_: nox.Session) -> None:
    """Print what became of the cells that were run."""
    print(f"\n{'cell':20} {'passed':>6} {'failed':>6} {'skipped':>7} {'seconds':>7}  result")
    for name, outcome in OUTCOMES.items():
        counts = f"{outcome.passed:6} {outcome.failed:6} {outcome.skipped:7} {outcome.seconds:7.0f}"
        print(f"{name:20} {counts}  {outcome.result}")


@nox.session(python=False, default=False)
def constraints(session: nox.Session) -> None:
    """Pin all cells anew, or those named after ``--``."""
    for cell in CELLS:
        if not session.posargs or cell.name in session.posargs:
            pins = lowest(cell) if SERIES[cell.series].lowest else release(cell)
            compile_pins(cell, pins, *OURS, "--group", "dev", "--output-file", str(cell.constraints))


OURS = ("pyproject.toml", "--constraints", "-")


def release(cell: Cell) -> list[str]:
    """Return the pins of an Airflow that does not have this package yet; ours may not change them."""
    pins = compile_pins(cell, [f"apache-airflow=={SERIES[cell.series].airflow}"], "-")
    return [pin for pin in pins if pin.partition("==")[0] not in SERIES[cell.series].newer]


def lowest(cell: Cell) -> list[str]:
    """Return the lowest versions of what we require, one pin each."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["junit"]]
    bounds = [requirement.replace(">=", "==") + ".*" for requirement in required]
    pins = compile_pins(cell, bounds, *OURS, "--resolution", "lowest-direct")
    names = {bound.partition("==")[0] for bound in bounds}
    return [*(pin for pin in pins if pin.partition("==")[0] in names), *SERIES[cell.series].older]


def compile_pins(cell: Cell, given: Iterable[str], *options: str) -> list[str]:
    """Return the newest packages of a cell's day that fit together, a pin each.

    :param given: Lines of the requirements file ``-``.
    """
    pins = SERIES[cell.series]
    command = [find_uv_bin(), "pip", "compile", "--quiet", "--upgrade", "--no-header", "--no-annotate"]
    command += ["--python-version", cell.python, *options]
    if pins.as_of:
        command.append(f"--exclude-newer={pins.as_of}T23:59:59Z")
        command += [f"--exclude-newer-package={name}=2100-01-01" for name in pins.newer]
    compiled = subprocess.run(
        command, input="\n".join(given), check=True, text=True, stdout=subprocess.PIPE
    ).stdout
    return compiled.splitlines()

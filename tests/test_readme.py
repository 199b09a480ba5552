"""README and docs show what ran: each block in a language is a file, or a part of one, that tests run."""

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from sqlalchemy import select

from airflow_provider_stably.hooks.connection import read_connection
from tests.constants import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]

_BLOCK = re.compile(
    r"^(?:<!-- (?P<source>[^\n]+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
BLOCKS = [
    pytest.param(match["source"], match["text"], id=f"{page.name}: {match['source']}")
    for page in PAGES
    for match in _BLOCK.finditer(page.read_text())
    if match["language"]
]


def _region(name, path):
    inside = path.read_text().split(f"[START {name}]\n")[1].split(f"# [END {name}]")[0]
    return dedent(inside.rpartition("\n")[0] + "\n")


def _shown(source):
    kind, _, rest = source.partition(" ")
    if kind == "region":
        name, _, file = rest.partition(" of ")
        return _region(name, ROOT / file)
    assert kind == "file"
    return (ROOT / rest).read_text()


@pytest.mark.parametrize(("source", "text"), BLOCKS)
def test_a_block_is_what_its_source_says(source, text):
    """Each block names its source and equals it; of some, each line is in it."""
    assert source, f"no source named for:\n{text}"
    if source == "map of the package":
        return  # the next test
    if source.startswith("lines of "):
        lines = (ROOT / source.removeprefix("lines of ")).read_text()
        assert all(line in lines for line in text.splitlines())
    else:
        assert text == _shown(source)


def test_the_connection_from_the_environment_works():
    """The variable that the README shows, set by a shell, makes a connection."""
    script = ROOT / "docs/snippets/connection_env.sh"
    program = (
        "from airflow_provider_stably.hooks.stably import StablyHook;print(StablyHook().resolve_project_id())"
    )

    output = subprocess.run(
        ["bash", "-c", f'. "{script}"; exec "{sys.executable}" -c "{program}"'],
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert output.splitlines()[-1] == "YOUR-PROJECT-ID"


def test_the_connection_from_the_command_line_works(airflow_db):
    """The command that the README shows adds a connection that can be used."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = ROOT / "docs/snippets/connection_add.sh"

    subprocess.run(["bash", str(script)], check=True, capture_output=True, env={**os.environ, "PATH": path})

    with create_session() as session:
        connection = session.scalar(select(Connection).where(Connection.conn_id == "stably_default"))
        settings = read_connection(connection)
        session.delete(connection)
    assert (settings.project_id, settings.endpoint.api_key) == ("YOUR-PROJECT-ID", "YOUR-API-KEY")


def test_supported_versions_are_those_of_the_matrix():
    """README names an Airflow with a Python only if there is a cell for it, and every cell."""
    rows = re.findall(r"^\| (\d\.\d+) \| ([\d., ]+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    named = {f"airflow-{airflow}-py{python}" for airflow, pythons in rows for python in pythons.split(", ")}

    assert named == {path.stem for path in ROOT.glob("constraints/airflow-*.txt")}


def test_links_lead_to_files_that_exist():
    """No page links to a file that is not there."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_map_names_every_module():
    """CONTRIBUTING's map of the rooms names each module, and no other."""
    [text] = [text for source, text in (block.values for block in BLOCKS) if source == "map of the package"]
    files = {path.name for path in (ROOT / "airflow_provider_stably").rglob("*.py")}

    named = set(re.findall(r"\w+\.py", text))

    assert named == files - {"__init__.py", "__main__.py"}

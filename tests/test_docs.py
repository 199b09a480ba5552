"""README and docs show what ran: each block in a language is a file, or a part of one, that tests run."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_provider_stably.hooks.connection import read_connection
from airflow_provider_stably.hooks.stably import StablyHook
from tests.constants import ROOT

BLOCKS_OF = runpy.run_path(str(ROOT / "scripts/code_blocks.py"))
PAGES = BLOCKS_OF["pages"]()
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

_BLOCK = re.compile(
    r"^(?:<!-- (?P<source>[^\n]+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
BLOCKS = [
    pytest.param(match["source"], match["text"], id=f"{page.relative_to(ROOT)}: {match['source']}")
    for page in PAGES
    for match in _BLOCK.finditer(page.read_text())
]


@pytest.mark.parametrize(("source", "text"), BLOCKS)
def test_a_block_is_what_its_source_says(source, text):
    """Each block is a file that ran or a part of one, lines of a file, or marked as not run."""
    assert source, f"no source named for:\n{text}"
    if source == "map of the package" or re.match(r"not run\b", source):
        return
    kind, _, rest = source.partition(" ")
    if kind == "lines":
        lines = (ROOT / rest.removeprefix("of ")).read_text()
        assert all(line in lines for line in text.splitlines())
    else:
        assert text == BLOCKS_OF["shown"](kind, rest), "run scripts/code_blocks.py"


def _anchors(page):
    """Return the anchors that GitHub makes of a page's headings, and those that stand in it."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


@each_page
def test_links_lead_to_pages_and_headings(page):
    """No page links to a file or a heading that is not there."""
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page.read_text()):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), f"{target}#{anchor}"


def test_the_index_names_every_page():
    """docs/README.md leads to each page of docs."""
    index = (ROOT / "docs/README.md").read_text()
    pages = {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")} - {"README.md"}

    assert pages == set(re.findall(r"\]\(([^)#]+\.md)\)", index))


def test_readme_is_short():
    """README has at most 120 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_readme_counts_what_nothing_covers():
    """README says how many cases the page of guarantees lists."""
    page = (ROOT / "docs/guarantees.md").read_text()
    listed = page.split("## What nothing covers")[1].split("## ")[0].count("\n- **")

    assert listed == 14
    assert re.search(r"\bFourteen\s+cases are not covered", (ROOT / "README.md").read_text())


@pytest.mark.parametrize("name", ["connection_env.sh", "connection_uri.sh"])
def test_the_connection_from_the_environment_works(monkeypatch, name):
    """The variable that the docs show, set by a shell, makes a connection."""
    script = ROOT / "docs/snippets" / name
    variable = "AIRFLOW_CONN_STABLY_DEFAULT"

    value = subprocess.run(
        ["bash", "-c", f'. "{script}"; printenv {variable}'], check=True, capture_output=True, text=True
    ).stdout
    monkeypatch.setenv(variable, value.rstrip("\n"))

    assert StablyHook().resolve_project_id() == "YOUR-PROJECT-ID"


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
    rows = re.findall(r"^\| (\d[\d., ]+) \| ([\d., ]+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    named = {
        (airflow, python)
        for airflows, pythons in rows
        for airflow in airflows.split(", ")
        for python in pythons.split(", ")
    }
    tested = {
        (re.search(r"^apache-airflow==(.*)$", path.read_text(), re.MULTILINE)[1], path.stem.split("-py")[1])
        for path in ROOT.glob("constraints/airflow-*.txt")
    }

    assert named == tested


def test_the_map_names_every_module():
    """CONTRIBUTING's map of the rooms names each module, and no other."""
    [text] = [text for source, text in (block.values for block in BLOCKS) if source == "map of the package"]
    files = {path.name for path in (ROOT / "airflow_provider_stably").rglob("*.py")}

    named = set(re.findall(r"\w+\.py", text))

    assert named == files - {"__init__.py", "__main__.py"}

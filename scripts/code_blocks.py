"""Write the code blocks of README and docs from the files that they name.

``python scripts/code_blocks.py`` writes them anew; a test compares.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"^(?P<marker><!-- (?P<kind>region|file) (?P<rest>[^\n]+?) -->\n)"
    r"```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


def pages() -> list[Path]:
    """Return README, the other pages at the top, and those in docs."""
    return [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]


def shown(kind: str, rest: str) -> str:
    """Return what a block shows: a file, or a region of one.

    :param kind: ``file`` or ``region``.
    :param rest: The file, or ``NAME of FILE``.
    """
    if kind == "file":
        return (ROOT / rest).read_text()
    name, _, file = rest.partition(" of ")
    inside = (ROOT / file).read_text().split(f"[START {name}]\n")[1].split(f"# [END {name}]")[0]
    return dedent(inside.rpartition("\n")[0] + "\n").strip("\n") + "\n"


def with_blocks(page: str) -> str:
    """Return a page with its blocks written anew."""
    return _BLOCK.sub(
        lambda block: f"{block['marker']}```{block['language']}\n{shown(block['kind'], block['rest'])}```",
        page,
    )


if __name__ == "__main__":
    for path in pages():
        path.write_text(with_blocks(path.read_text()))

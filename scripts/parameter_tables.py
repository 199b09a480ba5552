"""Write the parameter tables of the docs from the signatures and docstrings of the classes.

``python scripts/parameter_tables.py`` writes them anew; a test compares.
"""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from pathlib import Path

from airflow_provider_stably.hooks.stably import StablyHook
from airflow_provider_stably.notifications.stably import StablyCancelRunNotifier
from airflow_provider_stably.operators.stably import StablyCancelRunOperator, StablyRunTestsOperator
from airflow_provider_stably.sensors.stably import StablyRunSensor

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {
    "operators/cancel_run.md": StablyCancelRunOperator,
    "operators/run_tests.md": StablyRunTestsOperator,
    "sensors/run.md": StablyRunSensor,
    "notifications.md": StablyCancelRunNotifier,
    "hooks.md": StablyHook,
}
END = "<!-- end of parameters -->"

_PARAM = re.compile(r"^:param (\w+): (.*?)(?=^:|\Z)", re.DOTALL | re.MULTILINE)
_ALIASES = {"NamesTask": "str | task", "NamesRun": "str | task", "OnEmpty": "str"}


def begin(kind: type) -> str:
    """Return the line before a class's table."""
    return f"<!-- parameters of {kind.__name__}: scripts/parameter_tables.py -->"


def table(kind: type) -> str:
    """Return a class's parameters as a Markdown table."""
    rows = ["| parameter | type | default | templated | meaning |", "|---|---|---|---|---|"]
    signature = inspect.signature(inspect.unwrap(kind.__init__))
    for name, meaning in meanings(kind).items():
        parameter = signature.parameters[name]
        annotation = str(parameter.annotation)
        for alias, meant in _ALIASES.items():
            annotation = annotation.replace(alias, meant)
        cells = [
            f"`{name}`",
            f"`{annotation}`",
            default(parameter),
            "yes" if "(templated" in meaning else "",
            re.sub(r" \(templated[^)]*\)", "", meaning),
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def meanings(kind: type) -> dict[str, str]:
    """Return what a class's docstring says of each parameter, in Markdown."""
    return {
        name: re.sub(r":class:`~?(?:\w+\.)*(\w+)`", r"`\1`", " ".join(text.split()).replace("``", "`"))
        for name, text in _PARAM.findall(inspect.getdoc(kind) or "")
    }


def default(parameter: inspect.Parameter) -> str:
    """Return a parameter's default as people write it."""
    if parameter.name == "deferrable":
        return "`[operators] default_deferrable`"
    if parameter.default is parameter.empty:
        return "required"
    if isinstance(parameter.default, timedelta):
        return f"{parameter.default.total_seconds() / 3600:g} h"
    return f"`{parameter.default!r}`"


def with_tables(page: str, kind: type) -> str:
    """Return a page with its class's table written anew."""
    before, found, rest = page.partition(begin(kind))
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"no markers for {kind.__name__}")
    return f"{before}{begin(kind)}\n\n{table(kind)}\n\n{END}{after}"


if __name__ == "__main__":
    for name, kind in PAGES.items():
        page = DOCS / name
        page.write_text(with_tables(page.read_text(), kind))

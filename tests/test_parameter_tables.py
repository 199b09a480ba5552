"""The parameter tables of the docs are what signatures and docstrings say."""

import inspect
import runpy

import pytest

from tests.constants import ROOT

TABLES = runpy.run_path(str(ROOT / "scripts/parameter_tables.py"))
each_class = pytest.mark.parametrize(("page", "kind"), TABLES["PAGES"].items(), ids=TABLES["PAGES"])


@each_class
def test_a_page_has_the_table_of_its_class(page, kind):
    """If this fails, run scripts/parameter_tables.py."""
    text = (ROOT / "docs" / page).read_text()

    assert TABLES["with_tables"](text, kind) == text


@each_class
def test_every_parameter_is_explained(page, kind):
    """A docstring has the constructor's own parameters, in their order, and no others."""
    parameters = inspect.signature(inspect.unwrap(kind.__init__)).parameters.values()
    own = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]

    assert ["self", *TABLES["meanings"](kind)] == own


@each_class
def test_docstrings_say_what_is_templated(page, kind):
    """What Airflow renders is marked in the docstring, and nothing else is, but for the notifier's copies."""
    marked = {name for name, text in TABLES["meanings"](kind).items() if "(templated" in text}

    if page == "notifications.md":
        assert marked == {"run_ids", "project_id"}
    else:
        assert marked == set(getattr(kind, "template_fields", ()))

"""The script that writes the results of the system tests into the docs' table."""

import runpy

from tests.constants import ROOT

COLUMNS = runpy.run_path(str(ROOT / "scripts/matrix_columns.py"))
REPORT = """\
| scenario | sync | deferrable |
| --- | --- | --- |
| marked failed | ok | known gap: the moon is full |
| task process killed, no retry left | LEAK | - a deferred task has no process |

Measured on Airflow 3.4.0 with the LocalExecutor and PostgreSQL.
"""


def _page():
    return (ROOT / "docs/guarantees_measured.md").read_text()


def test_the_docs_have_the_table_as_it_is_written():
    """Every scenario has its row in the docs, and notes are numbered as they come."""
    page = _page()

    assert COLUMNS["updated"](page, []) == page


def test_a_report_becomes_columns_of_the_table():
    """An Airflow that was measured for the first time gets two columns; what was not played says so."""
    page = COLUMNS["updated"](_page(), [REPORT])
    cells = COLUMNS["cells_of"](COLUMNS["table_of"](page))

    assert cells["marked failed", "3.4.0 sync"] == "ok"
    assert cells["marked failed", "3.4.0 deferred"] == "known gap: the moon is full"
    assert cells["task process killed, no retry left", "3.4.0 deferred"] == ""
    assert cells["marked success", "3.4.0 sync"] == "not measured"


def test_a_report_leaves_the_other_columns_alone():
    """What was measured on another Airflow stays, whatever its notes are numbered."""
    before = COLUMNS["cells_of"](COLUMNS["table_of"](_page()))
    page = COLUMNS["updated"](_page(), [REPORT])

    after = COLUMNS["cells_of"](COLUMNS["table_of"](page))

    assert before.items() <= after.items()

"""How a cell of the cancellation matrix is judged."""

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_stably.testing.emulated_run import EmulatedRun
from tests.system.verdicts import CellVerdict, judge


def _run(script, *, began, cancelled=None):
    """Return a run of five seconds that began, and perhaps was cancelled, so many seconds ago."""
    now = datetime.now(UTC)
    return EmulatedRun(
        run_id=f"{script}-{began}",
        project_id="project-1",
        script=script,
        run_seconds=5,
        created_at=now - timedelta(seconds=began),
        cancelled_at=None if cancelled is None else now - timedelta(seconds=cancelled),
    )


@pytest.mark.parametrize(
    ("runs", "state", "verdict"),
    [
        pytest.param([_run("passes", began=60)], "success", CellVerdict.OK, id="passed and green"),
        pytest.param(
            [_run("hangs", began=60, cancelled=50)], "failed", CellVerdict.OK, id="cancelled and red"
        ),
        pytest.param([_run("hangs", began=60)], "failed", CellVerdict.LEAK, id="left live"),
        pytest.param(
            [_run("hangs", began=60), _run("passes", began=50)],
            "success",
            CellVerdict.DUP,
            id="one beside a live",
        ),
        pytest.param(
            [_run("hangs", began=60, cancelled=40), _run("passes", began=50)],
            "success",
            CellVerdict.DUP,
            id="one begun before the other was cancelled",
        ),
        pytest.param(
            [_run("hangs", began=60, cancelled=55), _run("passes", began=50)],
            "success",
            CellVerdict.OK,
            id="one after the other",
        ),
        pytest.param([_run("fails", began=60)], "success", CellVerdict.FALSE_GREEN, id="failed and green"),
        pytest.param([], "success", CellVerdict.FALSE_GREEN, id="none and green"),
        pytest.param([_run("passes", began=60)], "failed", CellVerdict.FALSE_RED, id="passed and red"),
    ],
)
def test_a_cell_is_judged_by_its_runs_and_its_state(runs, state, verdict):
    """The cell's verdict is the worst that applies."""
    assert judge(runs, state) is verdict


def test_a_users_word_is_no_false_green():
    """A task that a user marked may be green although its run was cancelled."""
    assert judge([_run("hangs", began=60, cancelled=50)], "success", marked_by_user=True) is CellVerdict.OK

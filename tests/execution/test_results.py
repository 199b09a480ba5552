"""What a finished task says in the events of its outlets."""

from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_stably.api.models import Run
from airflow_provider_stably.execution.results import publish
from airflow_provider_stably.runs.reference import RunReference
from airflow_provider_stably.runs.summary import RunSummary
from airflow_provider_stably.runs.watch_result import WatchEnd, WatchResult

NEEDS_REFERENCES = pytest.mark.skipif(
    not hasattr(Asset, "ref"), reason="Airflow 3.0 brought references to assets"
)


class _EventOf:
    """Has one event for whatever is asked; assets of Airflow 3.1 cannot be keys of a dictionary."""

    def __init__(self, event):
        self._event = event

    def __getitem__(self, outlet):
        return self._event


def _extra(context, outlet, *, status="PASSED"):
    """Publish a run of a task with one outlet; return the ``extra`` of its event."""
    event = SimpleNamespace(extra={"mine": 1})
    context["task"].outlets = [outlet]
    context["outlet_events"] = _EventOf(event)
    result = WatchResult(WatchEnd.FINISHED, RunSummary.of(RunReference("r1", "p1"), Run("r1", status)))
    publish(context, result, result.error())
    return event.extra


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Asset("stably://a"), id="asset"),
        pytest.param(lambda: Asset.ref(name="a"), id="name", marks=NEEDS_REFERENCES),
        pytest.param(lambda: Asset.ref(uri="stably://a"), id="uri", marks=NEEDS_REFERENCES),
    ],
)
def test_an_assets_event_says_which_run_passed(context, make):
    """Beside what the author of the DAG put there; references to assets have events, too."""
    extra = _extra(context, make())

    assert extra.items() >= {"mine": 1, "run_id": "r1", "project_id": "p1", "status": "PASSED"}.items()


def test_a_branch_that_was_asked_for_is_on_one_line(context, caplog):
    """Whoever triggers a DAG run may have chosen it, and makes no line of the log with it."""
    context["task"].outlets = []
    run = Run("r1", "PASSED", branch_name="main")
    result = WatchResult(WatchEnd.FINISHED, RunSummary.of(RunReference("r1", "p1"), run))

    publish(context, result, None, branch="main\n[ERROR] forged")

    assert "not on 'main\\n[ERROR] forged'" in caplog.text


def test_what_is_no_asset_gets_nothing(context):
    """An alias has no event of its own, and a run that failed has none at all."""
    assert _extra(context, AssetAlias("alias")) == {"mine": 1}
    assert _extra(context, Asset("stably://a"), status="FAILED") == {"mine": 1}

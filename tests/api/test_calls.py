"""What is sent to the API, and which ids may be."""

import pytest

from airflow_provider_stably.api import calls
from airflow_provider_stably.exceptions import (
    StablyInvalidIdError,
)

START = calls.start_run("p1")
GET = calls.get_run("p1", "r1")
CANCEL = calls.cancel_run("p1", "r1")


def test_calls_are_as_documented():
    """Method, path and body of the three calls are those of the documentation."""
    start = calls.start_run(
        "p1", playwright_project_name="smoke", branch="main", environment="staging", env_overrides={"A": "1"}
    )

    assert (str(START), START.body) == ("POST /v1/projects/p1/runs", {})
    assert start.body == {
        "playwrightProjectName": "smoke",
        "branch": "main",
        "environment": "staging",
        "envOverrides": {"A": "1"},
    }
    assert (str(GET), GET.body) == ("GET /v1/projects/p1/runs/r1", None)
    assert (str(CANCEL), CANCEL.body) == ("POST /v1/projects/p1/runs/cancel", {"where": {"runId": "r1"}})


def test_a_call_does_not_show_its_body():
    """Environment overrides may be secret, so neither str nor repr of a call shows them."""
    call = calls.start_run("p1", env_overrides={"TOKEN": "very-secret"})

    assert "very-secret" not in repr(call) + str(call)


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a/b", "a b", "a?b", "a%2Fb", "ä", "a\n", "a,b", None, 7, ["a"]], ids=repr
)
def test_a_malformed_id_never_gets_into_a_url(value):
    """Every builder of a URL refuses an id that is not one, saying which kind."""
    for build in (
        calls.start_run,
        lambda bad: calls.get_run(bad, "r"),
        lambda bad: calls.run_url(bad, "r"),
    ):
        with pytest.raises(StablyInvalidIdError, match=r"project.id") as caught:
            build(value)
        assert (caught.value.kind, caught.value.value) == ("project", value)
    for build in (calls.get_run, calls.cancel_run, calls.run_url):
        with pytest.raises(StablyInvalidIdError, match=r"run.id"):
            build("p", value)


@pytest.mark.parametrize("value", ["abc123", "cm4x9k2q80001abcdefghijkl", "a.b_c~d-e", "...", "None"])
def test_a_wellformed_id_is_left_as_it_is(value):
    """Ids are opaque: anything that is safe in a path is sent unchanged."""
    assert calls.get_run(value, value).path == f"/v1/projects/{value}/runs/{value}"


def test_the_run_page_has_the_dashboards_address():
    """The run's address is the one that the vendor's clients print."""
    url = calls.run_url("p1", "r1")

    assert url == "https://app.stably.ai/project/p1/playwright/history/r1?tab=specs"

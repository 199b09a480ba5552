"""What is believed of failed polls, and when: a table, without a clock."""

import importlib

import pytest

from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyConfigError,
    StablyHTTPError,
    StablyNotFoundError,
    StablyResponseError,
    StablyUnreachableError,
)
from airflow_provider_stably.runs import belief
from airflow_provider_stably.runs.belief import Belief, Doubt
from tests.runs.conftest import WINDOWS

REFUSED = StablyAuthError("401", status=401, detail="")
FORBIDDEN = StablyAuthError("403", status=403, detail="")
MISSING = StablyNotFoundError("404", status=404, detail="", is_from_api=True)
PAGE = StablyNotFoundError("404 as a page", status=404, detail="<html>")
NO_TRUST = StablyUnreachableError("certificate", request_sent=False, is_local=True)
NO_CONNECTION = StablyConfigError("not defined", conn_id="c", field="conn_id")
PASSING = [
    PAGE,
    StablyUnreachableError("dropped", request_sent=True),
    StablyResponseError("html", status=200, content_type="text/html", detail=""),
    *(
        StablyHTTPError(str(status), status=status, detail="")
        for status in (400, 408, 429, 500, 502, 522, 530)
    ),
]


def _believed_after(seconds, *errors, **options):
    """Return what is believed when polls have failed so, evenly spread over some seconds."""
    believing = Belief(**{"key_has_worked": True, **options})
    times = [1000.0 + seconds * index / (len(errors) - 1) for index in range(len(errors))]
    return [believing.failed(error, now) for error, now in zip(errors, times, strict=True)][-1]


def test_the_windows_are_those_of_the_docs():
    """Nobody shortens a window without seeing this: outages of a quarter of an hour are real."""
    fresh = importlib.util.module_from_spec(belief.__spec__)
    belief.__spec__.loader.exec_module(fresh)

    assert {name: getattr(fresh, name) for name in WINDOWS} == WINDOWS


@pytest.mark.parametrize(
    ("errors", "options", "seconds", "doubt"),
    [
        pytest.param([REFUSED] * 5, {}, 900, Doubt.REFUSED, id="a key that has worked"),
        pytest.param([REFUSED, FORBIDDEN] * 3, {}, 900, Doubt.REFUSED, id="401 and 403 in turn"),
        pytest.param([REFUSED] * 5, {"key_has_worked": False}, 120, Doubt.REFUSED, id="a key that never did"),
        pytest.param([MISSING] * 5, {}, 120, Doubt.MISSING, id="a run that is not found"),
        pytest.param([PAGE] * 5, {"key_has_worked": False}, 120, Doubt.MISSING, id="a host that is wrong"),
        pytest.param([NO_TRUST] * 5, {"local_seconds": 300}, 300, Doubt.LOCAL, id="no trust"),
        pytest.param([NO_CONNECTION] * 5, {"local_seconds": 300}, 300, Doubt.LOCAL, id="no connection"),
    ],
)
def test_a_doubt_is_believed_when_it_has_lasted(errors, options, seconds, doubt):
    """Each kind has its window, and nothing is believed a second before its end."""
    assert _believed_after(seconds, *errors, **options) is doubt
    assert _believed_after(seconds - 1, *errors, **options) is None


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_passing_trouble_is_never_believed(error):
    """An API that is down, slow or broken ends no wait, however long."""
    assert _believed_after(1e7, *[error] * 5, local_seconds=300) is None


def test_a_worker_outlasts_its_own_network_trouble():
    """Only a trigger hands a run back."""
    assert _believed_after(1e7, *[NO_TRUST] * 5) is None


@pytest.mark.parametrize("between", [PAGE, MISSING], ids=["404 as a page", "404"])
def test_another_failure_starts_the_window_anew(between):
    """Every poll of the window has to say the same."""
    assert _believed_after(1000, *[REFUSED] * 4, between, REFUSED) is None


def test_an_answer_between_starts_the_window_anew():
    """After an answer a refusal has to last again, and the key counts as one that has worked."""
    believing = Belief(key_has_worked=False)
    believing.failed(REFUSED, 0.0)
    believing.answered()

    said = [believing.failed(REFUSED, now) for now in (130.0, 260.0, 500.0, 1000.0, 1030.0)]

    assert said == [None, None, None, None, Doubt.REFUSED]


def test_the_apis_own_404_shows_that_the_key_works():
    """It would have refused another; a page of a front end says nothing of it."""
    for first, doubt in [(MISSING, None), (PAGE, Doubt.REFUSED)]:
        believing = Belief(key_has_worked=False)
        believing.failed(first, 0.0)

        assert [believing.failed(REFUSED, now) for now in (1.0, 40.0, 80.0, 120.0, 121.0)][-1] is doubt


def test_a_few_polls_far_apart_are_not_believed():
    """A sensor that polls every half hour may meet two bad moments."""
    assert _believed_after(7200, *[REFUSED] * 4) is None


def test_a_lasting_failure_is_logged_once_a_minute():
    """The first failure is logged at once, the next after a minute, whatever it is."""
    believing = Belief(key_has_worked=True)

    def told(error, now):
        believing.failed(error, now)
        return believing.remind(now)

    assert [told(REFUSED, now) for now in (0.0, 2.0, 59.0, 60.0, 61.0)] == [True, False, False, True, False]
    assert not told(MISSING, 62.0)
    assert told(MISSING, 125.0)


def test_a_doubt_says_since_when_and_until_when():
    """Whoever reads the log knows how long this may go on."""
    believing = Belief(key_has_worked=True)

    believing.failed(REFUSED, 0.0)

    assert str(believing) == "this began at 00:00:00 UTC, and ends the wait if it lasts until 00:15:00 UTC"


def test_a_clock_that_is_set_back_delays_no_reminder():
    """Each goes with a look at the connection, whose key may have been rotated."""
    belief = Belief(key_has_worked=True)
    assert belief.remind(10_000.0)

    assert belief.remind(10_000.0 - 3_600.0)

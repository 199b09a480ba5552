"""Which calls are sent again, when, and what the last failure means."""

import pytest

from airflow_provider_stably.api import calls, retries
from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyHTTPError,
    StablyResponseError,
    StablyUnreachableError,
)

START = calls.start_run("p1")
GET = calls.get_run("p1", "r1")
CANCEL = calls.cancel_run("p1", "r1")
REFUSED = StablyUnreachableError("refused", request_sent=False)
DROPPED = StablyUnreachableError("dropped", request_sent=True)


def _http(status, retry_after=None):
    return StablyHTTPError(str(status), status=status, detail="", retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "get_and_cancel", "start", "ambiguous"),
    [
        pytest.param(REFUSED, True, True, False, id="refused"),
        pytest.param(DROPPED, True, False, True, id="dropped"),
        pytest.param(_http(429), True, True, False, id="429"),
        pytest.param(_http(429, 3.0), True, True, False, id="429, later"),
        pytest.param(_http(503, 3.0), True, True, False, id="503, later"),
        pytest.param(_http(503), True, False, True, id="503"),
        pytest.param(_http(500), True, False, True, id="500"),
        pytest.param(_http(502), True, False, True, id="502"),
        pytest.param(_http(504), True, False, True, id="504"),
        *[
            pytest.param(_http(status), True, False, True, id=str(status))
            for status in (506, 507, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530, 599)
        ],
        pytest.param(_http(425), True, False, False, id="425"),
        pytest.param(_http(423), False, False, False, id="423"),
        pytest.param(_http(505), False, False, True, id="505"),
        pytest.param(_http(501), False, False, True, id="501"),
        pytest.param(_http(302), False, False, True, id="302"),
        pytest.param(_http(400), False, False, False, id="400"),
        pytest.param(_http(401), False, False, False, id="401"),
        pytest.param(_http(404), False, False, False, id="404"),
        pytest.param(_http(408), True, False, True, id="408"),
        pytest.param(_http(409), False, False, False, id="409"),
        pytest.param(_http(422), False, False, False, id="422"),
        pytest.param(
            StablyResponseError("html", status=200, content_type="", detail=""),
            False,
            False,
            True,
            id="not JSON",
        ),
    ],
)
def test_a_start_is_replayed_only_if_not_accepted(error, get_and_cancel, start, ambiguous):
    """Reads and cancels are replayed after anything passing, a start only if it provably was not accepted."""
    assert retries.may_replay(GET, error) is get_and_cancel
    assert retries.may_replay(CANCEL, error) is get_and_cancel
    assert retries.may_replay(START, error) is start
    assert isinstance(retries.as_ambiguous_start(START, error), StablyAmbiguousStartError) is ambiguous
    assert retries.as_ambiguous_start(CANCEL, error) is error


def test_a_bug_is_not_replayed():
    """An error that is not about the API is not taken for a passing one."""
    assert not retries.may_replay(GET, ZeroDivisionError())


def test_an_ambiguous_start_says_where_its_run_may_be():
    """The message names the project, the possible run, the dashboard page and the cause."""
    error = retries.as_ambiguous_start(START, DROPPED)

    assert "untracked run may exist" in str(error)
    assert "https://app.stably.ai/project/p1" in str(error)
    assert "dropped" in str(error)


def test_delays_grow_are_jittered_and_bounded(monkeypatch):
    """Without a wish of the API the delay doubles, with up to half taken off, and stays below its cap."""
    monkeypatch.setattr(retries, "FIRST_DELAY_SECONDS", 0.5)

    delays = [[retries.delay_before_replay(DROPPED, attempt) for _ in range(200)] for attempt in (1, 2, 3, 9)]

    for longest, drawn in zip((0.5, 1, 2, 8), delays, strict=True):
        assert longest / 2 <= min(drawn) <= max(drawn) <= longest
        assert max(drawn) - min(drawn) > longest / 4


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        pytest.param(0.0, 4.0, 8.0, id="a date that has passed: our own delay"),
        pytest.param(7.0, 7.0, 8.75, id="seconds"),
        pytest.param(3600.0, 60.0, 75.0, id="an hour"),
    ],
)
def test_retry_after_lengthens_the_delay(asked, least, most, monkeypatch):
    """What the API asks for never shortens a delay, has a limit, and is jittered upwards."""
    monkeypatch.setattr(retries, "FIRST_DELAY_SECONDS", 0.5)

    delays = [retries.delay_before_replay(_http(503, asked), 9) for _ in range(200)]

    assert least <= min(delays) <= max(delays) <= most
    assert len(set(delays)) > 100


def test_who_has_seconds_heeds_seconds_of_a_retry_after():
    """A callback that waited for half a minute would end without a second attempt."""
    delays = [retries.delay_before_replay(_http(429, 30.0), 1, heeded=5.0) for _ in range(200)]

    assert 5.0 <= min(delays) <= max(delays) <= 6.25

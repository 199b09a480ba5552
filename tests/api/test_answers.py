"""What an HTTP answer means: a result, or an error that shows no secret."""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from airflow_provider_stably.api import answers, calls
from airflow_provider_stably.api.answers import Answer
from airflow_provider_stably.api.endpoint import Endpoint
from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyHTTPError,
    StablyNotFoundError,
    StablyResponseError,
    StablyUnreachableError,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
START = calls.start_run("p1")
GET = calls.get_run("p1", "r1")
CANCEL = calls.cancel_run("p1", "r1")
ENDPOINT = Endpoint("https://api.example", "ab/cd+ef123456==", label="connection 'c'")

REFUSED = StablyUnreachableError("refused", request_sent=False)
DROPPED = StablyUnreachableError("dropped", request_sent=True)


def _http(status, retry_after=None):
    return StablyHTTPError(str(status), status=status, detail="", retry_after=retry_after)


def _answer(status, body=b"{}", **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def _read(call, answer):
    return answers.read_answer(call, answer, ENDPOINT, now=NOW)


def test_good_answers_are_read():
    """Each call reads its own answer; fields added later are ignored."""
    assert _read(START, _answer(200, {"runId": "r1", "new": 1})) == "r1"
    assert _read(START, _answer(201, {"runId": "r1"})) == "r1"
    assert _read(GET, _answer(200, {"status": "PASSED"})).is_passed
    assert _read(CANCEL, _answer(200, {"cancelled": [{"runId": "r1"}, {"runId": 3}, "x"]})) == ("r1",)
    assert _read(CANCEL, _answer(200, {"cancelled": []})) == ()


@pytest.mark.parametrize(
    ("call", "body"),
    [
        pytest.param(START, b"", id="start, empty"),
        pytest.param(START, b"<html>", id="start, HTML"),
        pytest.param(START, b"[" * 100_000, id="start, nested"),
        pytest.param(START, b"\xff\xfe", id="start, not UTF-8"),
        pytest.param(START, {}, id="start, no id"),
        pytest.param(START, {"runId": 3}, id="start, id a number"),
        pytest.param(START, {"runId": "../x"}, id="start, id not usable"),
        pytest.param(START, ["r1"], id="start, a list"),
        pytest.param(GET, {}, id="get, no status"),
        pytest.param(CANCEL, {}, id="cancel, no list"),
        pytest.param(CANCEL, None, id="cancel, null"),
        pytest.param(CANCEL, {"cancelled": "r1"}, id="cancel, text"),
    ],
)
def test_an_unexpected_body_is_an_error_with_its_facts(call, body):
    """An unexpected body raises an error with status, content type and the body's start."""
    with pytest.raises(StablyResponseError, match=r"\(connection 'c'\)") as caught:
        _read(call, _answer(200, body, content_type="text/html"))

    assert (caught.value.status, caught.value.content_type) == (200, "text/html")
    assert len(caught.value.detail) <= 500


def test_an_answer_does_not_show_what_it_holds():
    """The server may have echoed a secret in a header or in the body: a repr has neither."""
    answer = Answer(200, {"x": "very-secret"}, b"very-secret")

    assert "very-secret" not in repr(answer)


def test_a_body_that_was_cut_is_an_error():
    """A body longer than the bound is refused, even if its start is JSON."""
    start = b'{"runId": "r1"}'.ljust(answers.MAX_ANSWER_BYTES + 1)
    answer = Answer.received(200, [], start)

    with pytest.raises(StablyResponseError, match="longer than"):
        _read(START, answer)


@pytest.mark.parametrize(
    ("status", "error"),
    [(s, StablyHTTPError) for s in (100, 301, 302, 307, 400, 409, 422, 429, 500, 502, 503, 504, 599, 999)]
    + [(401, StablyAuthError), (403, StablyAuthError), (404, StablyNotFoundError)],
)
def test_any_status_but_2xx_is_an_error_of_its_kind(status, error):
    """A no from the API raises the error for its status and names call, connection and detail."""
    with pytest.raises(StablyHTTPError) as caught:
        _read(GET, _answer(status, {"error": "because"}))

    assert type(caught.value) is error
    assert (caught.value.status, caught.value.detail) == (status, "because")
    assert f"GET /v1/projects/p1/runs/r1 answered {status}" in str(caught.value)
    assert "connection 'c'" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "step"),
    [({"error": "no such run"}, "check the project id"), (b"<h1>404</h1>", "check the connection's host")],
    ids=["the API's", "a front end's"],
)
def test_a_404_says_what_to_check(body, step):
    """A page of a web server or proxy knows nothing of projects and runs."""
    with pytest.raises(StablyNotFoundError, match=step):
        _read(GET, _answer(404, body))


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"x" * 10_000, "x" * 500),
        (b'{"error": {"code": 1}}', '{"error": {"code": 1}}'),
        (b'{"error": "' + b"y" * 10_000 + b'"}', ('{"error": "' + "y" * 10_000)[:500]),
        (b"\xff\xfd", "��"),
        (b"", ""),
    ],
    ids=["long", "other error", "long error", "not UTF-8", "empty"],
)
def test_an_error_shows_the_start_of_any_body(body, detail):
    """The detail of an error is the body's first 500 characters, whatever the body is."""
    with pytest.raises(StablyHTTPError) as caught:
        _read(GET, _answer(502, body))

    assert caught.value.detail == detail


SECRET = "s3cr3t-välue"
START_WITH_SECRETS = calls.start_run(
    "p1",
    env_overrides={"TOKEN": SECRET, "LONGER": f"{SECRET}-and-more", "PORT": "8080", "FILE": "from a file\n"},
)
ESCAPED = {
    "key": ENDPOINT.api_key.replace("+", "\\u002B").replace("/", "\\/"),
    "override": json.dumps(SECRET)[1:-1],
}


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    ("body", "shown"),
    [
        pytest.param(f"key {ENDPOINT.api_key}!", "key ***!", id="key"),
        pytest.param({"error": f"key {ENDPOINT.api_key}!"}, "key ***!", id="key in a JSON error"),
        pytest.param(f'{{"error": "{ESCAPED["key"]}!"}}', "***!", id="escaped key in a JSON error"),
        pytest.param(f'{{"why": "{ESCAPED["key"]}!"}}', "***", id="escaped key in other JSON"),
        pytest.param(f'{{"why": "{ESCAPED["key"]}!', "***", id="escaped key in broken JSON"),
        pytest.param('{"why": "a \\"b\\""}', '{"why": "a \\"b\\""}', id="escapes that hide nothing"),
        pytest.param({"error": f"TOKEN: '{SECRET}'"}, "TOKEN: '***'", id="override"),
        pytest.param({"why": f"TOKEN: '{SECRET}'"}, "***", id="override, other JSON"),
        pytest.param({"error": f"{SECRET}-and-more"}, "***", id="override that begins with another"),
        pytest.param("from a file\n", "***", id="override with a blank at its end"),
        pytest.param({"error": "not a port: 8080"}, "not a port: 8080", id="short override"),
    ],
)
def test_an_echoed_secret_is_not_shown(status, body, shown):
    """Keys and the values of overrides, from five characters on, are cut out; escaped ones hide the whole."""
    answer = _answer(status, body if isinstance(body, dict) else body.encode())

    with pytest.raises((StablyHTTPError, StablyResponseError)) as caught:
        _read(START_WITH_SECRETS, answer)

    assert caught.value.detail == shown
    assert str(caught.value).endswith(f": {shown}")


@pytest.mark.parametrize("secret", [ENDPOINT.api_key, ESCAPED["key"], SECRET, ESCAPED["override"]])
@pytest.mark.parametrize("echoes", [1, 2, 1000])
def test_no_part_of_a_secret_is_left_at_a_cut(secret, echoes):
    """However an echo lies across the end of what is shown or searched, no half of it stays."""
    for filler in range(460, 500) if echoes < 1000 else range(40):
        body = ("~" * filler + secret * echoes + "~" * 5000).encode()
        with pytest.raises(StablyHTTPError) as caught:
            _read(START_WITH_SECRETS, _answer(400, body))

        assert set(caught.value.detail) <= {"~", "*"}


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_echo_escaped_more_than_once_is_not_shown(times):
    """Servers quote the JSON that they were sent in JSON of their own."""
    secret = '-----BEGIN "KEY"-----\n\\p\u00e4ss'
    call = calls.start_run("project-1", env_overrides={"PEM": secret})
    body = {"PEM": secret}
    for _ in range(times):
        body = {"message": json.dumps(body)}

    with pytest.raises(StablyHTTPError) as caught:
        _read(call, _answer(400, body))

    assert "***" in caught.value.detail
    assert "KEY" not in str(caught.value)


@pytest.mark.parametrize("length", [60, 78, 100, 600])
def test_a_secret_in_an_ids_place_is_not_shown_in_part(length):
    """Wherever messages are cut."""
    call = calls.start_run("project-1", env_overrides={"A": "s" * length})

    with pytest.raises(StablyResponseError) as caught:
        _read(call, _answer(200, {"runId": "s" * length + " x"}))

    assert "sss" not in str(caught.value)


def test_a_bad_id_is_shown_without_secrets():
    """A message that quotes a field of an answer is no way around the rule either."""
    with pytest.raises(StablyResponseError) as caught:
        _read(START_WITH_SECRETS, _answer(200, {"runId": f"no {SECRET}"}))

    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    "body",
    [b'{"error": "half \\ud83d a pair\\u0000"}', b"half \xff a pair\0"],
    ids=["JSON", "bytes"],
)
def test_an_error_holds_text_that_airflow_can_keep(status, body):
    """Half a surrogate pair and NUL, which would kill a triggerer, are not in an error."""
    answer = _answer(status, body, content_type="text/\udcff\0")

    with pytest.raises((StablyHTTPError, StablyResponseError)) as caught:
        _read(START, answer)

    for text in (str(caught.value), *map(str, vars(caught.value).values())):
        assert text.encode() == text.replace("\0", "").encode()


@pytest.mark.parametrize("location", ["https://half\udcff\0.example", "https://[::1"])
def test_a_redirects_host_is_text_airflow_can_keep(location):
    """A Location header may hold any bytes."""
    with pytest.raises(StablyHTTPError) as caught:
        _read(GET, _answer(302, b"", location=location))

    assert "\0" not in str(caught.value)
    assert str(caught.value).encode()


def test_a_redirect_names_the_host_without_secrets():
    """A refused redirect says where it led, without credentials, path or query."""
    answer = _answer(302, b"", location="https://user:pw@evil.example/login?token=t")

    with pytest.raises(StablyHTTPError, match=r"redirect to evil\.example") as caught:
        _read(GET, answer)

    assert not any(secret in str(caught.value) for secret in ("pw", "token", "login"))


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("https://tab\there/x", "***"),
        ("https://s/a?b#c@d/x", "***"),
        ("https://evil.example/" + "x" * 5000, "evil.example"),
        ("/login?next=" + "x" * 5000, "the same host"),
        ("https://" + "user" * 2000 + "@evil.example/", "no valid address"),
    ],
    ids=["tab", "slash", "long", "relative", "long user"],
)
def test_a_secret_is_hidden_before_a_host_is_looked_for(location, host):
    """Otherwise a part of it might be taken for the host, or a tab left out of it."""
    call = calls.start_run("project-1", env_overrides={"A": "tab\there", "B": "s/a?b#c@d"})

    with pytest.raises(StablyHTTPError, match=rf"A redirect to {re.escape(host)} was refused"):
        _read(call, _answer(302, b"", location=location))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("5, 120", 120.0),
        ("5, soon", None),
        ("-3", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        (format_datetime(NOW + timedelta(seconds=90)), 90.0),
        ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 12:01:30 -0000", 90.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Mon, 01 Jan 2027 00:00:00 +99999999999999", None),
        ("9" * 400, math.inf),
    ],
)
def test_retry_after_is_read_in_seconds_and_as_a_date(header, seconds):
    """Retry-After gives seconds, never negative; what cannot be read is as if absent."""
    assert answers.retry_after_seconds(header, NOW) == seconds


def test_an_error_carries_retry_after():
    """The API's wish reaches the replay policy."""
    with pytest.raises(StablyHTTPError) as caught:
        _read(GET, _answer(429, retry_after="7"))

    assert caught.value.retry_after == 7


@pytest.mark.parametrize("number", [b"1" * 5000, b"0." + b"1" * 5000, b"-" + b"9" * 101], ids=len)
def test_a_huge_number_is_not_read(number):
    """It takes long to, and does not lose the run."""
    run = _read(
        GET, _answer(200, b'{"status":"FAILED","results":{"testCases":[{"durationMs":%b}]}}' % number)
    )

    assert run.test_results[0].duration_ms is None


@pytest.mark.parametrize(
    ("body", "is_from_api"),
    [
        (b'{"error": "e"}', True),
        (b'{"error": "%b"}' % (b"e" * 15_000), True),
        (b'{"error": "%b"}' % (b"e" * 17_000), False),
        (b'{"error": "e", "x": [%b]}' % (b"1," * 60_000 + b"1"), False),
        (b'{"error": {}}', False),
        (b'{"error": "Not Found", "statusCode": 404, "message": "Route GET:/v1 not found"}', False),
        (b'{"error": "Not Found", "status": 404, "path": "/v1"}', False),
        (b"<html>", False),
        (b"", False),
    ],
    ids=["short", "15 kB", "17 kB", "many values", "no text", "Node", "Java", "HTML", "empty"],
)
def test_an_error_of_the_api_is_short_and_alone(body, is_from_api):
    """A longer body is not parsed to know whose it is; a web framework's error has more in it."""
    with pytest.raises(StablyHTTPError) as caught:
        _read(GET, _answer(400, body))

    assert caught.value.is_from_api is is_from_api


def test_an_unreachable_error_names_only_its_root_kind():
    """A library's message may hold a proxy's password, so only the root error's kind is shown."""
    outer = OSError("https://user:pw@proxy")
    outer.__cause__ = ConnectionRefusedError("https://user:pw@proxy")

    error = answers.unreachable(GET, outer, Endpoint("https://api", "key"), request_sent=False)

    assert str(error).startswith("The API cannot be reached (ConnectionRefusedError): GET /v1/")
    assert "pw" not in str(error)

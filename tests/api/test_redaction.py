"""What of an answer may be kept and shown."""

import json
import random
import string
import time

import pytest

from airflow_provider_stably.api import calls
from airflow_provider_stably.api.endpoint import Endpoint
from airflow_provider_stably.api.redaction import Redactor
from airflow_provider_stably.api.text import one_line, shown
from tests.constants import KEY


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain, \u00fcml\u00e4ut, \U0001f600", "plain, \u00fcml\u00e4ut, \U0001f600"),
        ("a\nb\r\n\tc", r"a\nb\r\n\tc"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x9b31m\x85\x7f", r"\x9b31m\x85\x7f"),
        ("a\u202etxt.exe\u2066\u200f", r"a\u202etxt.exe\u2066\u200f"),
        ("a\u2028b\u2029c\ufeff", r"a\u2028b\u2029c\ufeff"),
        ("half \ud83d a pair, nul \0", r"half \ud83d a pair, nul \x00"),
        ("\n" * 100, "\\n" * 25),
        ("x" * 100, "x" * 50),
    ],
    ids=ascii,
)
def test_text_from_outside_is_one_short_line(text, line):
    """Control characters, ANSI's and those that change a line's direction are shown escaped."""
    assert one_line(text, limit=50) == line


class _Unshowable:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**7,
        "a\n\x1b\ud83d",
        [[[[[[[[[]]]]]]]]] * 100,
        {"a": "x" * 10**7},
        10**10_000,
        _Unshowable(),
        None,
    ],
    ids=["long", "controls", "nested", "mapping", "number", "unshowable", "none"],
)
def test_any_value_can_be_shown(value):
    """Quoting a wrong value neither fails nor fills a screen nor breaks a line."""
    text = shown(value)

    assert len(text) <= 100
    assert text.isprintable()


def test_a_secret_that_html_cannot_unescape_is_hidden():
    """A character reference of thousands of digits is a text like any other."""
    secret = "&#" + "1" * 5000

    assert secret not in Redactor.hiding("sk-key", [secret]).of_body(f"no {secret}".encode())


def test_a_deeply_nested_value_can_be_shown():
    """Deeper than Python's own repr can go."""
    value = []
    for _ in range(100_000):
        value = [value]

    assert len(shown(value)) <= 100
    while value:
        value = value.pop()  # else freeing it takes as deep a stack


@pytest.mark.parametrize("length", [5, 99, 100, 101, 1000, 100_003])
@pytest.mark.parametrize("form", ["as it is", "escaped", "cut", "twice"])
def test_a_secret_of_any_length_is_hidden(length, form):
    """A private key of many lines is hidden like a password, also where its echo is cut."""
    secret = "".join(random.Random(length).choices(string.printable, k=length)).strip().ljust(5, "x")  # noqa: S311
    echo = {
        "as it is": secret,
        "escaped": json.dumps(secret),
        "cut": secret[: -length // 7],
        "twice": secret * 2,
    }
    redactor = Redactor.hiding(KEY, [secret])

    text = redactor.of(f"before {echo[form]}", is_cut=form == "cut")

    assert all(secret[at : at + 5] not in text for at in range(min(length, 2000) - 4))


def test_a_secret_that_a_cut_would_part_is_hidden():
    """However long its escapes are: those of an emoji, four times over, take 26 characters."""
    escaped = "".join(f"{chr(92) * 8}ud83d{chr(92) * 8}ude{0x40 - index % 64:02x}" for index in range(100))
    secret = json.loads(f'"{escaped.replace(chr(92) * 8, chr(92))}"')

    text = Redactor.hiding(KEY, [secret]).of(f"before {escaped}{'x' * 5000}")

    assert "ud83d" not in text


def test_a_long_secret_leaves_something_to_read():
    """What is cut off an answer's end, lest a part of a secret stay, does not grow with the secret."""
    redactor = Redactor.hiding(KEY, ["".join(random.Random(1).choices(string.ascii_letters, k=100_000))])  # noqa: S311

    assert redactor.of("no such branch; " * 1000, is_cut=True).startswith("no such branch; ")


def test_a_short_value_is_shown():
    """A word like ``true`` is no secret, or every message with it would have a hole."""
    assert Redactor.hiding(KEY, ["true"]).of("is it true?") == "is it true?"


@pytest.mark.parametrize(
    "read_as", [("latin-1", "strict"), ("utf-8", "surrogateescape")], ids=["requests", "aiohttp"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_secret_in_a_header_is_hidden(encoding, read_as):
    """Each HTTP library has its own idea of a header's encoding."""
    secret = "p\u00e4ss w0rd\u00fc"

    text = Redactor.hiding(KEY, [secret]).of(f"a {secret} b".encode(encoding).decode(*read_as))

    assert text == "a *** b"


@pytest.mark.parametrize(
    "text",
    [
        "50% off &amp; more",
        r"C:\new\x41",
        "a+b=c%20d",
        "caf\u00e9 &eacute;",
        "%zz &# \\",
        r'toHaveURL("https://stably.test/?a=1&b=%20c+d&amp;e") \u001b[31m C:\temp\new',
        r'{"message":"{\"why\":\"\\\"path\\\" C:\\\\tmp\",\"url\":\"https:\/\/a.test\/?q=%2520x+y&amp;z\"}"}',
    ],
)
def test_what_holds_no_secret_stays_as_it_came(text):
    """A title with escapes in it is not altered."""
    assert Redactor.hiding(KEY, ["sent-in-a-start", "a63-\u20ac"]).of(text) == text


def test_the_secrets_of_the_present_call_are_hidden():
    """However many there are, and however many other calls have sent since; it is the oldest that go."""
    many = [f"of-this-start-{index}-" for index in range(1500)]
    others = [f"of-others-{index}-" for index in range(800)]

    present = Redactor.hiding(KEY, many)
    Redactor.hiding(KEY, ["renewed-value"])
    for batch in range(5):
        Redactor.hiding(KEY, [f"{batch}{other}" for other in others])
        later = Redactor.hiding(KEY, ["renewed-value"])

    assert {present.of(f"see {text}") for text in many} == {"see ***"}
    assert later.of("see renewed-value") == "see ***"
    assert len(later.values) == 1000


def test_a_secret_that_is_sent_again_is_kept():
    """A value of every start of a DAG is not the oldest because it was the first."""
    for batch in range(2):
        Redactor.hiding(KEY, ["in-every-start"])
        Redactor.hiding(KEY, [f"of-batch-{batch}-{index}" for index in range(800)])

    assert Redactor.hiding(KEY).of("see in-every-start") == "see ***"


def test_a_secret_is_hidden_in_later_answers():
    """A status, a title or an error may echo what another client's start has sent."""
    Redactor.hiding(KEY, ["sent-in-a-start"])

    run = calls.get_run("p", "r").read(
        {
            "status": "is sent-in-a-start",
            "branchName": KEY,
            "results": {
                "testCases": [
                    {"title": "sent-in-a-start\n", "status": "a\nb"},
                    {"title": "and \\u0073ent-in-a-start"},
                ]
            },
        },
        Redactor.hiding("another key"),
    )

    assert run.status == "is ***"
    assert [case.title for case in run.test_results] == [r"***\n", "***"]
    assert run.test_results[0].status == r"a\nb"


def test_another_connections_key_is_hidden():
    """Or the old one after a rotation; however many values of starts came since, and in a run id too."""
    Redactor.hiding("key-of-another-team", proxy_secrets=["hush-hush"])
    Redactor.hiding(KEY, [f"of-a-start-{index}" for index in range(1500)])

    redactor = Redactor.hiding(KEY)

    assert redactor.of("neither key-of-another-team nor hush-hush") == "neither *** nor ***"
    with pytest.raises(ValueError, match="no run id"):
        calls.start_run("p").read({"runId": "key-of-another-team"}, redactor)


def test_the_keys_that_are_remembered_are_bounded():
    """A process that meets ever new keys keeps the last hundred."""
    for index in range(150):
        redactor = Redactor.hiding(f"key-number-{index}")

    assert len(redactor.values) == 99


def test_a_known_status_is_no_secret():
    """A run that passed is not lost because an environment override is the word PASSED."""
    redactor = Redactor.hiding(KEY, ["PASSED", "FAILED"])
    answer = {"status": "PASSED", "results": {"testCases": [{"title": "a", "status": "FAILED"}]}}

    run = calls.get_run("p", "r").read(answer, redactor)

    assert run.is_passed
    assert run.test_results[0].status == "FAILED"


@pytest.mark.parametrize(
    "run_id",
    [
        KEY,
        f"x{KEY}",
        "sent-in-a-start",
        "x-sent-in-a-start-y",
        "short",
        "x" * 201,
        "a b",
        "",
        "..",
        None,
        ["r"],
    ],
)
def test_a_run_id_that_echoes_or_is_none_is_refused(run_id):
    """It would go into XComs, links and logs."""
    redactor = Redactor.hiding(KEY, ["sent-in-a-start", "short"])

    with pytest.raises(ValueError, match="no run id") as caught:
        calls.start_run("p").read({"runId": run_id}, redactor)

    assert not isinstance(run_id, str) or len(run_id) < 3 or run_id not in str(caught.value)


@pytest.mark.parametrize(
    ("echo", "shown"),
    [(r"a\vb\0c\7d-hush", "***"), ("a\vb\0c\ad-hush", "no ***!"), ("a%0Bb%00c%07d-hush", "***")],
)
def test_a_secret_of_control_characters_is_hidden(echo, shown):
    """As it is, or by the short escapes of JavaScript and C."""
    assert Redactor.hiding(KEY, ["a\vb\0c\ad-hush", "\0" * 5]).of(f"no {echo}!") == shown


def test_a_short_value_within_a_run_id_is_chance():
    """The id is read: otherwise a run would go on untracked."""
    assert calls.start_run("p").read({"runId": "a-short-1"}, Redactor.hiding(KEY, ["short"])) == "a-short-1"


def test_titles_and_statuses_are_cut():
    """Nothing of an answer fills an XCom or an event."""
    answer = {
        "status": "S" * 10**6,
        "branchName": "b" * 10**6,
        "results": {"testCases": [{"title": "t" * 10**6, "status": "s" * 10**6}]},
    }

    run = calls.get_run("p", "r").read(answer, Redactor.hiding(KEY))

    [case] = run.test_results
    assert {len(text) for text in (run.status, run.branch_name, case.title, case.status)} == {200}


def test_reprs_show_no_secret():
    """A reporter that prints local variables prints these."""
    redactor = Redactor.hiding(KEY, ["sent-in-a-start"])
    endpoint = Endpoint("https://stably.example", KEY, proxy="http://user:sent-in-a-start@p.example")

    for shown_value in (repr(redactor), repr(endpoint)):
        assert KEY not in shown_value
        assert "sent-in-a-start" not in shown_value


def test_cutting_comes_before_looking_for_secrets():
    """However long a text, quoting it takes a moment (a millisecond was measured)."""
    redactor = Redactor.hiding(KEY, [f"secret-{index}" for index in range(100)])
    began = time.perf_counter()

    redactor.of("\\u0041" * 3_000_000)
    redactor.of_body(b"\\" * 16_000_000)

    assert time.perf_counter() - began < 2

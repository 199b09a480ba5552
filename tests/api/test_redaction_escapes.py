"""A secret in an answer is not shown, however it is escaped or encoded there."""

import html
import json
import re
from urllib.parse import quote, quote_plus

import pytest

from airflow_provider_stably.api.redaction import Redactor
from tests.constants import KEY

SPECIAL = """p\u00e4ss '&"w0rd"' <+> 100%/\\ \U0001f600\x1b"""
FORMS = {
    "JSON": json.dumps,
    "JSON, not ASCII": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON for HTML": lambda text: json.dumps(text).replace("&", r"\u0026").replace("<", r"\u003c"),
    "repr": repr,
    "repr of bytes": lambda text: repr(text.encode()),
    "ascii": ascii,
    "HTML": html.escape,
    "HTML, quotes left": lambda text: html.escape(text, quote=False),
    "HTML by numbers": lambda text: re.sub("[^\x1b]", lambda found: f"&#{ord(found[0])};", text),
    "percent": quote,
    "percent, all": lambda text: quote(text, safe=""),
    "percent, lower case": lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")),
    "percent, every byte": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "form": quote_plus,
    "JavaScript, code points": lambda text: "".join(f"\\u{{{ord(letter):x}}}" for letter in text),
    "JavaScript, escape()": lambda text: re.sub(r"\\(u....)", r"%\1", json.dumps(text)),
    "octal": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
}


@pytest.mark.parametrize("outer", [str, json.dumps, html.escape, quote], ids=["", "JSON", "HTML", "percent"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "secret", [SPECIAL, r"a%41&lt;\n+b", "kept + as it is"], ids=["special", "looks", "plus"]
)
def test_an_escaped_secret_is_hidden(secret, form, outer):
    """Whichever way a server escapes an echo, and what it puts the echo into once more."""
    echo = outer(f"id=7&x={FORMS[form](secret)};")

    text = Redactor.hiding(KEY, [secret]).of(f"before {echo} after")

    assert "***" in text
    for part in ("w0rd", "%41", "lt", "kept", "as it is"):
        assert part not in text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("whole", "part"),
    [
        ('{"user": "bot@corp.example", "key": "w0rd_"}', "bot@corp.example"),
        ("https://corp.example/login?token=w0rd_&next=/", "https://corp.example"),
        ("stably_live_w0rd_", "stably"),
        ("id/w0rd_+==", "00000"),
    ],
    ids=["JSON", "URL", "a word", "within an escape"],
)
def test_a_secret_that_holds_another_is_hidden(whole, part, form):
    """Hiding the shorter one first would leave the rest of the longer, once it is escaped."""
    text = Redactor.hiding(KEY, [whole, part]).of(f"before {FORMS[form](whole)} after")

    assert "***" in text
    assert "w0rd" not in text


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_that_ends_in_a_backslash_is_hidden(form):
    """Where it stands in quotes, that is not the escape of the quote: HTML leaves a backslash as it is."""
    secret = "w0rd & co\\"

    text = Redactor.hiding(KEY, [secret]).of(f'before "{FORMS[form](secret)}" after')

    assert "***" in text
    assert "w0rd" not in text


def test_a_secret_of_blanks_and_pluses_is_hidden_in_a_form():
    """A plus stands for either there, and what is escaped within has to be read on after it."""
    secret = "BEGIN KEY\nw0+rd/w1+rd=="

    text = Redactor.hiding(KEY, [secret]).of(f"payload={quote_plus(json.dumps(secret))}&x")

    assert "w1" not in text


BEGUN = ["\\", r"\x3", r"\u00", "C:\\tmp\\", "%", "%4", "%u00", "&", "&#", "&#x", "&#1"]


@pytest.mark.unmeasured
@pytest.mark.parametrize("outer", [str, json.dumps, html.escape, quote], ids=["", "JSON", "HTML", "percent"])
@pytest.mark.parametrize("before", BEGUN)
@pytest.mark.parametrize(
    "secret", ["a63-\u20ac\\w", "f81>4_", "09/_0", "lt;<\u00e4>", ";-\u00e9=/", "\u00e4<\\x3e-"], ids=ascii
)
def test_a_secret_that_an_escape_would_swallow_is_hidden(secret, before, outer):
    """What stands before an echo may make an escape with its beginning, and the rest is escaped."""
    redactor = Redactor.hiding(KEY, [secret])

    for form in FORMS.values():
        echo = form(secret)
        text = redactor.of(outer(f"{before}{echo} after"))

        assert "***" in text
        assert echo not in text or echo == secret[: len(echo)]


def test_a_secret_that_is_escaped_in_two_ways_is_hidden():
    """One server escapes what HTML has names for, the next one the rest."""
    redactor = Redactor.hiding(KEY, ["n+\u00e4\u20ac\U0001f600"])

    assert redactor.of("before n+%C3%A4&euro;%F0%9F%98%80 after") == "***"
    assert redactor.of(r"before n%2b&#228;\xe2\x82\xac\ud83d\ude00 after") == "***"


def test_a_text_that_says_too_much_is_not_shown():
    """Each way of unescaping it is read, and together they would take too long."""
    text = " ".join(f"{'%' + '25' * 4}{number} &{'amp;' * 4} {chr(92) * 16}n +" for number in range(9))

    assert Redactor.hiding(KEY, ["sent-in-a-start"]).of(text) == "***"


@pytest.mark.parametrize("escape", [str, json.dumps, quote, lambda text: f"\u041e {text}"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_a_secret_with_nul_beside_its_letters_is_hidden(encoding, escape):
    """So UTF-16 looks where it is read as something else, before or after it was escaped."""
    misread = KEY.encode(encoding).decode("latin-1")

    assert "***" in (text := Redactor.hiding(KEY).of(f"no {escape(misread)}!"))
    assert KEY[:4] not in text.replace("\\x00", "").replace("%00", "")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("start", ["\u041e\u0448\u0438\u0431\u043a\u0430: ", "\u65e5\u672c: "], ids=ascii)
def test_a_page_that_begins_in_any_script_hides_secrets(start, encoding):
    """Its encoding cannot be told from its first letters then."""
    text = Redactor.hiding(KEY, ["p\u00e4ss w0rd"]).of_body(f"{start}p\u00e4ss w0rd {KEY}".encode(encoding))

    assert text.endswith("*** ***")


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1", "cp1252"]
)
def test_a_secret_in_another_encoding_is_hidden(encoding):
    """Some servers write their error pages in the encoding of their machine, and say so or not."""
    secret = "p\u00e4ss w0rd\u00fc"

    text = Redactor.hiding(KEY, [secret]).of_body(f"<html>no {secret} nor {KEY}</html>".encode(encoding))

    assert text == "<html>no *** nor ***</html>"


@pytest.mark.parametrize("escape", [json.dumps, html.escape, quote], ids=["JSON", "HTML", "percent"])
def test_a_secret_is_hidden_four_escapes_deep(escape):
    """An error page quotes what another page quoted, and so on."""
    echo = SPECIAL
    for _ in range(4):
        echo = escape(echo)

    assert "w0rd" not in Redactor.hiding(KEY, [SPECIAL]).of(f"before {echo} after")

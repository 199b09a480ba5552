"""What of an answer may be kept and shown: without secrets (some servers echo them), and short. No I/O."""

from __future__ import annotations

import html
import json
import re
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from airflow_provider_stably.api.text import one_line

MAX_CHARACTERS = 500
"""How much of a body is quoted."""

SHORTEST_SECRET = 5
"""Shorter values of environment overrides are shown, as by Airflow 3's masker: words like ``true``."""

SHORTEST_IN_AN_ID = 8
"""A shorter secret may be a part of an id by chance."""

_LONGEST_PIECE = 100
"""A longer secret is searched for in pieces too, so that what a cut may leave of one is short."""

_HEX = "[0-9A-Fa-f]"
_ESCAPES = re.compile(
    rf"(?:\\(?:u{_HEX}{{4}}|u\{{{_HEX}{{1,6}}\}}|U{_HEX}{{8}}|x{_HEX}{{2}}|[0-3]?[0-7]{{1,2}}|[\"'\\/abfnrtv]))+"
)
"""Those of JSON, JavaScript, Python and C."""

_ESCAPE = re.compile(rf"\\(?:[uUx]\{{?({_HEX}+)\}}?|([0-7]+)|(.))")
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_MISREAD = re.compile("[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
"""UTF-8 that was read as Latin-1."""

_MAY_BE_ESCAPED = re.compile(r"[\\&%+]")
"""As a rule a text is not: looking once for all ways spares a poll, and ten thousand titles, the rest."""

_MAX_ESCAPES = 4
"""How many times over an escaped secret is recognized: JSON quoted in JSON quoted in HTML ..."""

_LONGEST_ESCAPE: int = 2 * (2 ** (_MAX_ESCAPES - 1) + len("ud83d"))
"""Characters that one character of a secret may take, escaped so many times."""

_REPEATED = re.compile(r"(?:\*\*\*)+")

_MAX_READINGS = 200
"""In how many ways a text is unescaped; one that has more is not shown."""

_BEGUN_ESCAPE = re.compile(r"[\\%&][A-Za-z0-9#{]{0,9}$")
"""The beginning of an escape, at a text's end: what follows may be its rest, or a secret."""

_BEGUN = ("\\", r"\x0", r"\u{1", "&", "&#", "&#1")
"""One of each kind of such beginnings: does a secret behind it get lost when the text is unescaped?"""

_BEGINNING = re.compile(r"[A-Za-z0-9]+|.", re.DOTALL)
"""What escaping leaves of a text's beginning; else its first character."""

_NO_ESCAPE = "\ufdd0"
"""No character: behind a mark, it keeps that from making an escape with what follows."""

_MAX_SENT = 1000
_sent: OrderedDict[str, None] = OrderedDict()
"""The secret values that this process has sent last: a later answer may echo them, to another client."""

_MAX_KEYS = 100
_keys: OrderedDict[str, None] = OrderedDict()
"""Likewise its keys and what proxies may echo; apart, so that values never take their place."""


@dataclass(frozen=True, slots=True)
class Redactor:
    """Takes secrets out of what an answer says.

    :param api_key: The key that the server was sent.
    :param values: What else it was sent in confidence.
    """

    api_key: str = field(repr=False)
    values: frozenset[str] = field(repr=False)
    _pieces: tuple[str, ...] = field(init=False, repr=False)
    _spare: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        secrets = {self.api_key, *self.values}
        secrets |= {misread for text in secrets for misread in _misread(text)}
        pieces = {_without_nul(piece) for piece in secrets.union(*map(_pieces, secrets))} - {""}
        # The longest first: one may be a part of another.
        in_order = tuple(sorted(pieces, key=len, reverse=True))
        object.__setattr__(self, "_pieces", in_order)
        # How many characters at the end of a cut text to leave out.
        object.__setattr__(self, "_spare", _LONGEST_ESCAPE * min(len(in_order[0]), _LONGEST_PIECE))

    @staticmethod
    def hiding(api_key: str, values: Iterable[object] = (), proxy_secrets: Iterable[str] = ()) -> Redactor:
        """Hide the key, a proxy's secrets, and those of the values that are long enough to be secret.

        So are the last thousand values that this process has hidden before, and its last hundred keys.
        """
        proxy_secrets = list(proxy_secrets)
        own = _remember(_sent, values, _MAX_SENT)
        _remember(_keys, [api_key, *proxy_secrets], _MAX_KEYS)
        return _redactor(api_key, frozenset([*_sent, *own, *_keys, *proxy_secrets]) - {api_key})

    def is_secret(self, text: str) -> bool:
        """Whether a text holds the key or a long one of the other secrets, or is one of them."""
        return (
            self.api_key in text
            or text in self.values
            or any(value in text for value in self.values if len(value) >= SHORTEST_IN_AN_ID)
        )

    def of_body(self, body: bytes) -> str:
        """Quote the start of a body; the contract's ``{"error": ...}`` is unwrapped for the eye only."""
        start = body[: 4 * self._window(MAX_CHARACTERS)]
        text = start.decode(json.detect_encoding(start), "replace").strip("\0\t\n\r ")
        try:
            parsed = json.loads(_without_nul(text))
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, Mapping) and isinstance(parsed.get("error"), str):
            return self.of(parsed["error"])
        return self.of(text, is_cut=len(body) > len(start))

    def of(self, text: str, *, limit: int = MAX_CHARACTERS, is_cut: bool = False) -> str:
        """Return the start of a text, on one line and without secrets.

        :param limit: How many characters at most.
        :param is_cut: Whether the text was cut: its end may be a part of a secret then.
        :returns: ``***`` alone, if a secret is in the text that is escaped there.
        """
        window = self._window(limit)
        start = _without_nul(text[:window])
        if self._is_escaped_in(start):
            return "***"
        known = self._hide(start)
        if is_cut or len(text) > window:
            known = known[: max(0, len(known) - self._spare)]
        return one_line(known, limit=limit)

    def _is_escaped_in(self, text: str) -> bool:
        """Whether unescaping a text brings out a secret that it does not hold as it is."""
        if not _MAY_BE_ESCAPED.search(text):
            return False
        readings = _readings(text, _swallowed(self.values | {self.api_key}))
        some = list(map(_without_nul, islice(readings, _MAX_READINGS + 1)))
        if len(some) > _MAX_READINGS:
            return True
        together = "\n".join(some)  # searched once for each piece, of which there may be a thousand
        return any(
            reading.count(piece) > text.count(piece)
            for piece in self._pieces
            if piece in together
            for reading in some
        )

    def _window(self, limit: int) -> int:
        """How much of a text is searched for secrets: the rest is cut first, because searching takes time."""
        return limit + self._spare

    def _hide(self, text: str) -> str:
        hidden = text
        for piece in self._pieces:
            hidden = hidden.replace(piece, "***")
        return hidden if hidden is text else _REPEATED.sub("***", hidden)


def _without_nul(text: str) -> str:
    return text.replace("\0", "")  # UTF-16 read as UTF-8 has one beside each letter


def _readings(text: str, beginnings: re.Pattern[str] | None) -> Iterator[str]:
    """Yield what a text says when it is unescaped once, twice ..., in each way.

    :param beginnings: Finds where a secret may begin that an escape before it would swallow.
    """
    seen, last = {text}, [text]
    for _ in range(2 * _MAX_ESCAPES):  # some take two steps, such as %C3%A4
        found = {unescape(each): None for each in last for unescape in _UNESCAPES}
        if beginnings is not None:
            found |= {parted: None for each in last for parted in _parted(each, beginnings)}
        last = [each for each in found if each not in seen]
        seen.update(last)
        yield from last


def _parted(text: str, beginnings: re.Pattern[str]) -> Iterator[str]:
    r"""Yield a text with an escape ended before what may be a secret: ``a/b`` in ``C:\tmp\a%2Fb``, say."""
    for at in (found.start() for found in beginnings.finditer(text) if _NO_ESCAPE not in text):
        if _BEGUN_ESCAPE.search(text, max(0, at - 10), at):
            yield f"{text[:at]}{_NO_ESCAPE}{text[at:]}"


@lru_cache(maxsize=_MAX_KEYS)
def _swallowed(secrets: frozenset[str]) -> re.Pattern[str] | None:
    """Return what finds the beginnings of secrets that an escape before them would swallow."""
    beginnings = {re.escape(beginning) for secret in secrets for beginning in _swallowed_beginnings(secret)}
    return re.compile(f"(?={'|'.join(sorted(beginnings))})") if beginnings else None


@lru_cache(maxsize=2 * _MAX_SENT)
def _swallowed_beginnings(secret: str) -> tuple[str, ...]:
    beginning = _BEGINNING.match(secret)
    if beginning is None or secret == beginning[0]:  # one of letters and digits is found as it is
        return ()
    swallowed = any(secret not in unescape(f"{begun}{secret}") for begun in _BEGUN for unescape in _UNESCAPES)
    # Behind a backslash, an escaped beginning is read later than the rest, which may be another then.
    is_late = "\\" in secret and not (secret[0].isascii() and secret[0].isalnum())
    return (*([beginning[0]] if swallowed else []), *(["\\"] if is_late else []))


def _remember(sent: OrderedDict[str, None], new: Iterable[object], most: int) -> list[str]:
    """Note the new secrets that are long enough as the last; the oldest go. Return those that were noted."""
    own = [text for text in (str(value).strip() for value in new) if len(text) >= SHORTEST_SECRET]
    for text in own:
        sent[text] = None
        sent.move_to_end(text)  # at once, so that no other thread misses it
    too_many = len(sent) - max(most, len(own))
    for text in list(sent)[:too_many] if too_many > 0 else ():
        sent.pop(text, None)
    return own


def _unquoted(text: str) -> str:
    if "%" not in text:
        return text
    # %u is how JavaScript's escape() writes \\u.
    return _PERCENT.sub(lambda found: chr(int(found[1], 16)), text.replace("%u", r"\u"))


def _reread(text: str) -> str:
    if text.isascii():
        return text
    return _MISREAD.sub(lambda found: found[0].encode("latin-1").decode("utf-8", "replace"), text)


def _form_decoded(text: str) -> str:
    return text.replace("+", " ")


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    plain = _ESCAPES.sub(lambda escapes: _ESCAPE.sub(_character, escapes[0]), text)
    return _HALVES.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), plain)


def _character(escape: re.Match[str]) -> str:
    if escape[3]:
        return _LETTERS.get(escape[3], escape[3])
    code = int(escape[1], 16) if escape[1] else int(escape[2], 8)
    return chr(code) if code <= sys.maxunicode else escape[0]


def _html_unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a character's number of thousands of digits
        return text


_UNESCAPES = (_html_unescaped, _unescape, _form_decoded, _unquoted, _reread)


@lru_cache(maxsize=_MAX_KEYS)  # made anew for each of a thousand polls, it would be a tenth of their cost
def _redactor(api_key: str, values: frozenset[str]) -> Redactor:
    return Redactor(api_key, values)


def _misread(secret: str) -> Iterable[str]:
    """Return what an echo looks like that is written in one encoding and read in another."""
    # So requests reads a header's UTF-8, and whatever unquotes %C3%A4 here.
    yield secret.encode("utf-8", "replace").decode("latin-1")
    western = secret.encode("cp1252", "replace")
    yield western.decode("utf-8", "replace")  # of a body
    yield western.decode("utf-8", "surrogateescape")  # of a header, by aiohttp


def _pieces(secret: str) -> list[str]:
    count = -(-len(secret) // _LONGEST_PIECE)
    size = -(-len(secret) // count)
    return [secret[start : start + size] for start in range(0, len(secret), size)]

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

_MAY_BE_ESCAPED = re.compile(r"[\\&%+]")
"""As a rule a text is not: looking once for all ways spares a poll, and ten thousand titles, the rest."""

_MAX_ESCAPES = 4
"""How many times over an escaped secret is recognized: JSON quoted in JSON quoted in HTML ..."""

_LONGEST_ESCAPE: int = 2 * (2 ** (_MAX_ESCAPES - 1) + len("ud83d"))
"""Characters that one character of a secret may take, escaped so many times."""

_REPEATED = re.compile(r"(?:\*\*\*)+")

_WITHIN_AN_ESCAPE = re.compile(r"[0-9A-Fa-fuUx]{1,8}")

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
        # Unescaping a text goes on where a secret that itself looks escaped is found already.
        secrets |= {plain for plain in map(_unescaped, secrets) if len(plain) >= SHORTEST_SECRET}
        secrets |= {misread for text in secrets for misread in _misread(text)}
        pieces = {piece.replace("\0", "") for piece in secrets.union(*map(_pieces, secrets))} - {""}
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
        text = start.decode(json.detect_encoding(start), "replace").replace("\0", "").strip()
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, Mapping) and isinstance(parsed.get("error"), str):
            return self.of(parsed["error"])
        return self.of(text, is_cut=len(body) > len(start))

    def of(self, text: str, *, limit: int = MAX_CHARACTERS, is_cut: bool = False) -> str:
        """Return the start of a text, on one line and without secrets.

        :param limit: How many characters at most.
        :param is_cut: Whether the text was cut: its end may be a part of a secret then.
        """
        window = self._window(limit)
        known = plain = self._hide(text[:window])
        may_be_escaped = _MAY_BE_ESCAPED.search(text[:window]) is not None
        if may_be_escaped and self._is_left_in_part(text[:window]):
            return "***"
        for _ in range(_MAX_ESCAPES if may_be_escaped else 0):
            before = plain
            for unescape in _UNESCAPES:
                unescaped = unescape(plain)
                if unescaped == plain:
                    continue
                hidden = self._hide(unescaped)
                if hidden != unescaped:  # else the escapes hide nothing, and stay as they came
                    known = plain = hidden
                elif unescape is not _form_decoded:  # a + may be one
                    plain = unescaped
            if plain == before:  # nothing was escaped any more
                break
        if is_cut or len(text) > window:
            known = known[: max(0, len(known) - self._spare)]
        return one_line(known, limit=limit)

    def _is_left_in_part(self, text: str) -> bool:
        """Whether hiding one secret after the other would leave a part of one that is escaped."""
        secrets = _left_in_part(self.values | {self.api_key})
        return bool(secrets) and any(secret in level for level in _levels(text) for secret in secrets)

    def _window(self, limit: int) -> int:
        """How much of a text is searched for secrets: the rest is cut first, because searching takes time."""
        return limit + self._spare

    def _hide(self, text: str) -> str:
        hidden = text.replace("\0", "")  # UTF-16 read as UTF-8 has one beside each letter
        for piece in self._pieces:
            hidden = hidden.replace(piece, "***")
        return hidden if hidden is text else _REPEATED.sub("***", hidden)


@lru_cache(maxsize=_MAX_KEYS)
def _left_in_part(secrets: frozenset[str]) -> tuple[str, ...]:
    """Return the secrets that are not found any more, once escaped, when another has been hidden."""
    secrets |= {plain for plain in map(_unescaped, secrets) if len(plain) >= SHORTEST_SECRET}
    if any(map(_WITHIN_AN_ESCAPE.fullmatch, secrets)):  # %2F without its 2
        return tuple(secrets)
    return tuple(
        secret
        for secret in secrets
        if (" " in secret and "+" in secret)  # a + may stand for both
        or any(other in secret for other in secrets if other != secret)
    )


def _levels(text: str) -> Iterator[str]:
    """Return what a text says when it is unescaped once, twice ..., with either meaning of a +."""
    for spaced in (False, True):
        plain = text
        for _ in range(_MAX_ESCAPES):
            for unescape in _UNESCAPES:
                if spaced or unescape is not _form_decoded:
                    plain = unescape(plain)
                    yield plain


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
    # %u is how JavaScript's escape() writes \\u.
    return _PERCENT.sub(lambda found: chr(int(found[1], 16)), text.replace("%u", r"\u"))


def _form_decoded(text: str) -> str:
    return _unquoted(text.replace("+", " ")) if "+" in text else text


def _unescape(text: str) -> str:
    return _ESCAPES.sub(_characters, text) if "\\" in text else text


def _characters(escapes: re.Match[str]) -> str:
    """Return what backslash escapes stand for; those of half pairs make whole characters."""
    plain = _ESCAPE.sub(_character, escapes[0])
    return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


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


# HTML first: it leaves backslashes as they are, so that one before a quote need not be an escape.
_UNESCAPES = (_html_unescaped, _unescape, _form_decoded, _unquoted)


def _unescaped(text: str) -> str:
    for _ in range(_MAX_ESCAPES):
        for unescape in _UNESCAPES:
            if unescape is not _form_decoded:
                text = unescape(text)
    return text


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

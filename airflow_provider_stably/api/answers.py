"""Turn an HTTP answer, or the lack of one, into a call's result or into the error that it means. No I/O."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import responses
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from airflow_provider_stably.api.calls import Call
from airflow_provider_stably.api.endpoint import DASHBOARD_URL, Endpoint
from airflow_provider_stably.api.redaction import MAX_CHARACTERS, Redactor
from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyError,
    StablyHTTPError,
    StablyNotFoundError,
    StablyResponseError,
    StablyUnreachableError,
)

T = TypeVar("T")

MAX_ANSWER_BYTES = 3_000_000
"""Longest body that is read, compressed or not: ten thousand test cases of 300 bytes each."""

MAX_ANSWER_VALUES = 150_000
"""Most values in a body, going by its commas and brackets: ten thousand test cases of fifteen each.

Each costs up to 200 bytes of memory when it is parsed, however short its JSON is.
"""

_MAX_GZIP_MEMBERS = 100
"""For each, zlib copies all that follows it: 3 MB of empty ones would take a minute."""

_MANY_ESCAPES = 200
"""Escapes in a body: to look for secrets behind them takes up to half a millisecond each."""

_LONGEST_NUMBER = 100
"""Digits of a number that is read: the time that long ones take grows with their square."""

ACCEPT_ENCODING = "gzip, deflate"
"""What both clients offer: all that :class:`Answer` decompresses."""

_ERRORS = {401: StablyAuthError, 403: StablyAuthError, 404: StablyNotFoundError}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer.

    :param headers: Header names in lower case.
    :param body: Decompressed.
    :param problem: Why there is no whole body, as the rest of a sentence; empty if there is one.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    problem: str = ""

    @classmethod
    def received(cls, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Self:
        """Take an answer as it came.

        :param body: Compressed or not. If longer than :data:`MAX_ANSWER_BYTES`, it may be cut after that.
        """
        by_name = {name.lower(): value for name, value in headers}
        try:
            return cls(status, by_name, _decompressed(body, by_name.get("content-encoding", "")))
        except ValueError as problem:
            return cls(status, by_name, b"", str(problem))


def is_big(body: bytes) -> bool:
    """Whether decompressing or reading takes milliseconds: too long for an event loop that others wait on."""
    if len(body) <= _MANY_ESCAPES:
        return False  # as most bodies are
    # JSON takes up to 100 ms for each 64 kB (empty objects), a text with many escapes more than that.
    return len(body) > 16 * 1024 or sum(map(body.count, (b"\\", b"%", b"&"))) > _MANY_ESCAPES


def remember_secrets(call: Call[Any], endpoint: Endpoint) -> Redactor:
    """Have what a call sends in confidence hidden in each answer from now on, and return what hides it.

    To be called before sending: a call's own answer may be lost, or come after one that echoes its secrets.
    """
    return Redactor.hiding(endpoint.api_key, call.secrets, endpoint.proxy_secrets())


def read_answer(call: Call[T], answer: Answer, endpoint: Endpoint, *, now: datetime | None = None) -> T:
    """Read an answer as the call's result, or raise what it means.

    :param endpoint: Where the answer came from: named in messages. Its key, its proxy's password and the
        values of the call's environment overrides are hidden in whatever comes out.
    :param now: Aware time that a Retry-After date is compared with; None is the present.
    :raises StablyAuthError: on 401 and 403.
    :raises StablyNotFoundError: on 404.
    :raises StablyHTTPError: on any other status outside 200 to 299; redirects are refused.
    :raises StablyResponseError: if a 2xx answer is not the JSON that the contract promises.
    """
    redactor = remember_secrets(call, endpoint)
    if not 200 <= answer.status <= 299:
        raise _http_error(call, answer, endpoint, redactor, now or datetime.now(UTC))
    problem = answer.problem
    if not problem:
        try:
            return call.read(_parsed(answer.body), redactor)
        except ValueError as error:
            problem = str(error)
    # No cause: the parser's error holds the whole body.
    raise _response_error(call, answer, endpoint, redactor, problem)


def unreachable(
    call: Call[Any], error: Exception, endpoint: Endpoint, *, request_sent: bool, is_local: bool = False
) -> StablyUnreachableError:
    """Describe a call that got no whole answer.

    Only the type of the root error is shown: an error's text may hold a proxy's password.

    :param request_sent: Whether the request may have reached the server.
    :param is_local: Whether this machine's trust or HTTP library is at fault.
    """
    kind = type(_root(error)).__name__
    cause = "No whole answer came" if request_sent else "The API cannot be reached"
    message = f"{cause} ({kind}): {call} at {endpoint.base_url} ({endpoint.label})"
    return StablyUnreachableError(message, request_sent=request_sent, is_local=is_local)


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header: seconds, or a date.

    :param now: Aware time that a date is compared with.
    :returns: Seconds, never negative; None if absent or unreadable.
    """
    if value is None:
        return None
    seconds = [part.strip() for part in value.split(",")]  # several where a proxy adds a header of its own
    if all(map(str.isdecimal, seconds)):
        return max(map(float, seconds))
    try:
        until = parsedate_to_datetime(value)
        aware = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(0.0, (aware - now).total_seconds())
    except (ValueError, OverflowError):
        return None


def _decompressed(body: bytes, encoding: str) -> bytes:
    """Return the body of an answer without its content encoding.

    :raises ValueError: if it is too long or cut, or if the encoding was not offered.
    """
    too_long = f"is longer than {MAX_ANSWER_BYTES} bytes"
    if len(body) > MAX_ANSWER_BYTES:
        raise ValueError(too_long)
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"} or not body:
        return body
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise ValueError("has a content encoding that was not asked for")
    plain, window_bits = b"", _window_bits(body, encoding)
    for _ in range(_MAX_GZIP_MEMBERS):
        decompressor = zlib.decompressobj(window_bits)
        try:
            plain += decompressor.decompress(body, MAX_ANSWER_BYTES + 1 - len(plain))
        except zlib.error:
            raise ValueError(f"is not {encoding}") from None
        if len(plain) > MAX_ANSWER_BYTES:
            raise ValueError(too_long)
        if not decompressor.eof:
            raise ValueError("was cut off")
        body = decompressor.unused_data
        if encoding == "deflate" or not body.startswith(b"\x1f\x8b"):
            return plain
    raise ValueError(f"has more than {_MAX_GZIP_MEMBERS} gzip members")


def _window_bits(body: bytes, encoding: str) -> int:
    if encoding != "deflate":
        return 16 + zlib.MAX_WBITS
    # Some servers leave the header that the standard asks for out.
    has_header = body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


def _parsed(body: bytes) -> Any:
    """Return what a body says as JSON.

    :raises ValueError: if it is not JSON, or has too many values.
    """
    if sum(map(body.count, (b",", b"{", b"["))) > MAX_ANSWER_VALUES:
        raise ValueError(f"has more than {MAX_ANSWER_VALUES} values")
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None


def _number(kind: Callable[[str], float], digits: str) -> float | None:
    return kind(digits) if len(digits) <= _LONGEST_NUMBER else None


# Made once: json.loads would make one for each of a thousand polls.
_DECODER = json.JSONDecoder(parse_int=partial(_number, int), parse_float=partial(_number, float))


def _http_error(
    call: Call[Any], answer: Answer, endpoint: Endpoint, redactor: Redactor, now: datetime
) -> StablyHTTPError:
    status, detail = answer.status, redactor.of_body(answer.body)
    phrase = responses.get(status, "(not a registered status)")
    cause, next_step = _meaning(answer, redactor)
    message = f"{cause}: {call} answered {status} {phrase} ({endpoint.label}){next_step}"
    if detail:
        message += f": {detail}"
    retry_after = retry_after_seconds(answer.headers.get("retry-after"), now)
    return _ERRORS.get(status, StablyHTTPError)(
        message, status=status, detail=detail, retry_after=retry_after, is_from_api=_is_api_error(answer.body)
    )


def _is_api_error(body: bytes) -> bool:
    """Whether a body is the contract's ``{"error": ...}``: short, and nothing else in it.

    Web servers and gateways have an ``error`` beside a ``statusCode``, a ``status`` or a ``message``.
    """
    try:
        parsed = {} if is_big(body) else _parsed(body)
    except ValueError:
        return False
    return isinstance(parsed, dict) and len(parsed) == 1 and isinstance(parsed.get("error"), str)


def _meaning(answer: Answer, redactor: Redactor) -> tuple[str, str]:
    """Return what a status means, and what to do about it."""
    match answer.status:
        case 401:
            return "The API key was refused", f"; make or check keys at {DASHBOARD_URL}/settings?tab=api-key"
        case 403:
            # Documented by the vendor's clients: a 403 is not a word about the key alone.
            return "Access was denied", (
                "; the key may have no access to this project, the account no active subscription, "
                "or the project id may be wrong"
            )
        case 404:
            not_found = "The project or run was not found", "; check the project id"
            page = "Something answered 'not found', but not Stably's API", "; check the connection's host"
            return not_found if _is_api_error(answer.body) else page
        case status if 300 <= status <= 399:
            refused = f"A redirect to {_host(answer, redactor)} was refused"
            return refused, "; the key belongs to one host, check the connection's host"
        case status if 400 <= status <= 499:
            return "The API refused the request", ""
        case _:
            return "The API failed", ""


def _response_error(
    call: Call[Any], answer: Answer, endpoint: Endpoint, redactor: Redactor, problem: str
) -> StablyResponseError:
    content_type = redactor.of(answer.headers.get("content-type", ""))
    detail = redactor.of_body(answer.body)
    message = (
        f"The answer {problem}: {call} answered {answer.status} ({endpoint.label}), "
        f"{content_type or 'no content type'}: {detail}"
    )
    return StablyResponseError(message, status=answer.status, content_type=content_type, detail=detail)


def _host(answer: Answer, redactor: Redactor) -> str:
    """Return the host that a redirect leads to; the rest of the address may be secret."""
    location = answer.headers.get("location", "")
    try:
        # Without secrets and cut first: urlsplit leaves tabs out, and takes seconds for a long host.
        url = urlsplit(redactor.of(location))
    except ValueError:
        return "no valid address"
    if len(location) > MAX_CHARACTERS and not any(url[2:]):
        return "no valid address"  # the cut may be within a user's name
    return url.netloc.rpartition("@")[2] or "the same host"


def _root(error: BaseException) -> BaseException:
    # Stop at a TimeoutError: asyncio's has a CancelledError below it, as if somebody had cancelled the call.
    while not isinstance(error, TimeoutError) and (below := error.__cause__ or error.__context__):
        if isinstance(below, StablyError) or not isinstance(below, Exception):
            break  # an older error, which was being handled when the call began
        error = below
    return error

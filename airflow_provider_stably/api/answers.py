"""Turn an HTTP answer, or the lack of one, into a call's result or into the error that it means. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

from airflow_provider_stably.api.calls import Call
from airflow_provider_stably.api.endpoint import DASHBOARD_URL, Endpoint
from airflow_provider_stably.api.redaction import Redactor
from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyError,
    StablyHTTPError,
    StablyNotFoundError,
    StablyResponseError,
    StablyUnreachableError,
)

T = TypeVar("T")

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Longest body that is read; a status answer takes some 150 bytes per test case."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as a client received it.

    :param status: HTTP status code.
    :param headers: Header names in lower case.
    :param body: At most :data:`MAX_ANSWER_BYTES`, decompressed.
    :param is_whole: False if the body was longer than that.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    is_whole: bool = True


def read_answer(call: Call[T], answer: Answer, endpoint: Endpoint, *, now: datetime | None = None) -> T:
    """Read an answer as the call's result, or raise what it means.

    :param endpoint: Where the answer came from: named in messages. Its key and the values of the call's
        environment overrides are hidden in them.
    :param now: Aware time that a Retry-After date is compared with; None is the present.
    :raises StablyAuthError: on 401 and 403.
    :raises StablyNotFoundError: on 404.
    :raises StablyHTTPError: on any other status outside 200 to 299; redirects are refused.
    :raises StablyResponseError: if a 2xx answer is not the JSON that the contract promises.
    """
    if not 200 <= answer.status <= 299:
        raise _http_error(call, answer, endpoint, now or datetime.now(UTC))
    if not answer.is_whole:
        raise _response_error(call, answer, endpoint, f"is longer than {MAX_ANSWER_BYTES} bytes")
    try:
        parsed = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise _response_error(call, answer, endpoint, "is not JSON") from None
    try:
        return call.read(parsed)
    except ValueError as error:
        problem = f"is not what the contract says: {error}"
    # No cause: the reader's error quotes the answer before secrets are hidden.
    raise _response_error(call, answer, endpoint, problem)


def unreachable(
    call: Call[Any], error: Exception, endpoint: Endpoint, *, request_sent: bool, is_local: bool = False
) -> StablyUnreachableError:
    """Describe a call that got no whole answer.

    Only the type of the root error is shown: an error's text may hold a proxy's password.

    :param request_sent: Whether the request may have reached the server.
    :param is_local: Whether this machine's trust or HTTP library is at fault.
    """
    kind = type(_root(error)).__name__
    message = f"{call} got no whole answer from {endpoint.base_url} ({endpoint.label}): {kind}"
    return StablyUnreachableError(message, request_sent=request_sent, is_local=is_local)


def unusable_bundle(bundle: str, error: OSError) -> StablyUnreachableError:
    """Describe a call that was not sent because the CA bundle cannot be used."""
    message = f"CA bundle {bundle!r} cannot be used: {type(error).__name__}"
    return StablyUnreachableError(message, request_sent=False, is_local=True)


def is_unwritable(error: Exception) -> bool:
    """Whether part of the request, a host name for example, has no form in bytes: so nothing was sent."""
    return isinstance(error, UnicodeError) and not isinstance(error, UnicodeDecodeError)


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header: seconds, or a date.

    :param now: Aware time that a date is compared with.
    :returns: Seconds, never negative; None if absent or unreadable.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
        aware = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(0.0, (aware - now).total_seconds())
    except (ValueError, OverflowError):
        return None


def _http_error(call: Call[Any], answer: Answer, endpoint: Endpoint, now: datetime) -> StablyHTTPError:
    redactor = _redactor(call, endpoint)
    status, detail = answer.status, redactor.of_body(answer.body)
    message = f"{call} answered {status} {_phrase(status)} ({endpoint.label})"
    if 300 <= status <= 399:
        message += f": a redirect to {_host(answer, redactor)}, refused because the key belongs to one host"
    elif status in {401, 403}:
        message += f": the API key was refused; make or check keys at {DASHBOARD_URL}/settings?tab=api-key"
    if detail:
        message += f": {detail}"
    retry_after = retry_after_seconds(answer.headers.get("retry-after"), now)
    return _error_class(status)(
        message,
        status=status,
        detail=detail,
        retry_after=retry_after,
        is_from_api=_is_api_error(answer.body),
    )


def _is_api_error(body: bytes) -> bool:
    """Whether a body is the contract's ``{"error": ...}``."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, dict) and isinstance(parsed.get("error"), str)


def _error_class(status: int) -> type[StablyHTTPError]:
    if status in {401, 403}:
        return StablyAuthError
    return StablyNotFoundError if status == 404 else StablyHTTPError


def _response_error(call: Call[Any], answer: Answer, endpoint: Endpoint, what: str) -> StablyResponseError:
    redactor = _redactor(call, endpoint)
    content_type = redactor.of(answer.headers.get("content-type", ""))
    detail = redactor.of_body(answer.body)
    message = (
        f"{call} answered {answer.status} ({endpoint.label}), but the body "
        f"({content_type or 'no content type'}) {redactor.of(what)}: {detail}"
    )
    return StablyResponseError(message, status=answer.status, content_type=content_type, detail=detail)


def _redactor(call: Call[Any], endpoint: Endpoint) -> Redactor:
    return Redactor.hiding(endpoint.api_key, *(call.body or {}).get("envOverrides", {}).values())


def _host(answer: Answer, redactor: Redactor) -> str:
    """Return the host that a redirect leads to; the rest of the address may be secret."""
    try:
        host = urlsplit(answer.headers.get("location", "")).netloc.rpartition("@")[2]
    except ValueError:
        return "no valid address"
    return redactor.of(host) or "the same host"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(not a registered status)"


def _root(error: BaseException) -> BaseException:
    # Stop at a TimeoutError: asyncio's has a CancelledError below it, as if somebody had cancelled the call.
    while not isinstance(error, TimeoutError) and (below := error.__cause__ or error.__context__):
        if isinstance(below, StablyError) or not isinstance(below, Exception):
            break  # an older error, which was being handled when the call began
        error = below
    return error

"""The three calls of Stably's API and every rule about them; no I/O.

A :class:`Call` says what to send and how to read the answer; the clients say only who waits. Sources: the
published contract of the cancel call, and the vendor's documentation and open-source clients for the other
two, November 2026. What those do not say is marked "Assumed".
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlsplit

from airflow_provider_stably.api.endpoint import DASHBOARD_URL, Endpoint
from airflow_provider_stably.api.models import Run
from airflow_provider_stably.api.redaction import Redactor
from airflow_provider_stably.exceptions import (
    StablyAmbiguousStartError,
    StablyAuthError,
    StablyError,
    StablyHTTPError,
    StablyInvalidIdError,
    StablyNotFoundError,
    StablyResponseError,
    StablyUnreachableError,
)

T = TypeVar("T")

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Longest body that is read; a status answer takes some 150 bytes per test case."""

MAX_ATTEMPTS = 5
"""How often a call is sent at most, the first time included."""

MAX_REPLAY_SECONDS = 120.0
"""From the first attempt on; a wait that would end later is not begun."""

FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 8.0
MAX_RETRY_AFTER_SECONDS = 60.0

REPLAYABLE_STATUSES = frozenset({429, 500, 502, 503, 504})
"""Answers that may be others a moment later."""

_ID = re.compile(r"[A-Za-z0-9._~-]+")


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path template; the emulator serves the same ones."""

    method: str
    template: str


START_RUN = Route("POST", "/v1/projects/{project_id}/runs")
GET_RUN = Route("GET", "/v1/projects/{project_id}/runs/{run_id}")
CANCEL_RUN = Route("POST", "/v1/projects/{project_id}/runs/cancel")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request to the API and how to read its answer.

    :param route: The route.
    :param path: The route's path with the ids filled in.
    :param read: Turns the JSON of a 2xx answer into the result, or raises ValueError.
    :param replayable: Whether sending it again after a lost answer does no harm.
    :param project_id: The project it is about.
    :param body: What to send as JSON; None sends no body. Not in the repr: a start's may hold secrets.
    """

    route: Route
    path: str
    read: Callable[[object], T]
    replayable: bool
    project_id: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.route.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as a client received it.

    :param status: HTTP status code.
    :param headers: Header names in lower case.
    :param body: At most :data:`MAX_ANSWER_BYTES`, decompressed.
    :param is_whole: False if the body went on past that.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    is_whole: bool = True


def start_run(
    project_id: str,
    *,
    playwright_project_name: str | None = None,
    branch: str | None = None,
    environment: str | None = None,
    env_overrides: Mapping[str, str] | None = None,
) -> Call[str]:
    """Start a run of a project's tests.

    Not replayable: a second copy is a second run.

    :param project_id: The project's id, as in its dashboard URL.
    :param playwright_project_name: Playwright project (``--project``) to run; None runs all.
    :param branch: Git branch to associate with the run.
    :param environment: Name of a Stably environment.
    :param env_overrides: Environment variable name to value. Values may be secret and are never logged.
    :returns: A call that reads the new run's id.
    :raises StablyInvalidIdError: if the project id cannot stand in a URL.
    """
    fields = {
        "playwrightProjectName": playwright_project_name,
        "branch": branch,
        "environment": environment,
        "envOverrides": dict(env_overrides) if env_overrides else None,
    }
    body = {name: value for name, value in fields.items() if value is not None}
    return _call(START_RUN, _read_run_id, replayable=False, project_id=project_id, body=body)


def get_run(project_id: str, run_id: str) -> Call[Run]:
    """Read a run's status and results.

    :returns: A call that reads the run.
    :raises StablyInvalidIdError: if an id cannot stand in a URL.
    """
    return _call(GET_RUN, partial(Run.from_json, run_id), project_id=project_id, run_id=run_id)


def cancel_run(project_id: str, run_id: str) -> Call[tuple[str, ...]]:
    """Cancel a run that is queued or running.

    Replayable: a run can be cancelled only once.

    :returns: A call that reads the ids that the API cancelled.
    :raises StablyInvalidIdError: if an id cannot stand in a URL.
    """
    body = {"where": {"runId": check_id("run", run_id)}}
    return _call(CANCEL_RUN, _read_cancelled, project_id=project_id, body=body)


def run_url(project_id: str, run_id: str) -> str:
    """Return the address of a run's page in the dashboard (documented by the vendor's clients).

    :raises StablyInvalidIdError: if an id cannot stand in a URL.
    """
    project_id, run_id = check_id("project", project_id), check_id("run", run_id)
    return f"{DASHBOARD_URL}/project/{quote(project_id)}/playwright/history/{quote(run_id)}?tab=specs"


def check_id(kind: str, value: object) -> str:
    """Return an id that may stand in a URL.

    :param kind: ``run`` or ``project``, for the message.
    :raises StablyInvalidIdError: if it is not text of letters, digits and ``._~-``, or is ``.`` or ``..``.
    """
    if isinstance(value, str) and _ID.fullmatch(value) and value not in {".", ".."}:
        return value
    shown = f"{value!r:.80}" if isinstance(value, str) else f"{type(value).__name__} {value!r:.80}"
    message = f"{shown} is not a Stably {kind} id: those are made of letters, digits and '._~-'"
    raise StablyInvalidIdError(message, kind=kind, value=value)


def read_answer(call: Call[T], answer: Answer, endpoint: Endpoint, *, now: datetime | None = None) -> T:
    """Read an answer as the call's result, or raise what it means.

    :param endpoint: Where the answer came from: named in messages, its key cut out of them, as are the
        values of the call's environment overrides.
    :param now: Aware time to reckon a Retry-After date from; None is the present.
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
    # Not from the reader's error: that quotes the answer as it came.
    raise _response_error(call, answer, endpoint, problem)


def unreachable(
    call: Call[Any], error: Exception, endpoint: Endpoint, *, request_sent: bool
) -> StablyUnreachableError:
    """Describe a call that got no whole answer.

    Only the kind of the error at the root is told: an error's text may hold a proxy's password.

    :param request_sent: Whether the request may have reached the server.
    """
    kind = type(_root(error)).__name__
    message = f"{call} got no whole answer from {endpoint.base_url} ({endpoint.label}): {kind}"
    return StablyUnreachableError(message, request_sent=request_sent)


def unusable_bundle(bundle: str, error: OSError) -> StablyUnreachableError:
    """Describe a call that was not sent because the CA bundle to trust cannot be used."""
    message = f"CA bundle {bundle!r} cannot be used: {type(error).__name__}"
    return StablyUnreachableError(message, request_sent=False)


def is_unwritable(error: Exception) -> bool:
    """Whether something, a host's name for one, could not be turned into bytes: before anything was sent."""
    return isinstance(error, UnicodeError) and not isinstance(error, UnicodeDecodeError)


def may_replay(call: Call[Any], error: BaseException) -> bool:
    """Whether a call that failed so may be sent again.

    A start may only if the request provably was not accepted: it never left, or the API said "later"
    (429, or 503 with Retry-After).
    """
    if isinstance(error, StablyUnreachableError):
        return call.replayable or not error.request_sent
    if not isinstance(error, StablyHTTPError):
        return False
    if call.replayable:
        return error.status in REPLAYABLE_STATUSES
    return _asked_to_come_later(error)


def delay_before_replay(error: BaseException | None, attempt: int) -> float:
    """Seconds to wait after the given attempt failed so.

    What the API asks for, at most a minute; else exponential, with up to half taken off at random so that
    many tasks that failed together do not come back together.

    :param attempt: 1 for the first.
    """
    asked = error.retry_after if isinstance(error, StablyHTTPError) else None
    if asked is not None:
        return min(asked, MAX_RETRY_AFTER_SECONDS)
    return min(FIRST_DELAY_SECONDS * 2.0 ** (attempt - 1), MAX_DELAY_SECONDS) * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret


def as_ambiguous_start(call: Call[Any], error: StablyError) -> StablyError:
    """Say what a call's last failure means: for a start, whether a run may exist that nobody tracks."""
    if call.replayable or _proves_not_accepted(error):
        return error
    message = (
        f"The answer to the start of a run in project {call.project_id} was lost, so an untracked run may "
        f"exist: look for it at {DASHBOARD_URL}/project/{call.project_id} before starting another. {error}"
    )
    return StablyAmbiguousStartError(message, project_id=call.project_id)


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header: seconds, or a date.

    :param now: Aware time to reckon a date from.
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


def _call(
    route: Route,
    read: Callable[[object], T],
    *,
    replayable: bool = True,
    body: Mapping[str, Any] | None = None,
    **ids: str,
) -> Call[T]:
    checked = {name: quote(check_id(name.removesuffix("_id"), value), safe="") for name, value in ids.items()}
    path = route.template.format_map(checked)
    return Call(
        route,
        path,
        read,
        replayable=replayable,
        project_id=ids["project_id"],
        body=body,
    )


def _read_run_id(answer: object) -> str:
    run_id = answer.get("runId") if isinstance(answer, Mapping) else None
    try:
        return check_id("run", run_id)
    except StablyInvalidIdError:
        # Not from it: its message quotes, and cuts, what may be secret.
        raise ValueError("it has no run id that can be used") from None


def _read_cancelled(answer: object) -> tuple[str, ...]:
    cancelled = answer.get("cancelled") if isinstance(answer, Mapping) else None
    if not isinstance(cancelled, list):
        raise ValueError(f"expected 'cancelled' to be a list, got {type(cancelled).__name__}")
    run_ids = [entry.get("runId") if isinstance(entry, Mapping) else None for entry in cancelled]
    return tuple(run_id for run_id in run_ids if isinstance(run_id, str))


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
    return _error_class(status)(message, status=status, detail=detail, retry_after=retry_after)


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
    # Below a timeout of asyncio is a CancelledError, which would read as if somebody had wished it.
    while not isinstance(error, TimeoutError) and (below := error.__cause__ or error.__context__):
        if isinstance(below, StablyError) or not isinstance(below, Exception):
            break  # what was being handled when the call began
        error = below
    return error


def _asked_to_come_later(error: StablyHTTPError) -> bool:
    return error.status == 429 or (error.status == 503 and error.retry_after is not None)


def _proves_not_accepted(error: StablyError) -> bool:
    if isinstance(error, StablyUnreachableError):
        return not error.request_sent
    # 408: the server gave up on the request, at what point is not known.
    if isinstance(error, StablyHTTPError):
        return (400 <= error.status <= 499 and error.status != 408) or _asked_to_come_later(error)
    return False

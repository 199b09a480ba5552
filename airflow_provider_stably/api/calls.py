"""The three calls of Stably's API: what to send, and how to read the JSON that comes back. No I/O.

Sources: the published contract of the cancel call, and the vendor's documentation and open-source clients for
the other two, November 2026. What those do not say is marked "Assumed".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeGuard, TypeVar
from urllib.parse import quote

from airflow_provider_stably.api.endpoint import DASHBOARD_URL
from airflow_provider_stably.api.models import Run
from airflow_provider_stably.api.redaction import Redactor
from airflow_provider_stably.api.text import shown
from airflow_provider_stably.exceptions import StablyInvalidIdError

T = TypeVar("T")

_ID = re.compile(r"[A-Za-z0-9._~-]{1,200}")


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

    :param path: The route's path with the ids filled in.
    :param read: Turns the JSON of a 2xx answer into the result, without secrets, or raises ValueError
        with the rest of the sentence that begins with "The answer".
    :param replayable: Whether sending it again after a lost answer does no harm.
    :param project_id: The project it is about.
    :param body: What to send as JSON; None sends no body. Not in the repr: a start's may hold secrets.
    """

    route: Route
    path: str
    read: Callable[[object, Redactor], T]
    replayable: bool
    project_id: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def secrets(self) -> Iterable[object]:
        """What it sends in confidence."""
        overrides: Mapping[str, object] = (self.body or {}).get("envOverrides", {})
        return overrides.values()

    def __str__(self) -> str:
        return f"{self.route.method} {self.path}"


def start_run(
    project_id: str,
    *,
    playwright_project_name: str | None = None,
    branch: str | None = None,
    environment: str | None = None,
    env_overrides: Mapping[str, str] | None = None,
    autofix: bool | None = None,
) -> Call[str]:
    """Start a run of a project's tests.

    Not replayable: a second copy is a second run.

    :param project_id: The project's id, as in its dashboard URL.
    :param playwright_project_name: Playwright project (``--project``) to run; None runs all.
    :param branch: Git branch to associate with the run.
    :param environment: Name of a Stably environment.
    :param env_overrides: Environment variable name to value. Values may be secret and are never logged.
    :param autofix: Whether an AI session tries to fix the tests if the run ends with failures; None leaves it
        to the project's default. Documented; that False switches such a default off is assumed.
    :returns: A call that reads the new run's id.
    :raises StablyInvalidIdError: if the project id cannot stand in a URL.
    """
    fields = {
        "playwrightProjectName": playwright_project_name,
        "branch": branch,
        "environment": environment,
        "envOverrides": dict(env_overrides) if env_overrides else None,
        "autofix": autofix,
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
    return _call(CANCEL_RUN, partial(_read_cancelled, run_id), project_id=project_id, body=body)


def run_url(project_id: str, run_id: str) -> str:
    """Return the address of a run's page in the dashboard (documented by the vendor's clients).

    :raises StablyInvalidIdError: if an id cannot stand in a URL.
    """
    project_id, run_id = check_id("project", project_id), check_id("run", run_id)
    return f"{DASHBOARD_URL}/project/{quote(project_id)}/playwright/history/{quote(run_id)}?tab=specs"


def check_id(kind: str, value: object) -> str:
    """Return an id that may stand in a URL.

    :param kind: ``run`` or ``project``, for the message.
    :raises StablyInvalidIdError: if it is not text of 1 to 200 letters, digits and ``._~-``, or is ``.`` or
        ``..``.
    """
    if _is_id(value):
        return value
    if value is None:
        message = f"{kind}_id is None: the task or call that should give it returned nothing"
        raise StablyInvalidIdError(message, kind=kind, value=value)
    where = {"run": "history", "project": "project"}[kind]
    message = (
        f"{shown(value)} is not a Stably {kind} id: those are 1 to 200 letters, digits and '._~-'; in the "
        f"address of its page it follows /{where}/"
    )
    raise StablyInvalidIdError(message, kind=kind, value=value)


def _call(
    route: Route,
    read: Callable[[object, Redactor], T],
    *,
    replayable: bool = True,
    body: Mapping[str, Any] | None = None,
    **ids: str,
) -> Call[T]:
    checked = {name: quote(check_id(name.removesuffix("_id"), value), safe="") for name, value in ids.items()}
    path = route.template.format_map(checked)
    return Call(route, path, read, replayable=replayable, project_id=ids["project_id"], body=body)


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _ID.fullmatch(value) is not None and value not in {".", ".."}


def _read_run_id(answer: object, redactor: Redactor) -> str:
    run_id = answer.get("runId") if isinstance(answer, Mapping) else None
    if _is_id(run_id) and not redactor.is_secret(run_id):
        return run_id
    raise ValueError("has no run id that can be used")


def _read_cancelled(run_id: str, answer: object, _: Redactor) -> tuple[str, ...]:
    cancelled = answer.get("cancelled") if isinstance(answer, Mapping) else None
    if not isinstance(cancelled, list):
        found = type(cancelled).__name__
        raise ValueError(f"does not say what was cancelled: expected 'cancelled' to be a list, got {found}")
    is_listed = any(isinstance(entry, Mapping) and entry.get("runId") == run_id for entry in cancelled)
    return (run_id,) if is_listed else ()

"""Every error class of this package; none has an Airflow base, none leaks an HTTP library, nor a secret.

Operators turn what no retry can help into ``AirflowFailException``, with the error here as its context.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class StablyError(Exception):
    """Base of all errors of this package.

    The first argument is the message; facts are keyword arguments, kept as attributes, and survive pickling
    (Airflow's executors carry errors across processes).
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from message and facts: the default would call ``__init__`` without its keywords."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class StablyConfigError(StablyError):
    """The Airflow connection cannot be used as it is.

    :param problem: What is wrong with the field.
    :param conn_id: The connection's id.
    :param field: The field at fault, e.g. ``password`` or ``extra.timeout``; ``conn_id`` if there is no such
        connection.
    """

    def __init__(self, problem: str, *, conn_id: str, field: str) -> None:
        where = f"Airflow connection {conn_id[:250]!r}"  # Airflow's longest
        super().__init__(
            f"{where} {problem}" if field == "conn_id" else f"{where}, field {field!r}: {problem}"
        )
        self.conn_id = conn_id
        self.field = field

    @property
    def may_pass(self) -> bool:
        """Whether the connection may be there a moment later.

        Airflow says "not defined" also of a connection whose secrets backend fails just now.
        """
        return self.field == "conn_id"


class StablyInvalidIdError(StablyError, ValueError):
    """An id that must not be put into a URL; nothing was sent.

    :param kind: What the id was for: ``run`` or ``project``.
    :param value: The id as it came.
    """

    def __init__(self, message: str, *, kind: str, value: object) -> None:
        super().__init__(message)
        self.kind = kind
        self.value = value


class StablyUnreachableError(StablyError):
    """No whole answer came: refused, dropped, timed out.

    :param request_sent: False only if the request provably never left, e.g. the connection was refused.
    :param is_local: Whether this machine is at fault: it does not trust the API's certificate, or its HTTP
        library cannot read the answer.
    """

    def __init__(self, message: str, *, request_sent: bool, is_local: bool = False) -> None:
        super().__init__(message)
        self.request_sent = request_sent
        self.is_local = is_local


class StablyHTTPError(StablyError):
    """The API answered, and the answer was no.

    :param status: HTTP status code outside 200 to 299.
    :param detail: First 500 characters of the body, for the log.
    :param retry_after: Seconds that the answer asked to wait; None if it did not.
    :param is_from_api: Whether the body is an error as Stably's API writes it, and not a proxy's page.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        detail: str,
        retry_after: float | None = None,
        is_from_api: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        self.is_from_api = is_from_api


class StablyAuthError(StablyHTTPError):
    """The API refused the key: 401 or 403."""


class StablyNotFoundError(StablyHTTPError):
    """The API knows no such project or run: 404."""


class StablyResponseError(StablyError):
    """The API said yes in a form that the contract does not have.

    :param status: HTTP status code, 200 to 299.
    :param content_type: The answer's content type, empty if it had none.
    :param detail: First 500 characters of the body, for the log.
    """

    def __init__(self, message: str, *, status: int, content_type: str, detail: str) -> None:
        super().__init__(message)
        self.status = status
        self.content_type = content_type
        self.detail = detail


class StablyAmbiguousStartError(StablyError):
    """A run was asked for and the answer was lost: an untracked run may exist.

    Never retried, by us or by the task: a second start would be a second run.

    :param project_id: The project in which to look for the run.
    """

    def __init__(self, message: str, *, project_id: str) -> None:
        super().__init__(message)
        self.project_id = project_id


class StablyCancelError(StablyError):
    """Not every run could be shown to be over.

    :param outcomes: Run id to ``{"outcome": ..., "status": ...}``, as in the XCom ``outcomes``.
    """

    def __init__(self, message: str, *, outcomes: Mapping[str, Mapping[str, str | None]]) -> None:
        super().__init__(message)
        self.outcomes = outcomes


class StablyRunError(StablyError):
    """A run did not pass.

    :param run: The run's summary, as in the XCom ``summary``.
    :param is_over: Whether the run is known to have ended: then nothing is left to cancel.
    """

    def __init__(self, message: str, *, run: Mapping[str, Any], is_over: bool = True) -> None:
        super().__init__(message)
        self.run = run
        self.is_over = is_over


def find_run_error(error: object) -> StablyRunError | None:
    """Return the error of a run that an exception is, or that it stands for; None if there is none.

    Give it ``context["exception"]`` in a callback of a task, however the error came to be wrapped: what it
    returns has the XCom ``summary`` as its ``run``.
    """
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        if isinstance(error, StablyRunError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


class StablyRunFailedError(StablyRunError):
    """The run ended otherwise than PASSED or CANCELLED, or passed with fewer tests than ``min_tests``."""


class StablyRunCancelledError(StablyRunError):
    """The run was cancelled, and not by the task that says so: by somebody else, or by an earlier try."""


class StablyRunTimeoutError(StablyRunError):
    """The run was not over, or did not leave the queue, in time."""


class StablyRunLostError(StablyRunError):
    """The run could not be watched any longer: for minutes the key was refused, or the run not found."""


@contextmanager
def clearing_locals() -> Iterator[None]:
    """Clear the locals of the calls that an error gets out of: some logs show them, and they hold the key.

    The error is the same one, and its traceback still says where it was. It may be an interruption, which a
    library's frames under way pass through; or a log of ours may show it. An error that was handled before is
    somebody else's, and left as it is.
    """
    theirs = sys.exception()
    try:
        yield
    except BaseException as error:
        errors = [error]
        for each in errors:  # also those that this grows by
            traceback.clear_frames(each.__traceback__)
            behind = (each.__cause__, each.__context__)
            errors += [other for other in behind if other is not None and other not in (*errors, theirs)]
        raise

"""Decide when failing polls end a wait: only once all of them have failed alike for long enough."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum

from airflow_provider_stably.exceptions import (
    StablyAuthError,
    StablyConfigError,
    StablyError,
    StablyNotFoundError,
    StablyUnreachableError,
)

REFUSED_SECONDS = 900.0
"""How long a key that has worked in this wait may be refused: some services send wrong 403s so long."""

NEVER_ACCEPTED_SECONDS = 120.0
"""How long a key may be refused that has never worked in this wait."""

MISSING_SECONDS = 120.0
"""How long a run may be not found: some services do not find a new one for its first seconds."""

LEAST_POLLS = 5
"""How many polls have to say the same besides: some sensors poll twice an hour."""

REMINDER_SECONDS = 60.0
"""Between two warnings in one wait, and between two reads of a connection that may be the trouble."""


class Doubt(Enum):
    """What a failed poll says that, if it lasts, ends the wait."""

    REFUSED = "the API key is refused"
    MISSING = "the run is not found"
    LOCAL = "this machine cannot read the API's answers"


class Belief:
    """What the polls of one wait have said: a doubt is believed once every poll has said it for long enough.

    :param key_has_worked: Whether the API has accepted the key in this wait already; the start counts.
    :param local_seconds: How long this machine's own trouble may last; None: as long as it likes.
    """

    def __init__(self, *, key_has_worked: bool, local_seconds: float | None = None) -> None:
        self.key_has_worked = key_has_worked
        self._local_seconds = local_seconds
        self._doubt: Doubt | None = None
        self._since = 0.0
        self._polls = 0
        self._reminded_at: float | None = None

    def answered(self) -> None:
        """Take in a poll that was answered."""
        self._doubt, self.key_has_worked = None, True

    def failed(self, error: StablyError, now: float) -> Doubt | None:
        """Take in a poll that failed.

        :param now: The present, in seconds since the epoch.
        :returns: What is believed by now; None if waiting may still change it.
        """
        if isinstance(error, StablyNotFoundError) and error.is_from_api:
            self.key_has_worked = True  # else the API would have refused it
        doubt = _doubt(error, is_page_believed=not self.key_has_worked)
        if doubt is not self._doubt:
            self._doubt, self._since, self._polls = doubt, now, 0
        self._polls += 1
        limit = self._limit
        has_lasted = limit is not None and now - self._since >= limit
        return doubt if has_lasted and self._polls >= LEAST_POLLS else None

    def remind(self, now: float) -> bool:
        """Return whether a warning of the failure is due, and start the minute until the next one."""
        if self._reminded_at is not None and abs(now - self._reminded_at) < REMINDER_SECONDS:
            return False
        self._reminded_at = now
        return True

    @property
    def may_be_the_connection(self) -> bool:
        """Whether another look at the connection may help: its key may have been rotated, its CA renewed."""
        return self._doubt in {Doubt.REFUSED, Doubt.LOCAL}

    def __str__(self) -> str:
        limit = self._limit
        if self._doubt is None or limit is None:
            return "polling again"
        until = _clock(self._since + limit)
        return f"this began at {_clock(self._since)}, and ends the wait if it lasts until {until}"

    @property
    def _limit(self) -> float | None:
        if self._doubt is Doubt.REFUSED:
            return REFUSED_SECONDS if self.key_has_worked else NEVER_ACCEPTED_SECONDS
        if self._doubt is Doubt.MISSING:
            return MISSING_SECONDS
        return self._local_seconds if self._doubt is Doubt.LOCAL else None


def _doubt(error: StablyError, *, is_page_believed: bool) -> Doubt | None:
    """Return what a failed poll says.

    :param is_page_believed: Whether a 404 counts that is a front end's page, and not the API's own: that says
        nothing of a run, but if nothing else ever came, the connection's host is wrong.
    """
    if isinstance(error, StablyAuthError):
        return Doubt.REFUSED
    if isinstance(error, StablyNotFoundError):
        return Doubt.MISSING if error.is_from_api or is_page_believed else None
    is_local = isinstance(error, StablyConfigError) or (
        isinstance(error, StablyUnreachableError) and error.is_local
    )
    return Doubt.LOCAL if is_local else None


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S} UTC"

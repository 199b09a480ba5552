"""A client of Airflow's REST API that tells what went wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import requests

_TIMEOUT_SECONDS = 30


class RestError(Exception):
    """Airflow's REST API said no.

    :param status: HTTP status code.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class RestClient:
    """JSON in, JSON out. Any thread may use it.

    :param url: What paths are appended to.
    :param log_in: Gives a session what it needs to be let in.
    """

    def __init__(self, url: str, *, log_in: Callable[[requests.Session], None]) -> None:
        self.url = url
        self._log_in = log_in
        self._of_thread = threading.local()

    def get(self, path: str, **query: Any) -> Any:
        """Read.

        :param query: The URL's query.
        :raises RestError: If the answer is not a success.
        """
        return self.send("GET", path, query=query)

    def post(self, path: str, body: Any) -> Any:
        """Create or do; raises as :meth:`get`."""
        return self.send("POST", path, body=body)

    def patch(self, path: str, body: Any) -> Any:
        """Change; raises as :meth:`get`."""
        return self.send("PATCH", path, body=body)

    def delete(self, path: str) -> None:
        """Delete; raises as :meth:`get`."""
        self.send("DELETE", path)

    def send(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Any:
        """Send a request and read its answer; None if it has no body."""
        answer = self._session().request(
            method, self.url + path, params=query, json=body, timeout=_TIMEOUT_SECONDS
        )
        if not answer.ok:
            raise RestError(
                f"{method} {path} -> {answer.status_code}: {answer.text[:500]}", status=answer.status_code
            )
        return answer.json() if answer.content else None

    def _session(self) -> requests.Session:
        if not hasattr(self._of_thread, "session"):
            session = requests.Session()
            session.trust_env = False
            self._log_in(session)
            self._of_thread.session = session
        return self._of_thread.session

"""A client of Airflow's REST API whose errors quote the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import requests

_TIMEOUT_SECONDS = 30


class RestError(Exception):
    """Airflow's REST API refused a request.

    :param status: HTTP status code.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class RestClient:
    """Send JSON requests, from any thread.

    :param url: The API's base URL.
    :param log_in: Adds the credentials to a session.
    """

    def __init__(self, url: str, *, log_in: Callable[[requests.Session], None]) -> None:
        self.url = url
        self._log_in = log_in
        self._of_thread = threading.local()

    def get(self, path: str, **query: Any) -> Any:
        """Send a GET request.

        :param query: The query parameters.
        :raises RestError: If the answer is not a success.
        """
        return self.send("GET", path, query=query)

    def post(self, path: str, body: Any) -> Any:
        """Send a POST request; raises as :meth:`get`."""
        return self.send("POST", path, body=body)

    def patch(self, path: str, body: Any) -> Any:
        """Send a PATCH request; raises as :meth:`get`."""
        return self.send("PATCH", path, body=body)

    def delete(self, path: str) -> None:
        """Send a DELETE request; raises as :meth:`get`."""
        self.send("DELETE", path)

    def send(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Any:
        """Send a request and return the answer's JSON; None if it has no body. Raises as :meth:`get`."""
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

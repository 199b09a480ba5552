"""Send calls over requests. Import lazily: requests costs every DAG parse about 0.1 s."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self, TypeVar

import requests
import tenacity
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError, SSLError

from airflow_provider_stably.api import answers
from airflow_provider_stably.api.calls import Call
from airflow_provider_stably.api.endpoint import Endpoint, tls_context_for
from airflow_provider_stably.api.retries import as_ambiguous_start, replay_policy
from airflow_provider_stably.exceptions import StablyError

T = TypeVar("T")

MAX_CONNECTIONS = 8
"""How many calls of one session may be under way at once before connections are thrown away."""

_CHUNK_BYTES = 64 * 1024

_NOT_SENT = (
    requests.exceptions.ConnectTimeout,
    requests.exceptions.ProxyError,
    requests.exceptions.InvalidSchema,  # of a proxy
    requests.exceptions.InvalidURL,  # the proxy's too; that of a redirect is not looked at
    LocationValueError,  # the same, found later, while connecting
)


class StablySession(requests.Session):
    """A ``requests.Session`` that is authenticated for one endpoint and closes what requests leaves open.

    The key goes to the endpoint's origin only and ``~/.netrc`` does not replace it; redirects are not
    followed; there is always a timeout; the connection's own proxy and CA bundle win over the environment's
    (requests has it the other way round); cookies are not kept, so that threads may share it.

    :param endpoint: The API and how to reach it.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint
        # Set on the session, this also keeps requests from asking ~/.netrc.
        self.auth = _OriginBoundKey(endpoint)
        self.headers["User-Agent"] = endpoint.user_agent
        self.trust_env = endpoint.trust_env
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = HTTPAdapter(pool_maxsize=MAX_CONNECTIONS)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> dict[str, Any]:
        """Put the endpoint's proxy and CA bundle before the environment's."""
        if verify is None:
            verify = self.endpoint.effective_verify()
        if self.endpoint.proxy:
            proxies = {
                "http": self.endpoint.proxy,
                "https": self.endpoint.proxy,
                **(proxies or {}),
            }
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Take no answer for a redirect: requests would read its body whole, and parse where it leads."""

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request to an address, which may be relative to the API's."""
        if "://" not in str(url):
            url = f"{self.endpoint.base_url}/{str(url).lstrip('/')}"
        return super().request(method, url, *args, **kwargs)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send with a timeout and without following redirects."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = (self.endpoint.connect_timeout, self.endpoint.read_timeout)
        kwargs["allow_redirects"] = False
        return super().send(request, **kwargs)


class StablyClient:
    """Send calls and read their answers, synchronously. Threads may share one.

    :param endpoint: The API and how to reach it.
    :param sleep: Waits the given seconds between attempts.
    """

    def __init__(self, endpoint: Endpoint, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.session = StablySession(endpoint)
        self._endpoint = endpoint
        self._sleep = sleep
        self._bundle_is_usable = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.session.close()

    def send(self, call: Call[T]) -> T:
        """Send a call, again where that is allowed and may help, and return what it reads.

        :raises StablyError: see :func:`~airflow_provider_stably.api.answers.read_answer`, and
            StablyUnreachableError if no answer came, StablyAmbiguousStartError if that was a start's.
        """
        retrying = tenacity.Retrying(sleep=self._sleep, **replay_policy(call))
        try:
            result: T = retrying(self.send_once, call)
        except StablyError as error:
            meaning = as_ambiguous_start(call, error)
            if meaning is error:
                raise
            raise meaning from error
        return result

    def send_once(self, call: Call[T]) -> T:
        """Send a call a single time, for those who repeat it themselves or have no time to.

        :raises StablyError: as :meth:`send`, but for a start StablyUnreachableError and the like as they are.
        """
        url = self._endpoint.base_url + call.path
        self._check_bundle()
        try:
            with self.session.request(call.route.method, url, json=call.body, stream=True) as response:
                answer = self._receive(response)
        except (requests.RequestException, HTTPError, OSError, ValueError, ArithmeticError) as error:
            failure = answers.unreachable(call, error, self._endpoint, request_sent=_was_sent(error))
        else:
            return answers.read_answer(call, answer, self._endpoint)
        raise failure  # not from the library's error: that may hold a proxy's password or the key

    def _check_bundle(self) -> None:
        """Read the CA bundle, once, to know before anything is sent whether requests can."""
        bundle = None if self._bundle_is_usable else self._endpoint.ca_bundle()
        if bundle is not None:
            try:
                tls_context_for(bundle)
            except OSError as error:
                raise answers.unusable_bundle(bundle, error) from error
        self._bundle_is_usable = True

    def _receive(self, response: requests.Response) -> answers.Answer:
        # The session's timeout restarts with every byte; a body that trickles is given up on here. So that
        # there is a "here", read1 gives what has come, where iter_content would wait for a whole chunk.
        deadline = time.monotonic() + self._endpoint.read_timeout
        body = bytearray()
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > answers.MAX_ANSWER_BYTES:
                break
            if time.monotonic() > deadline:
                raise requests.ReadTimeout(
                    f"the body was not complete after {self._endpoint.read_timeout:g} s"
                )
        return answers.Answer(
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=bytes(body[: answers.MAX_ANSWER_BYTES]),
            is_whole=len(body) <= answers.MAX_ANSWER_BYTES,
        )


class _OriginBoundKey(AuthBase):
    """Adds the key to requests to the endpoint's own origin."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if request.url and self._endpoint.owns(request.url):
            request.headers["Authorization"] = f"Bearer {self._endpoint.api_key}"
        return request


def _was_sent(error: Exception) -> bool:
    """Whether the request may have reached the server; when in doubt, yes."""
    if isinstance(error, _NOT_SENT) or answers.is_unwritable(error):
        return False
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(error, requests.exceptions.SSLError):
        return not _is_certificate_error(reason)
    return not isinstance(reason, NewConnectionError)


def _is_certificate_error(reason: object) -> bool:
    return isinstance(reason, SSLError) and isinstance(reason.args[0], ssl.SSLCertVerificationError)

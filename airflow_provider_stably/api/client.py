"""Send calls over requests. Import lazily: requests costs every DAG parse about 0.1 s."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NoReturn, Self, TypeVar

import requests
import tenacity
from urllib3.exceptions import HTTPError

from airflow_provider_stably.api import answers
from airflow_provider_stably.api.calls import Call
from airflow_provider_stably.api.endpoint import Endpoint, tls_context_for
from airflow_provider_stably.api.exchange import noting_what_is_sent
from airflow_provider_stably.api.retries import as_ambiguous_start, replay_policy
from airflow_provider_stably.api.transport import EndpointAdapter
from airflow_provider_stably.exceptions import StablyError, clearing_locals

T = TypeVar("T")

_CHUNK_BYTES = 64 * 1024


class StablySession(requests.Session):
    """A ``requests.Session`` that is authenticated for one endpoint and closes what requests leaves open.

    The key goes to the endpoint's origin only and ``~/.netrc`` does not replace it; redirects are not
    followed; there is always a timeout, and a bound for the whole answer; the connection's own proxy and CA
    bundle win over the environment's (requests has it the other way round), and loopback is reached without
    a proxy; an answer's cookies are not even read, so that threads may share it.

    :param endpoint: The API and how to reach it.
    :param by_address: As of :class:`~airflow_provider_stably.api.transport.EndpointAdapter`.
    """

    def __init__(self, endpoint: Endpoint, *, by_address: bool = False) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.auth = lambda request: request  # else requests asks ~/.netrc
        self.headers["User-Agent"] = endpoint.user_agent
        self.headers["Accept-Encoding"] = answers.ACCEPT_ENCODING
        self.trust_env = endpoint.trust_env
        adapter = EndpointAdapter(endpoint, by_address=by_address)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> dict[str, Any]:
        """Put the endpoint's proxy and CA bundle before the environment's."""
        if self.endpoint.proxy:
            proxies = {
                "http": self.endpoint.proxy,
                "https": self.endpoint.proxy,
                **(proxies or {}),
            }
        settings: dict[str, Any] = super().merge_environment_settings(url, proxies, stream, verify, cert)
        if verify is None:  # after the environment's: requests puts that before True
            settings["verify"] = self.endpoint.effective_verify()
        return settings

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: without the key, a copy would not work."""
        raise TypeError("a StablySession holds an API key: pickle the Airflow connection's id instead")

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirect: requests would even read its body whole, and parse where it leads."""

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request to an address, which may be relative to the API's."""
        if "://" not in str(url):
            url = f"{self.endpoint.base_url}/{str(url).lstrip('/')}"
        return super().request(method, url, *args, **kwargs)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send the endpoint's way, as :meth:`request` does, with a timeout; redirects are not followed."""
        if kwargs.get("proxies") is None or kwargs.get("verify") is None:  # it was prepared by hand
            given = [kwargs.get(name) for name in ("proxies", "stream", "verify", "cert")]
            kwargs |= self.merge_environment_settings(request.url, *given)
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = (self.endpoint.connect_timeout, self.endpoint.read_timeout)
        return super().send(request, **kwargs)


class StablyClient:
    """Send calls and read their answers, synchronously. Threads may share one.

    :param endpoint: The API and how to reach it.
    :param sleep: Waits the given seconds between attempts.
    :param by_address: As of :class:`~airflow_provider_stably.api.transport.EndpointAdapter`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        sleep: Callable[[float], None] = time.sleep,
        by_address: bool = False,
    ) -> None:
        self.session = StablySession(endpoint, by_address=by_address)
        self._endpoint = endpoint
        self._sleep = sleep
        self._bundle_is_usable = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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

    @clearing_locals()
    def send_once(self, call: Call[T]) -> T:
        """Send a call a single time, for those who repeat it themselves or have no time to.

        :raises StablyError: as :meth:`send`, but for a start StablyUnreachableError and the like as they are.
        """
        self._check_bundle()
        try:
            with noting_what_is_sent() as sent:
                answers.remember_secrets(call, self._endpoint)
                answer = self._answer(call)
        except (requests.RequestException, HTTPError, OSError, ValueError, ArithmeticError) as error:
            failure = answers.unreachable(call, error, self._endpoint, request_sent=bool(sent))
        else:
            return answers.read_answer(call, answer, self._endpoint)
        raise failure  # not from the library's error: that may hold a proxy's password

    def _answer(self, call: Call[T]) -> answers.Answer:
        if call.replayable:
            return self._answer_over(self.session, call)
        # Over a connection of its own: a load balancer may have dropped the others silently.
        with StablySession(self._endpoint) as session:
            return self._answer_over(session, call)

    def _answer_over(self, session: StablySession, call: Call[T]) -> answers.Answer:
        url = self._endpoint.base_url + call.path
        with session.request(call.route.method, url, json=call.body, stream=True) as response:
            return _received(response)

    def _check_bundle(self) -> None:
        """Read the CA bundle, once, to know before anything is sent whether requests can."""
        bundle = self._endpoint.effective_verify()
        is_https = self._endpoint.base_url.startswith("https:")
        if isinstance(bundle, str) and is_https and not self._bundle_is_usable:
            tls_context_for(bundle)
        self._bundle_is_usable = True


def _received(response: requests.Response) -> answers.Answer:
    body = bytearray()
    # read1 gives what has come; so that a body that is too long is not waited for.
    while len(body) <= answers.MAX_ANSWER_BYTES and (
        chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False)
    ):
        body += chunk
    return answers.Answer.received(response.status_code, response.headers.items(), bytes(body))

"""Where the API is, with which key, and by which way: what both clients are made from."""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

from airflow_provider_stably.api.address import is_loopback
from airflow_provider_stably.exceptions import StablyUnreachableError

if TYPE_CHECKING:
    import ssl

DEFAULT_BASE_URL = "https://api.stably.ai"
"""Documented: the public API's address."""

DASHBOARD_URL = "https://app.stably.ai"
"""Documented: where people see runs."""

DEFAULT_TIMEOUT = 30.0
"""Seconds, for a connection and for an answer."""

CONNECT_TIMEOUTS = 2
"""How many connect timeouts a connection may take in all, however many addresses its host has."""

READ_TIMEOUTS = 2
"""How many read timeouts an answer may take in all, from its first header to the end of its body."""

_CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")

_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The API as one connection reaches it.

    :param base_url: Scheme, host and, where it is not the scheme's own, port; a path prefix may follow. No
        slash at the end.
    :param api_key: Printable ASCII without blanks. It goes to this endpoint's origin and nowhere else.
    :param label: What to call this endpoint in messages, e.g. ``connection 'stably_default'``.
    :param connect_timeout: Seconds to wait for a connection.
    :param read_timeout: Seconds to wait for each part of an answer; see :data:`READ_TIMEOUTS` for the whole.
    :param proxy: Proxy URL; None means the environment's, if ``trust_env``. May hold a password.
    :param verify: True (certifi's certificates), False, or the path of a CA bundle; None means the bundle of
        the environment, if ``trust_env``, else certifi's.
    :param trust_env: Whether ``HTTPS_PROXY``, ``NO_PROXY``, ``REQUESTS_CA_BUNDLE`` and the like count.
    :param user_agent: The User-Agent header.
    """

    base_url: str
    api_key: str = field(repr=False)
    label: str = "the Stably API"
    connect_timeout: float = DEFAULT_TIMEOUT
    read_timeout: float = DEFAULT_TIMEOUT
    proxy: str | None = field(default=None, repr=False)
    verify: bool | str | None = None
    trust_env: bool = True
    user_agent: str = "airflow-provider-stably"

    def owns(self, url: str) -> bool:
        """Whether a URL has this endpoint's origin: the only one that may see the key."""
        return origin(urlsplit(url)) == origin(urlsplit(self.base_url))

    def effective_proxy(self) -> str | None:
        """Return the proxy for this endpoint: its own, else the environment's, if that is trusted.

        None for loopback, where plain http is allowed: a proxy would get the key in clear text.
        """
        if is_loopback(urlsplit(self.base_url).hostname):
            return None
        if self.proxy or not self.trust_env:
            return self.proxy
        # urllib reads NO_PROXY otherwise than requests does, and both clients are to go the same way.
        from requests.utils import get_environ_proxies, select_proxy  # costs a DAG parse 0.1 s

        proxy = select_proxy(self.base_url, get_environ_proxies(self.base_url))
        return f"http://{proxy}" if proxy and "://" not in proxy else proxy

    def proxy_secrets(self) -> list[str]:
        """Return what a proxy may echo of its own password; for https one that opens TLS, if it is our own.

        The environment's is looked up for plain http only: it takes longer than reading an answer.
        """
        proxy = self.effective_proxy() if self.base_url.startswith("http:") else self.proxy
        if not proxy:
            return []
        user, _, password = urlsplit(proxy).netloc.rpartition("@")[0].partition(":")
        if not password:
            return []
        pair = f"{unquote(user)}:{unquote(password)}"
        # Both clients send it in Latin-1; a proxy may write it in UTF-8.
        basic = [b64encode(pair.encode(encoding, "replace")).decode() for encoding in ("latin-1", "utf-8")]
        return [unquote(password), *basic]

    def effective_verify(self) -> bool | str:
        """Return the CA bundle to trust: its own, else the environment's, if that is trusted.

        :returns: The bundle's path; True for certifi's, False if nothing is verified.
        """
        if self.verify is not None:
            return self.verify
        return next(filter(None, map(os.environ.get, _CA_BUNDLES)), True) if self.trust_env else True

    def ca_bundle(self) -> str | None:
        """Return the path of the CA bundle to trust; None if nothing is verified."""
        verify = self.effective_verify()
        if verify is True:
            # What requests trusts by default, so that aiohttp does too.
            from requests.utils import DEFAULT_CA_BUNDLE_PATH

            return DEFAULT_CA_BUNDLE_PATH
        return verify or None

    def bundle_written_at(self) -> int | None:
        """Return when the CA bundle was last written, in nanoseconds: a triggerer may live for months."""
        bundle = self.ca_bundle() if self.base_url.startswith("https:") else None
        try:
            return None if bundle is None else os.stat(bundle).st_mtime_ns
        except OSError:  # whoever reads it says so
            return None

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled, and so do session, client and hook settings, which hold an endpoint."""
        raise TypeError("an Endpoint holds an API key: pickle the Airflow connection's id instead")


def tls_context_for(bundle: str | None) -> ssl.SSLContext:
    """Read a CA bundle, a file or a folder, as a TLS context that trusts nothing else.

    :param bundle: None verifies nothing.
    :raises StablyUnreachableError: if it cannot be used; nothing was sent.
    """
    import ssl  # not every DAG parse has loaded it

    if bundle is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        is_folder = os.path.isdir(bundle)
        try:
            context = ssl.create_default_context(
                cafile=None if is_folder else bundle, capath=bundle if is_folder else None
            )
        except OSError as error:  # ssl.SSLError is one
            kind = type(error).__name__
            message = f"CA bundle {bundle!r} cannot be used, see extra.verify or environment: {kind}"
            raise StablyUnreachableError(message, request_sent=False, is_local=True) from error
    leave_out_dhe(context)
    return context


def leave_out_dhe(context: ssl.SSLContext) -> None:
    """Offer no key exchange whose numbers a server may choose as long as seconds of work (TLS 1.2's DHE)."""
    names = [cipher["name"] for cipher in context.get_ciphers()]
    context.set_ciphers(":".join(name for name in names if not name.startswith("DHE-")))


def origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    """Reduce a URL to scheme, host and port, with the scheme's own port filled in."""
    scheme = url.scheme.lower()
    return scheme, url.hostname, url.port or _DEFAULT_PORTS.get(scheme)

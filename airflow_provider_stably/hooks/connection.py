"""Look up and read an Airflow connection of type ``stably``.

``extra`` is read as raw text, because ``extra_dejson`` talks to Airflow's
supervisor, which hangs inside a signal handler.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_stably import __version__
from airflow_provider_stably.api.address import Address, is_loopback
from airflow_provider_stably.api.endpoint import DEFAULT_BASE_URL, DEFAULT_TIMEOUT, Endpoint
from airflow_provider_stably.api.text import one_line, shown
from airflow_provider_stably.arguments import LONGEST_SECONDS
from airflow_provider_stably.exceptions import StablyConfigError, clearing_locals

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

log = logging.getLogger(__name__)

EXTRA_KEYS = frozenset({"timeout", "proxy", "verify", "trust_env", "allow_http"})

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """What a connection says. Kept in place of it, because a connection's repr shows its password.

    :param endpoint: Where the API is and how to reach it.
    :param project_id: The default project; empty if the connection has none.
    """

    endpoint: Endpoint
    project_id: str


@clearing_locals()
def look_up(
    get_connection: Callable[[str], Connection], conn_id: str, *, timeout: float | None
) -> ConnectionSettings:
    """Look a connection up and read it.

    :param get_connection: Airflow's.
    :param timeout: As of :func:`read_connection`.
    :raises StablyConfigError: if it is not defined, or cannot be read now or used.
    """
    try:
        connection = get_connection(conn_id)
    except AirflowNotFoundException:
        raise _cannot_be_read(conn_id, "is not defined: add a connection of type 'stably'") from None
    except Exception as error:  # each secrets backend has its own; callers know one to try again after
        raise _cannot_be_read(conn_id, f"cannot be read now: {type(error).__name__}") from error
    return read_connection(connection, timeout=timeout)


def _cannot_be_read(conn_id: str, problem: str) -> StablyConfigError:
    return StablyConfigError(problem, conn_id=conn_id, field="conn_id")


def read_connection(connection: Connection, *, timeout: float | None = None) -> ConnectionSettings:
    """Read where the API is, how to reach it and the default project.

    :param connection: An Airflow connection. One of another type is refused: its password is not for Stably.
    :param timeout: Seconds, before the connection's ``extra.timeout``; None leaves it to that.
    :raises StablyConfigError: naming the connection and the field, if anything cannot be used.
    """
    from airflow import __version__ as airflow_version

    reader = _Reader(connection.conn_id)
    reader.check_type(connection.conn_type)
    api_key = reader.api_key(connection.password)
    reader.check_shown(api_key, login=connection.login, host=connection.host)
    extra = reader.extra(connection.extra)
    seconds = reader.seconds(extra, "timeout", DEFAULT_TIMEOUT) if timeout is None else timeout
    endpoint = Endpoint(
        base_url=reader.base_url(
            connection.host, connection.port, reader.boolean(extra, "allow_http", False)
        ),
        api_key=api_key,
        label=f"connection {connection.conn_id!r}",
        connect_timeout=seconds,
        read_timeout=seconds,
        proxy=reader.proxy(extra),
        verify=reader.verify(extra),
        trust_env=reader.boolean(extra, "trust_env", True),
        user_agent=f"airflow-provider-stably/{__version__} apache-airflow/{airflow_version}",
    )
    return ConnectionSettings(endpoint, project_id=str(connection.login or "").strip())


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the fields of one connection; no error shows a value that may be secret."""

    conn_id: str

    def error(self, field: str, problem: str) -> StablyConfigError:
        return StablyConfigError(problem, conn_id=self.conn_id, field=field)

    def check_type(self, conn_type: str | None) -> None:
        if conn_type != "stably":
            found = shown(conn_type) if conn_type else "not set"
            raise self.error("conn_type", f"it is {found}, and has to be 'stably'")

    def api_key(self, password: str | None) -> str:
        key = (password or "").strip()
        if not key:
            raise self.error("password", "the Stably API key is missing")
        if " " in key or not (key.isascii() and key.isprintable()):  # it has no form in a header
            problem = "the Stably API key has blanks, control or non-ASCII characters in it"
            raise self.error("password", problem)
        return key

    def check_shown(self, api_key: str, **fields: str | None) -> None:
        for field, text in fields.items():
            if api_key == str(text or "").strip():  # else it would be in addresses, log lines and errors
                raise self.error(field, "the API key is here, too; it belongs into the password alone")

    def base_url(self, host: str | None, port: int | None, allow_http: bool) -> str:
        text = (host or "").strip() or DEFAULT_BASE_URL
        try:
            address = Address.parse(text if "://" in text else f"https://{text}")
        except ValueError as error:
            raise self.error("host", str(error)) from None
        if address.scheme not in {"http", "https"}:
            raise self.error("host", f"{address.scheme}:// is not supported, only https:// and http://")
        if address.has_user or address.rest:
            raise self.error("host", "only scheme, host, port and path belong here")
        if address.scheme == "http" and not allow_http and not is_loopback(address.host):
            problem = (
                f"http://{address.host} would send the API key in clear text; use https://, or set extra "
                '"allow_http" to true if that network is yours'
            )
            raise self.error("host", problem)
        if "v1" in unquote(address.path).casefold().split("/"):
            raise self.error("host", "leave /v1 out: it is added to each call's path")
        return address.base_url(self.port(port, address) if port else None)

    def port(self, port: object, address: Address) -> int:
        # A connection made in code, or by a secrets backend, may have it as text.
        text = str(port)
        if not text.isdecimal() or len(text) > 5 or not 1 <= int(text) <= 65535:
            raise self.error("port", f"{shown(port)} is not between 1 and 65535")
        if address.port not in {None, int(text)}:
            raise self.error("port", f"{text} contradicts port {address.port} in the host field")
        return int(text)

    def extra(self, text: str | None) -> Mapping[str, Any]:
        """Read ``extra``; what is empty or null counts as unset, as forms send it so."""
        try:
            extra = json.loads(text) if text and text.strip() else {}
        except (ValueError, RecursionError):
            raise self.error("extra", "not JSON") from None
        if not isinstance(extra, dict):
            raise self.error("extra", "not a JSON object")
        # Airflow 2's form, when it tests a connection, sends each key a second time with its old name.
        twins = {f"extra__stably__{key}" for key in extra}
        unknown = sorted(set(extra) - EXTRA_KEYS - twins)
        if unknown:
            log.warning(
                "Airflow connection %r: ignored unknown keys in extra: %s (known: %s)",
                self.conn_id,
                one_line(", ".join(unknown), limit=200),
                ", ".join(sorted(EXTRA_KEYS)),
            )
        return {key: value for key, value in extra.items() if value is not None and value != ""}

    def boolean(self, extra: Mapping[str, Any], key: str, default: bool) -> bool:
        value = _as_boolean(extra.get(key, default))
        if value is None:
            raise self.error(f"extra.{key}", f"{shown(extra[key])} is neither true nor false")
        return value

    def seconds(self, extra: Mapping[str, Any], key: str, default: float) -> float:
        value = extra.get(key, default)
        try:
            seconds = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            seconds = math.nan
        if not 0 < seconds <= LONGEST_SECONDS:
            raise self.error(f"extra.{key}", f"{shown(value)} is not a number of seconds above 0")
        return seconds

    def proxy(self, extra: Mapping[str, Any]) -> str | None:
        proxy = extra.get("proxy")
        if proxy is None:
            return None
        try:
            usable = isinstance(proxy, str) and Address.parse(proxy).scheme in {"http", "https"}
        except ValueError:
            usable = False
        if not usable:  # the value is not shown: it may hold a password
            raise self.error("extra.proxy", "not a URL like http://proxy.example:3128")
        return str(proxy)

    def verify(self, extra: Mapping[str, Any]) -> bool | str | None:
        value = extra.get("verify")
        if value is None:
            return None
        boolean = _as_boolean(value)
        if boolean is not None:
            return boolean
        if not isinstance(value, str) or not os.path.exists(value):
            raise self.error(
                "extra.verify",
                f"{shown(value)} is neither true nor false nor the path of a CA bundle",
            )
        return value


def _as_boolean(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    return _BOOLEANS.get(str(value).strip().lower()) if isinstance(value, str | int) else None

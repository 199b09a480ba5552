"""Read an http(s) address so strictly that both clients, and whoever checks it, see the same host. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:(?P<user>[^/?#\\\s]*)@)?"
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[^?#\\\s]*)?)"
    r"(?P<rest>(?:[?#]\S*)?)"
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of an address.

    :param scheme: In lower case.
    :param host: A name in lower case, or an IP address in its shortest form, IPv6 without brackets.
    :param port: 1 to 65535; None if the address has none.
    :param path: Empty, or with a slash before it.
    :param has_user: Whether there is a user name or a password.
    :param rest: Query and fragment.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    has_user: bool = False
    rest: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        :raises ValueError: if it is none; the message shows nothing of it, as it may hold a password.
        """
        if not text.isascii():
            raise ValueError("not an address: write an international host name in its ASCII form, xn--...")
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise ValueError("not an address")
        port = None if found["port"] is None else int(found["port"])
        if port is not None and not 1 <= port <= 65535:
            raise ValueError("not an address: the port is not between 1 and 65535")
        return cls(
            scheme=found["scheme"].lower(),
            host=_host(found["host"].lower()),
            port=port,
            path=found["path"],
            has_user=found["user"] is not None,
            rest=found["rest"],
        )

    def base_url(self, port: int | None = None) -> str:
        """Write scheme, host, port and path, without a slash at the end.

        :param port: None takes the address's own.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = port or self.port
        return f"{self.scheme}://{host}{'' if port is None else f':{port}'}{self.path}".rstrip("/")


@lru_cache  # asked before each poll
def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine: ``localhost``, or an IP address of it."""
    try:
        return _ip(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def _host(text: str) -> str:
    if text.startswith("["):
        return str(_ip(text[1:-1]))
    labels = text.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return str(_ip(text))  # else 127.1, 0x7f.1 and 2130706433 would mean what each resolver makes of it
    if len(text) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("not an address: the host is neither a name nor an IP address")
    return text


def _ip(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:  # its message shows the text
        raise ValueError("not an address: the host is neither a name nor an IP address") from None

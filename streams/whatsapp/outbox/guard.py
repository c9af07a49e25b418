"""The guard: allows calls to public addresses only, and to the very address that it checked.

A tenant's URL may name an internal machine, resolve to one, or resolve differently the next time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from streams.errors import ConfigurationError

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
_LONGEST = 2048
_NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in (
        # ``is_global`` of Python 3.11 accepts these: special addresses, multicast, and
        # IPv4 addresses inside IPv6 ones.
        "192.0.0.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",
        "192.88.99.0/24",
        "ff00::/8",
        "fec0::/10",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "::/96",
    )
]


@dataclass(frozen=True, slots=True)
class CallTarget:
    """The checked target of a call.

    Attributes:
        scheme, host, port: of the URL.
        path: with the query.
        address: the checked address, the only one to connect to; '' before the host is
            resolved.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: str = ""

    @property
    def url(self) -> str:
        """The URL with the address in place of the host."""
        address = f"[{self.address}]" if ":" in self.address else self.address

        return f"{self.scheme}://{address}:{self.port}{self.path}"

    @property
    def authority(self) -> str:
        """The ``Host`` header."""
        default = 443 if self.scheme == "https" else 80
        host = f"[{self.host}]" if ":" in self.host else self.host

        return host if self.port == default else f"{host}:{self.port}"


class UrlGuard:
    """Checks URLs.

    Args:
        allowed: ``host`` or ``host:port`` without further checks, for internal receivers;
            plain http and private addresses included.
        resolve: host and port to addresses; None uses the system's resolver.
    """

    def __init__(
        self, allowed: Iterable[str] = (), resolve: Resolve | None = None
    ) -> None:
        self._allowed = frozenset(
            text.strip().lower() for text in allowed if text.strip()
        )
        self._resolve = resolve or _resolve

    def check(self, url: str) -> CallTarget:
        """Check a URL without resolving it.

        Raises:
            ConfigurationError: calls to it are not allowed.
        """
        is_text = isinstance(url, str) and len(url) <= _LONGEST

        if not is_text or not url.isprintable() or any(map(str.isspace, url)):
            raise ConfigurationError(
                "a webhook's URL is an https address of at most 2048 characters,"
                " without spaces"
            )

        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower().rstrip("."), parts.port
        except ValueError:
            raise ConfigurationError(
                "a webhook's URL has a host and a port that can be read"
            ) from None

        has_user = parts.username is not None or parts.password is not None

        if not host or has_user or "\\" in url:
            raise ConfigurationError(
                "a webhook's URL has a host, and neither user nor password"
            )

        port = port or (443 if parts.scheme == "https" else 80)

        if self._is_allowed(host, port):
            if parts.scheme not in ("http", "https"):
                raise ConfigurationError("a webhook's URL is an http or https address")
        elif parts.scheme != "https" or port != 443:
            raise ConfigurationError("a webhook's URL is an https address on port 443")

        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

        return CallTarget(
            parts.scheme,
            host,
            port,
            path,
        )

    async def target(self, url: str) -> CallTarget:
        """Resolve and check the target of a call.

        Raises:
            ConfigurationError: one of its addresses is not public.
            OSError: the host has no address.
        """
        found = self.check(url)
        addresses = await self._resolve(found.host, found.port)

        if not addresses:
            raise OSError("the host has no address")

        is_allowed = self._is_allowed(found.host, found.port)

        if not is_allowed and not all(map(is_public, addresses)):
            raise ConfigurationError(
                "the host of a webhook's URL has an address that is not public"
            )

        return replace(found, address=addresses[0])

    def _is_allowed(self, host: str, port: int) -> bool:
        return host in self._allowed or f"{host}:{port}" in self._allowed


def is_public(text: str) -> bool:
    """Whether a text is an address of the public internet."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False

    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped

    if not address.is_global or address.is_multicast or address.is_reserved:
        return False

    return not any(address in network for network in _NOT_PUBLIC)


async def _resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    )

    return [str(row[4][0]) for row in found]

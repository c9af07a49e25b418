"""The address on which a small server of this package listens, as one setting."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from streams.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_PORT = re.compile(r"[0-9]{1,5}")
_EVERY_INTERFACE = {"": LOOPBACK, "0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - compared
"""Hosts that stand for every interface, with the host that reaches them locally."""
_LONGEST_PATH = 100
_ACCEPTED = (
    "use 8080 (this machine only), :8080 (every interface), 0.0.0.0:8080, "
    "[::1]:8080 or unix:/run/streams.sock"
)


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address or the path of a unix socket.

    Attributes:
        host: the host name or IP address; '' means every interface.
        port: the TCP port; 0 means any free port.
        path: the path of a unix socket; '' means TCP.
    """

    host: str = LOOPBACK
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``PORT``, ``:PORT``, ``HOST:PORT``, ``[IPV6]:PORT`` or ``unix:PATH``.

        A port alone means 127.0.0.1, so that nothing is opened to the network unless
        the address says so.

        Raises:
            ConfigurationError: the text has another form; the message lists the forms.
        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if path.startswith("//"):
                path = path[2:]

            if not path or len(path.encode()) > _LONGEST_PATH or "\0" in path:
                raise ConfigurationError(
                    f"a socket's path has 1 to {_LONGEST_PATH} bytes; {_ACCEPTED}"
                )

            return cls("", 0, str(Path(path)))

        host, colon, port = text.rpartition(":")
        if host and not _HOST.fullmatch(host):
            raise ConfigurationError(_ACCEPTED)
        if not _PORT.fullmatch(port) or int(port) > 65_535:
            raise ConfigurationError(_ACCEPTED)
        return cls(host.strip("[]") if colon else LOOPBACK, int(port))

    @property
    def local(self) -> Self:
        """The address under which a program on this machine reaches the server."""
        if self.path or self.host not in _EVERY_INTERFACE:
            return self
        return type(self)(_EVERY_INTERFACE[self.host], self.port)

    def __str__(self) -> str:
        """The address in a form that ``parse`` reads, always with the host."""
        if self.path:
            return f"unix:{self.path}"

        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

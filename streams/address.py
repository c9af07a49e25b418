"""Where a small server of this package listens, as one setting spells it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from streams.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_LONGEST_PATH = 100
_ACCEPTED = "use 8080 (this machine only), :8080 (every interface), 0.0.0.0:8080, [::1]:8080 or unix:/run/streams.sock"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address or the path of a unix socket.

    Attributes:
        host: empty: every interface.
        port: 0: any free one.
        path: of a unix socket; empty: TCP.
    """

    host: str = LOOPBACK
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``PORT``, ``:PORT``, ``HOST:PORT``, ``[IPV6]:PORT`` or ``unix:PATH``.

        A port alone is served on 127.0.0.1 only: what is opened to the network is opened by saying so.

        Raises:
            ConfigurationError: it is none of these; the message says what is accepted.
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
        if (
            not re.fullmatch(r"[0-9]{1,5}", port)
            or int(port) > 65_535
            or (host and not _HOST.fullmatch(host))
        ):
            raise ConfigurationError(_ACCEPTED)
        return cls(host.strip("[]") if colon else LOOPBACK, int(port))

    @property
    def local(self) -> Self:
        """The address under which a program on this machine reaches it."""
        if self.path or self.host not in ("", "0.0.0.0", "::"):  # noqa: S104 - a comparison
            return self
        return type(self)("::1" if self.host == "::" else LOOPBACK, self.port)

    def __str__(self) -> str:
        """As ``parse`` reads it, the host always named."""
        if self.path:
            return f"unix:{self.path}"
        return (
            f"[{self.host}]:{self.port}"
            if ":" in self.host
            else f"{self.host}:{self.port}"
        )

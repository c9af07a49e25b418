"""Find the embedded server, on systems that can run one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.errors import ConfigurationError

if TYPE_CHECKING:
    from streams.broker.server.embedded import EmbeddedServer


def embedded_server(url: str) -> EmbeddedServer:
    """The embedded server of a URL.

    Raises:
        ConfigurationError: the URL is malformed, or this system cannot run an embedded server.
    """
    try:
        from streams.broker.server.embedded import EmbeddedServer
    except ModuleNotFoundError as missing:
        if missing.name != "fcntl":
            raise

        raise ConfigurationError(
            "the embedded server runs on Linux and macOS only: here, give the URL of a server, "
            "e.g. STREAMS_URL=redis://HOST:6379/0"
        ) from None

    return EmbeddedServer.from_url(url)

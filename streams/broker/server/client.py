"""All that is used of the client library: its versions 5 to 8 are served, and what differs among them is known here.

Taken from it are the reading of URLs, connecting, TLS, logging in, and the words of its errors. Requests and replies
go past it (see ``wire``), over the transport that it has opened.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

import hiredis
from redis import exceptions as errors
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot

__all__ = [
    "FILES",
    "AbstractConnection",
    "ProtocolError",
    "Reader",
    "ReplyError",
    "UnixDomainSocketConnection",
    "ask",
    "credentials_of",
    "errors",
    "flawed_option",
    "key_slot",
    "made",
    "pack",
    "read_url",
    "transport_of",
]

ProtocolError = hiredis.ProtocolError
Reader = hiredis.Reader
ReplyError = hiredis.ReplyError
pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
"""A command as the server reads it."""

FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path")
"""Options that name files."""
_OPTION = re.compile(r"[a-z][a-z_]{1,40}")
_OURS: Mapping[str, Any] = {
    "protocol": 2,
    "retry_on_timeout": False,
    "socket_timeout": None,
    "health_check_interval": 0,
    "decode_responses": False,
}
_INTRODUCES_ITSELF = (
    ("driver_info",)
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else ("lib_name", "lib_version")
)
"""What makes it say who it is, first in versions 5 to 7: requests that a user may not be allowed to make."""


def read_url(url: str) -> tuple[type[AbstractConnection], dict[str, Any]]:
    """The class of connections that a URL asks for, and what it is made with.

    Raises:
        ValueError: the URL cannot be read. Not to be shown: the message may quote the URL, and with it a password.
    """
    try:
        options: dict[str, Any] = dict(parse_url(url))
        kind = options.pop("connection_class", Connection)
        kind = kind if isinstance(kind, type) else Connection
        # As Celery and the ssl module write it.
        if str(options.get("ssl_cert_reqs", "")).startswith("CERT_"):
            options["ssl_cert_reqs"] = options["ssl_cert_reqs"][5:].lower()
        kind(**options)
    except (ValueError, TypeError, errors.RedisError) as error:
        raise ValueError(str(error)) from None
    return kind, options


def flawed_option(url: str) -> str:
    """Which option of a URL cannot be read; '' if it is none, or its name may be a part of a password."""
    before, _, query = url.partition("?")
    if "@" in query or "#" in url:
        return ""
    for name, value in parse_qsl(query, keep_blank_values=True):
        try:
            read_url(
                f"{before.partition('://')[0].partition('+')[0]}://localhost?{urlencode({name: value})}"
            )
        except ValueError:
            return name if _OPTION.fullmatch(name) else ""
    return ""


def credentials_of(url: str) -> dict[str, str]:
    """User and password of a URL, those that it has.

    Raises:
        ValueError: as ``read_url``.
    """
    try:
        found = parse_url(url)
    except (ValueError, errors.RedisError) as error:
        raise ValueError(str(error)) from None
    return {
        name: str(found[name]) for name in ("username", "password") if found.get(name)
    }


def made(
    kind: type[AbstractConnection], options: Mapping[str, Any], within: float
) -> AbstractConnection:
    """A connection that is not connected yet; ``within``: seconds for that.

    RESP2, no retries and no per-reply timeout of the client library: with its defaults one publish can store two
    entries, and a blocking read fails after five seconds.
    """
    given = {
        **options,
        **_OURS,
        **dict.fromkeys(_INTRODUCES_ITSELF),
        "retry": Retry(NoBackoff(), 0),
    }
    if kind is not UnixDomainSocketConnection:
        given.setdefault("socket_connect_timeout", within)
    if issubclass(kind, SSLConnection) and given.get("ssl_cert_reqs") != "none":
        # Before its version 6 the library looked at no host name unless asked to.
        given.setdefault("ssl_check_hostname", True)
    return kind(**given)


async def ask(connection: AbstractConnection, *command: str) -> Any:
    """The reply to one command, over a connection that nothing else uses.

    Raises:
        errors.RedisError: it was refused, or the connection is lost.
    """
    await connection.send_command(*command)
    return await connection.read_response()


def transport_of(connection: AbstractConnection) -> asyncio.Transport:
    """The transport of a connected connection, which the library offers no public way to."""
    return cast(asyncio.Transport, connection._writer.transport)  # type: ignore[union-attr]  # noqa: SLF001

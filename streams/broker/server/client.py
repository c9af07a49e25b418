"""Everything that this package uses of the client library, in its versions 5 to 8.

The library reads URLs, connects, speaks TLS, logs in, and has the classes of errors. Requests and
replies go past it (see ``wire``), over the transport that it has opened.
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
"""Packs a command as the server reads it."""

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
"""Options by which a connection names its library, for which users may lack the permission."""


def read_url(url: str) -> tuple[type[AbstractConnection], dict[str, Any]]:
    """The class of connections of a URL, and its options.

    Raises:
        ValueError: the URL cannot be read. Do not show the message: it may quote a password.
    """
    try:
        options: dict[str, Any] = dict(parse_url(url))
        kind = options.pop("connection_class", Connection)
        if not isinstance(kind, type):
            kind = Connection

        # As Celery and the ssl module write it.
        if str(options.get("ssl_cert_reqs", "")).startswith("CERT_"):
            options["ssl_cert_reqs"] = options["ssl_cert_reqs"][5:].lower()

        kind(**options)
    except (ValueError, TypeError, errors.RedisError) as error:
        raise ValueError(str(error)) from None

    return kind, options


def flawed_option(url: str) -> str:
    """The option of a URL that cannot be read; '' for none, or if it may be part of a password."""
    before, _, query = url.partition("?")
    if "@" in query or "#" in url:
        return ""

    scheme = before.partition("://")[0].partition("+")[0]
    for name, value in parse_qsl(query, keep_blank_values=True):
        try:
            read_url(f"{scheme}://localhost?{urlencode({name: value})}")
        except ValueError:
            return name if _OPTION.fullmatch(name) else ""

    return ""


def credentials_of(url: str) -> dict[str, str]:
    """User and password of a URL, as far as it has them.

    Raises:
        ValueError: as ``read_url``.
    """
    try:
        found: dict[str, Any] = dict(parse_url(url))
    except (ValueError, errors.RedisError) as error:
        raise ValueError(str(error)) from None

    names = ("username", "password")
    return {name: str(found[name]) for name in names if found.get(name)}


def made(
    kind: type[AbstractConnection], options: Mapping[str, Any], within: float
) -> AbstractConnection:
    """A connection that is not connected yet, and has ``within`` seconds for that.

    It has RESP2, no retries and no timeout per reply. With the client library's defaults one
    publish can store two entries, and a blocking read fails after five seconds.
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
        # Before version 6 the library did not check host names by default.
        given.setdefault("ssl_check_hostname", True)

    return kind(**given)


async def ask(connection: AbstractConnection, *command: str) -> Any:
    """The reply to one command, over a connection that no other caller uses.

    Raises:
        errors.RedisError: the command was refused, or the connection is lost.
    """
    await connection.send_command(*command)
    return await connection.read_response()


def transport_of(connection: AbstractConnection) -> asyncio.Transport:
    """The transport of a connected connection, for which the library has no public name."""
    writer = connection._writer  # noqa: SLF001 - as above
    assert writer is not None  # noqa: S101 - for the type checker
    return cast(asyncio.Transport, writer.transport)

"""From a server's URL to a connected connection of the client library.

Imported with the first URL or connection, not with the package: the client library takes longer to import than all of
this package.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry as ClientRetry
from redis.backoff import NoBackoff

from streams.broker import failures
from streams.errors import BrokerError, BrokerUnavailable


class Dial:
    """How to connect to one server.

    Args:
        address: of the server, for messages: without credentials.
        url: ``redis://``, ``rediss://`` or ``unix://`` with what the client library knows to read in it; '' for unix
            sockets whose path is told with each connection.

    Attributes:
        kind, options: the client library's class of connections, and what it is made with.

    Raises:
        ValueError: the URL cannot be read. Not to be shown: the message may quote the URL, and with it a password.
    """

    def __init__(self, address: str, url: str = "") -> None:
        self._address = address
        self.kind: type[AbstractConnection] = UnixDomainSocketConnection
        self.options: dict[str, Any] = {}
        if url:
            self._read(url)

    def _read(self, url: str) -> None:
        try:
            options: dict[str, Any] = dict(parse_url(url))
            kind = options.pop("connection_class", Connection)
            self.kind = kind if isinstance(kind, type) else Connection
            self.options = options
            self.kind(**options)
        except (ValueError, TypeError, redis_errors.RedisError) as error:
            raise ValueError(str(error)) from None

    @property
    def user(self) -> str:
        """The server's user."""
        return str(self.options.get("username") or "default")

    async def connect(self, within: float, **options: Any) -> AbstractConnection:
        """A connected connection, ``within`` that many seconds.

        RESP2, no retries and no per-reply timeout of the client library: with its defaults one publish can store two
        entries, and a blocking read fails after five seconds.

        Raises:
            BrokerUnavailable: the server cannot be reached.
            AccessDenied: it refuses the credentials.
        """
        options = self.options | options
        options |= {
            "protocol": 2,
            "retry": ClientRetry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "socket_timeout": None,
            "health_check_interval": 0,
            "driver_info": None,
            "decode_responses": False,
        }
        if self.kind is not UnixDomainSocketConnection:
            options.setdefault("socket_connect_timeout", within)
        connection = self.kind(**options)
        try:
            async with asyncio.timeout(within):
                await connection.connect()  # type: ignore[no-untyped-call]
        except (redis_errors.RedisError, OSError, TimeoutError) as error:
            await connection.disconnect(nowait=True)
            raise self._unreachable(error) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def close(self) -> None:
        """Nothing is open but what was asked for."""

    def _unreachable(self, error: BaseException) -> BrokerError:
        cause = failures.loss(error, sent=False)
        if isinstance(cause, BrokerUnavailable) and "loading" not in str(cause):
            return BrokerUnavailable(f"{self._address} cannot be reached: {cause}", sent=False)
        return cause

"""One connection to the server, commands one after the other, replies as bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis
from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection

from streams.broker import failures
from streams.broker.scripts import Command, by_sha
from streams.errors import BrokerError, BrokerUnavailable

_STALE_AFTER = 0.2
_RELOADS = 5
"""Tries to load scripts per batch: they can be flushed again between loading and calling."""


class Link:
    """A connection of its own: nothing that others send can delay its replies or answer in their place.

    The client library is used below its own client object: no pool, no retries (a retried write can write twice), one
    timeout per round trip instead of one per reply. A cancelled or failed exchange closes the connection, so a late
    reply can never answer a later command.

    Args:
        connect: makes a connected connection.
        timeout: seconds for one round trip.
        on_close: told when the link is closed for good.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[AbstractConnection]],
        timeout: float,
        on_close: Callable[[Link], None],
    ) -> None:
        self._connect = connect
        self._on_close = on_close
        self._timeout = timeout
        self._connection: AbstractConnection | None = None
        self._lock = asyncio.Lock()
        self._used = 0.0
        self._closed = False

    async def call(self, *command: bytes | str | float, within: float | None = None) -> Any:
        """Send one command and return its reply, ``within`` seconds (the link's timeout if None).

        Raises:
            BrokerUnavailable: the server could not be reached or the answer was lost (``sent`` tells which).
            BrokerError: the server refused; see the classes in ``streams.errors``.
        """
        reply = (await self.batch((command,), within=within))[0]
        if isinstance(reply, BrokerError):
            raise reply
        return reply

    async def batch(self, commands: Sequence[Command], *, within: float | None = None) -> list[Any]:
        """Send commands in one write and return their replies; a refusal stands in its reply's place.

        A script that the server does not know is loaded and sent again: such a command did nothing.

        Raises:
            BrokerUnavailable: as in ``call``.
        """
        if not commands:
            # From Python 3.12 on a transport that is given nothing to write tries for ever to write it.
            return []
        async with self._lock:
            replies = await self._exchange(commands, within)
            for _ in range(_RELOADS):
                unknown = [i for i, reply in enumerate(replies) if isinstance(reply, _UnknownScript)]
                if not unknown:
                    break
                shas = dict.fromkeys(str(commands[i][1]) for i in unknown)
                await self._exchange([("SCRIPT", "LOAD", by_sha[sha].text) for sha in shas], within)
                again = await self._exchange([commands[i] for i in unknown], within)
                for i, reply in zip(unknown, again, strict=True):
                    replies[i] = reply
            return replies

    async def close(self) -> None:
        """Close the connection for good. Idempotent."""
        self._closed = True
        self._on_close(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect()

    async def _exchange(self, commands: Sequence[Command], within: float | None) -> list[Any]:
        packed = b"".join(map(_pack, commands))
        connection = await self._ready()
        try:
            async with asyncio.timeout(within or self._timeout):
                await connection.send_packed_command(packed, check_health=False)
                replies = [await self._read(connection) for _ in commands]
        except TimeoutError as error:
            await self._drop(connection)
            raise BrokerUnavailable(f"no answer within {within or self._timeout} s", sent=True) from error
        except (redis_errors.RedisError, OSError) as error:
            await self._drop(connection)
            raise failures.loss(error, sent=True) from error
        except BaseException:
            await self._drop(connection)
            raise
        self._used = time.monotonic()
        return replies

    @staticmethod
    async def _read(connection: AbstractConnection) -> Any:
        try:
            return await connection.read_response()
        except redis_errors.NoScriptError as error:
            return _UnknownScript(str(error))
        except redis_errors.ResponseError as error:
            return failures.refusal(error)

    async def _ready(self) -> AbstractConnection:
        connection = self._connection
        if connection is not None and time.monotonic() - self._used > _STALE_AFTER:
            # The server may have gone since: find out before a write whose fate would then be unknown.
            try:
                stale = not connection.is_connected or await connection.can_read() or _is_reset(connection)
            except (redis_errors.RedisError, OSError):
                stale = True
            if stale:
                await self._drop(connection)
                connection = None
        if connection is None:
            if self._closed:
                raise BrokerUnavailable("the broker is closed")
            connection = self._connection = await self._connect()
        return connection

    async def _drop(self, connection: AbstractConnection) -> None:
        self._connection = None
        await connection.disconnect(nowait=True)


def _is_reset(connection: AbstractConnection) -> bool:
    """Whether the transport is gone; after a reset the client library's own check sees no end of file."""
    writer = getattr(connection, "_writer", None)
    return writer is not None and writer.is_closing()


def _pack(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]  # its stub forgets longer tuples
    return packed


class _UnknownScript(BrokerUnavailable):
    """NOSCRIPT: the server has not got the script (any more)."""

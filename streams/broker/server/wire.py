"""The bytes of one connection: commands out in one write, replies in as they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from typing import Any, Self, cast

from streams.broker.server.client import (
    AbstractConnection,
    ProtocolError,
    Reader,
    ReplyError,
    pack,
    transport_of,
)
from streams.broker.server.failures import BREAKS_OFF
from streams.broker.server.scripts import Command

_NOTHING = object()


class Wire(asyncio.Protocol):
    """Reads a connection by callback, once the client library has opened it and logged in.

    The library's own reading goes through a stream with a buffer, a lock and several coroutines
    per reply, one exchange at a time (docs/adr/0020).

    Args:
        connection: connected, with no reply outstanding. From now on only its ``disconnect`` may
            be called.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._reader = Reader(notEnoughData=_NOTHING)
        self._replies: list[Any] = []
        self._awaited: deque[tuple[int, asyncio.Future[list[Any]]]] = deque()
        self._loss: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._transport = transport_of(connection)
        self._before = cast(asyncio.Protocol, self._transport.get_protocol())
        self._transport.set_protocol(self)

    @property
    def awaited(self) -> int:
        """How many exchanges are not answered yet, including those of cancelled callers."""
        return len(self._awaited)

    async def exchange(
        self, commands: Iterable[Command], count: int, within: float
    ) -> list[Any]:
        """Send ``count`` commands and return their replies; refusals are ``ReplyError`` among them.

        Several exchanges may be under way; they are answered in the order of their calls. The
        replies to a cancelled caller are dropped when they come.

        Raises:
            TimeoutError: replies were missing after ``within`` seconds. The connection cannot be
                used any more.
            OSError: the connection is lost.
        """
        packed = b"".join(map(_pack, commands))
        if self._loss is not None:
            raise self._loss

        answer: asyncio.Future[list[Any]] = self._loop.create_future()
        self._awaited.append((count, answer))
        self._transport.write(packed)
        give_up = self._loop.call_later(
            within, self._fail, TimeoutError(f"no answer within {within:.1f} s")
        )

        try:
            return await answer
        finally:
            give_up.cancel()

    @property
    def peer(self) -> tuple[str, int]:
        """Host and port of the server; '' and 0 on a unix socket."""
        host = getattr(self._connection, "host", "")
        port = getattr(self._connection, "port", 0)
        return host, port

    def give_up(self, why: str) -> None:
        """Make all exchanges fail. May be called from any thread."""
        # RuntimeError: its event loop has ended, and the exchanges with it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fail, ConnectionError(why))

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the event loop that runs."""
        return self._loop is asyncio.get_running_loop()

    @property
    def is_lost(self) -> bool:
        """Whether it is known that the connection cannot be used any more."""
        return self._loss is not None or self._transport.is_closing()

    async def look(self) -> None:
        """Let the event loop notice that the connection was lost while it was idle."""
        # Two turns: one for the selector, one for the callbacks of its events.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def close(self, *, wait: bool) -> None:
        """Close the connection. ``wait``: until it is closed."""
        self._loss = self._loss or ConnectionError("the connection is closed")
        await self._connection.disconnect(nowait=not wait)

    def data_received(self, data: bytes) -> None:
        """Read the complete replies; the last one of an exchange ends it."""
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOTHING:
                self._replies.append(reply)
        except ProtocolError as error:
            self._fail(
                ConnectionError(f"what the server sends cannot be read: {error}")
            )
            return

        replies, awaited = self._replies, self._awaited
        last = replies[-1] if replies else None

        while awaited and len(replies) >= awaited[0][0]:
            count, answer = awaited.popleft()
            if not answer.done():
                answer.set_result(replies[:count])

            del replies[:count]

        is_refusal = type(last) is ReplyError
        if is_refusal and (not awaited or str(last).startswith(BREAKS_OFF)):
            # The reason of a server that closes the connection.
            self._fail(ConnectionError(str(last)))
        elif replies and not awaited:
            self._fail(ConnectionError("the server sent more than it was asked for"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Make all exchanges fail, and pass on to the library, whose ``disconnect`` waits."""
        self._fail(exc or ConnectionError("the server closed the connection"))
        self._before.connection_lost(exc)

    def _fail(self, error: Exception) -> None:
        self._loss = self._loss or error
        for _, answer in self._awaited:
            if not answer.done():
                answer.set_exception(error)


class Packed(tuple[bytes | str | float, ...]):
    """A command that is packed when it is made, to save the time when it is sent."""

    packed: bytes

    def __new__(cls, command: Command) -> Self:
        """Pack a command."""
        made = super().__new__(cls, command)
        made.packed = _pack(command)
        return made


def _pack(command: Command) -> bytes:
    if isinstance(command, Packed):
        return command.packed

    return pack(tuple(command))

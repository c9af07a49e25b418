"""A TCP proxy in front of a unix socket: cuts, drops, refuses and answers on demand, and counts what clients send."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import hiredis

from tests.servers import Server

Action = Literal["cut", "drop"]
_OF_CONNECTING = frozenset({b"HELLO", b"AUTH", b"CLIENT", b"SELECT"})


@dataclass(slots=True, eq=False)
class Fault:
    """Applied to the reply of the first command that matches.

    ``cut``: the reply is lost and the connection reset. ``drop``: the connection stays open and silent for ever.
    ``fired`` is set then.
    """

    command: Callable[[list[Any]], bool]
    reply: Callable[[bytes], bool]
    action: Action
    fired: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """Use with ``async with``. Present connections end with ``reset``, ``hang_up`` and ``refuse``."""

    def __init__(self, server: Server) -> None:
        self._upstream = server.socket
        self._fault: Fault | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._hanging_up = False
        self._server: asyncio.Server | None = None
        self.port = 0
        self.answer = b""
        """While it is set, commands are answered with this error, and do not reach the server."""
        self.answered = 0
        """How many commands were."""
        self.attempts: list[float] = []
        """Monotonic times of connection attempts."""
        self.commands: list[tuple[float, list[Any]]] = []
        """Monotonic times and words of every command sent by clients."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(
        self,
        action: Action,
        command: Callable[[list[Any]], bool],
        reply: Callable[[bytes], bool] = lambda _: True,
    ) -> Fault:
        """Have the next matching command's reply lost."""
        self._fault = Fault(command, reply, action)
        return self._fault

    async def accept(self) -> None:
        """Serve (again)."""
        self._hanging_up = False
        if self._server is None:
            self._server = await asyncio.start_server(
                self._accept, "127.0.0.1", self.port
            )
            self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """From now on nobody listens."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()

    def hang_up(self) -> None:
        """From now on connections are accepted, counted and reset."""
        self._hanging_up = True
        self.reset()

    def reset(self) -> None:
        """RST, not FIN, to everybody."""
        for writer in list(self._writers):
            self._abort(writer)

    @staticmethod
    def _abort(writer: asyncio.StreamWriter) -> None:
        end = writer.get_extra_info("socket")
        if end is not None and end.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                end.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
        writer.transport.abort()

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.attempts.append(time.monotonic())
        with contextlib.suppress(OSError, asyncio.CancelledError):
            if self._hanging_up:
                self._abort(writer)
                return
            upstream = await asyncio.open_unix_connection(self._upstream)
            await _Pair(self, (reader, writer), upstream).run()

    def seen_with(self, word: str) -> list[list[Any]]:
        """The commands that have this word."""
        return [command for _, command in self.commands if word.encode() in command]

    def _seen(self, command: list[Any]) -> Fault | None:
        self.commands.append((time.monotonic(), command))
        return (
            self._fault
            if self._fault is not None and self._fault.command(command)
            else None
        )


class _Pair:
    """One connection through the proxy."""

    def __init__(
        self, proxy: Proxy, client: tuple[Any, Any], server: tuple[Any, Any]
    ) -> None:
        self._proxy = proxy
        self._client_reader, self._client_writer = client
        self._server_reader, self._server_writer = server
        self._fault: Fault | None = None
        self._silent = False
        self._owed = 0
        self._settled = asyncio.Event()
        self._settled.set()

    async def run(self) -> None:
        ends = {self._client_writer, self._server_writer}
        self._proxy._writers |= ends
        pumps = [
            asyncio.ensure_future(self._requests()),
            asyncio.ensure_future(self._replies()),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._proxy._writers -= ends
            for writer in ends:
                writer.close()

    async def _requests(self) -> None:
        parser = hiredis.Reader()
        while data := await self._client_reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                self._fault = self._proxy._seen(command) or self._fault
                if (
                    self._proxy.answer
                    and bytes(command[0]).upper() not in _OF_CONNECTING
                ):
                    # Replies come in the order of the commands.
                    await self._settled.wait()
                    self._proxy.answered += 1
                    self._client_writer.write(b"-" + self._proxy.answer + b"\r\n")
                else:
                    self._owed += 1
                    self._settled.clear()
                    self._server_writer.write(hiredis.pack_command(tuple(command)))
            await self._server_writer.drain()

    async def _replies(self) -> None:
        parser = hiredis.Reader()
        while data := await self._server_reader.read(1 << 20):
            parser.feed(data)
            while parser.gets() is not False:
                self._owed -= 1
            fault = self._fault
            if fault is not None and not fault.fired.is_set() and fault.reply(data):
                fault.fired.set()
                self._proxy._fault = None
                if fault.action == "cut":
                    self._proxy._abort(self._client_writer)
                    return
                self._silent = True
            if not self._silent:
                self._client_writer.write(data)
                await self._client_writer.drain()
            if self._owed <= 0:
                self._settled.set()


def is_command(*names: str) -> Callable[[list[Any]], bool]:
    """Matches commands by their first word."""
    wanted = {name.encode() for name in names}
    return lambda command: bool(command) and bytes(command[0]).upper() in wanted

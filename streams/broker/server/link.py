"""Connections to servers: commands one after the other, replies as bytes."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from streams.broker.server import failures
from streams.broker.server.client import AbstractConnection, ReplyError, errors
from streams.broker.server.credentials import Credentials
from streams.broker.server.errands import Errands
from streams.broker.server.kinds import node_of_cluster
from streams.broker.server.scripts import Command, Script, by_sha
from streams.broker.server.wire import Packed, Wire
from streams.errors import (
    OTHER_LOOP,
    BrokerError,
    BrokerUnavailable,
    ConfigurationError,
    WrongCredentials,
)

_STALE_AFTER = 0.2
_OF_NO_PRIMARY = ("READONLY", "read only replica", "NOREPLICAS", "MASTERDOWN")
_RELOADS = 20
"""Times that a batch loads scripts: they can be flushed again between loading and calling."""


class Link(ABC):
    """One user's connection, on which no other user can delay replies or receive them.

    The client library is used below its own client object: without a pool, without retries (a
    retried write can write twice), and with one timeout per round trip instead of one per reply.
    """

    def __init__(self) -> None:
        self._errands = Errands(self.send)

    async def see_to(self, *command: bytes | str | float) -> None:
        """Send a command whose server may be away: it is repeated while this link is open.

        Raises:
            BrokerError: the server refused at once, and trying again cannot help.
        """
        await self._errands.do(command)

    async def call(
        self, *command: bytes | str | float, within: float | None = None
    ) -> Any:
        """Send one command and return its reply, ``within`` seconds (the link's timeout if None).

        The time includes connecting, and waiting for the replies to earlier commands.

        Raises:
            BrokerUnavailable: the server could not be reached, or its answer was lost
                (``sent`` tells which).
            BrokerError: the server refused; see the classes in ``streams.errors``.
        """
        return await self.send(command, within=within)

    async def run(
        self, script: Script, keys: Iterable[str], *arguments: bytes | str | float
    ) -> Any:
        """Run a script and return its reply; raises as ``call``."""
        return await self.send(script.command(keys, *arguments))

    @staticmethod
    def pack(command: Command) -> Packed:
        """The command, ready to be sent."""
        return Packed(command)

    async def send(self, command: Command, *, within: float | None = None) -> Any:
        """As ``call``, with the command in one piece."""
        reply = (await self.batch((command,), within=within))[0]
        if isinstance(reply, BrokerError):
            raise reply

        return reply

    @abstractmethod
    async def batch(
        self, commands: Sequence[Command], *, within: float | None = None
    ) -> list[Any]:
        """Send commands in one write; returns their replies, and refusals in their places.

        Raises:
            BrokerUnavailable: as in ``call``.
        """

    @abstractmethod
    async def ask_any(self, *command: bytes | str | float) -> Any:
        """Send a command that every server answers alike, to any server.

        Raises:
            BrokerUnavailable: no server answers.
            BrokerError: a server refused.
        """

    @abstractmethod
    def server_of(self, key: str) -> str:
        """The server of several that has a key, as far as is known; '' where there is only one."""

    @abstractmethod
    async def close(self) -> None:
        """Close it for good. Idempotent. From another event loop: make its exchanges fail."""

    @abstractmethod
    async def rest(self) -> None:
        """Close the connection until it is needed again, unless it is in use."""

    @abstractmethod
    async def primaries(self) -> dict[str, Link]:
        """A link to each server that has keys, by its name; the name of an only server is ''."""

    @abstractmethod
    def leave(self, stay: Callable[[str, int], bool]) -> bool:
        """Drop the connections to servers that are no primaries (any more), also during exchanges.

        May be called from any thread.

        Args:
            stay: whether a host and port is a primary.

        Returns:
            Whether there is a connection, dropped or not.
        """


class NodeLink(Link):
    """One connection to one server.

    A cancelled or failed exchange closes the connection, so that a late reply never answers a
    later command.

    Args:
        connect: makes a connected connection.
        timeout: seconds for one round trip.
        on_close: called when the link is closed for good.
        depth: how many round trips may be under way at once; further ones wait for their turn.
            They are answered in the order of the calls. A lost connection fails all of them.
        credentials: of the connections; a login is noted there.
        is_bounded: connecting must fit into the time of a call. False for a server that is
            started first.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[AbstractConnection]],
        timeout: float,
        on_close: Callable[[NodeLink], None],
        depth: int = 1,
        *,
        credentials: Credentials | None = None,
        is_bounded: bool = True,
    ) -> None:
        super().__init__()
        self._connect = connect
        self._on_close = on_close
        self._timeout = timeout
        self._wire: Wire | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = asyncio.Semaphore(depth)
        self._connecting = asyncio.Lock()
        self._used = 0.0
        self._closed = False
        self._peer = ("", 0)
        self._credentials = credentials or Credentials()
        self._is_bounded = is_bounded

    @property
    def peer(self) -> tuple[str, int]:
        """Host and port of the last connection; '' and 0 on a unix socket, and before."""
        return self._peer

    async def batch(
        self, commands: Sequence[Command], *, within: float | None = None
    ) -> list[Any]:
        """Send commands in one write; returns their replies, and refusals in their places.

        A script that the server does not know is loaded and called again: its first call did
        nothing.

        Raises:
            BrokerUnavailable: as in ``call``.
        """
        replies = await self.trip(commands, within)
        for i, reply in enumerate(replies):
            # A link to a cluster follows redirections, and calls ``trip``.
            if isinstance(reply, Redirected):
                replies[i] = node_of_cluster(self._peer)

        return plain(replies)

    async def trip(
        self, commands: Sequence[Command], within: float | None = None
    ) -> list[Any]:
        """As ``batch``, but each ``Sign`` among the replies stays as it is.

        Raises:
            BrokerUnavailable: as in ``call``.
            ConfigurationError: another event loop has used the link before.
        """
        if not commands:
            # From Python 3.12 on a transport tries for ever to write nothing.
            return []

        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError(OTHER_LOOP)

        within = within or self._timeout
        deadline = _Deadline(loop.time() + within, within)
        await self._turn(deadline)

        try:
            return await self._with_scripts(commands, deadline)
        finally:
            self._turns.release()

    async def _turn(self, deadline: _Deadline) -> None:
        """Wait until there is room for one more round trip."""
        if not self._turns.locked():
            await self._turns.acquire()
            return

        try:
            async with asyncio.timeout_at(deadline.at):
                await self._turns.acquire()
        except TimeoutError:
            raise deadline.passed("others waited for their answers") from None

    async def _with_scripts(
        self, commands: Sequence[Command], deadline: _Deadline
    ) -> list[Any]:
        replies = await self._exchange(commands, deadline)
        for _ in range(_RELOADS):
            unknown = [
                i
                for i, reply in enumerate(replies)
                if isinstance(reply, _UnknownScript)
            ]
            if not unknown:
                break

            shas = dict.fromkeys(str(commands[i][1]) for i in unknown)
            loads = [("SCRIPT", "LOAD", by_sha[sha].text) for sha in shas]
            await self._exchange(loads, deadline)

            again = await self._exchange([commands[i] for i in unknown], deadline)
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply

        return replies

    async def close(self) -> None:
        """Close the connection for good. Idempotent."""
        self._closed = True
        self._errands.close()
        self._on_close(self)
        wire = self._wire
        if wire is None:
            return

        if not wire.is_here:
            # Another thread may wait in an exchange, which fails now; it then closes the link.
            wire.give_up("the broker is closed")
            return

        self._wire = None
        await wire.close(wait=True)

    async def rest(self) -> None:
        """Close the connection until it is needed again, unless it is in use."""
        wire = self._wire
        if wire is not None and not wire.awaited and not self._connecting.locked():
            await self._drop(wire)

    async def primaries(self) -> dict[str, Link]:
        """This link: its server has all keys."""
        return {"": self}

    async def ask_any(self, *command: bytes | str | float) -> Any:
        """Ask the only server."""
        return await self.call(*command)

    def server_of(self, key: str) -> str:
        """'': there is only one server."""
        del key
        return ""

    def leave(self, stay: Callable[[str, int], bool]) -> bool:
        """Drop the connection if its server is no primary; returns whether there was one."""
        wire = self._wire
        if wire is not None and not stay(*wire.peer):
            wire.give_up("another server is the primary now")

        return wire is not None

    async def _exchange(
        self, commands: Sequence[Command], deadline: _Deadline
    ) -> list[Any]:
        wire = await self._ready(deadline)
        left = deadline.at - asyncio.get_running_loop().time()
        if left <= 0:
            raise deadline.passed("connecting took as long")

        try:
            replies = await wire.exchange(commands, len(commands), left)
        except TimeoutError as error:
            await self._drop(wire)
            raise BrokerUnavailable(
                f"no answer within {deadline.within} s", sent=True
            ) from error
        except OSError as error:
            await self._drop(wire)
            raise failures.loss(error, sent=True) from error
        except BaseException:
            # Cancelled. A hanging server may be the reason, and the next call should not hang too.
            if wire.awaited <= 1:
                await self._drop(wire)

            raise

        self._used = time.monotonic()
        is_welcome = True

        for i, reply in enumerate(replies):
            if type(reply) is not ReplyError:
                continue

            refused = _refusal(str(reply))
            if isinstance(refused, (NotPrimary, WrongCredentials)):
                await self._drop(wire)  # The next call connects and logs in anew.
                is_welcome &= not isinstance(refused, WrongCredentials)

            replies[i] = self._credentials.judged(refused)

        if is_welcome:
            self._credentials.accepted = True

        return replies

    async def _ready(self, deadline: _Deadline) -> Wire:
        is_open = self._wire is not None and not self._connecting.locked()
        if is_open or not self._is_bounded:
            return await self._connected()

        try:
            async with asyncio.timeout_at(deadline.at):
                return await self._connected()
        except TimeoutError:
            raise deadline.passed("there was no connection") from None

    async def _connected(self) -> Wire:
        async with self._connecting:
            wire = self._wire
            if wire is not None and time.monotonic() - self._used > _STALE_AFTER:
                await wire.look()

            if wire is not None and wire.is_lost:
                # Better now than after a write, whose outcome would be unknown.
                await self._drop(wire)
                wire = None

            if wire is None:
                if self._closed:
                    raise BrokerUnavailable("the broker is closed")

                wire = self._wire = Wire(await self._connect())
                self._peer = wire.peer

            return wire

    async def _drop(self, wire: Wire) -> None:
        if self._wire is wire:
            self._wire = None

        await wire.close(wait=False)


def _refusal(text: str) -> BrokerError:
    if text.startswith("NOSCRIPT"):
        return _UnknownScript(text)
    if text.startswith(("MOVED ", "ASK ")):
        return Redirected(text)

    refused = failures.refusal(errors.ResponseError(text))
    if not isinstance(refused, BrokerUnavailable):
        return refused
    if text.startswith("TRYAGAIN"):
        return TryAgain(str(refused))
    if text.startswith("CLUSTERDOWN"):
        return Down(str(refused))
    if any(mark in text for mark in _OF_NO_PRIMARY):
        return NotPrimary(str(refused))

    return refused


@dataclass(frozen=True, slots=True)
class _Deadline:
    """The end of a call: ``at`` by the loop's clock, ``within`` seconds from its start."""

    at: float
    within: float

    def passed(self, why: str) -> BrokerUnavailable:
        """The error of a call that was not sent by then."""
        return BrokerUnavailable(
            f"nothing was sent within {self.within} s: {why}", sent=False
        )


class Sign(BrokerUnavailable):
    """A refusal that tells a link what to do. Callers see it as ``BrokerUnavailable``."""


def plain(replies: list[Any]) -> list[Any]:
    """The replies, with plain errors in the place of signs."""
    for i, reply in enumerate(replies):
        if isinstance(reply, Sign):
            replies[i] = said = BrokerUnavailable(str(reply), sent=reply.sent)
            said.server = reply.server

    return replies


class _UnknownScript(Sign):
    """NOSCRIPT: the server does not have the script (any more)."""


class NotPrimary(Sign):
    """The server is a replica, or lost its replicas: another one may be the primary by now."""


class Down(Sign):
    """CLUSTERDOWN: the node is cut off, or no node serves the slot."""


class TryAgain(Sign):
    """TRYAGAIN: the keys of the command are being moved to another node."""


class Redirected(Sign):
    """MOVED or ASK: another node serves the slot.

    Attributes:
        slot: that the other node serves.
        host, port: of that node; the host is '' for the asked node's own.
        once: for ASK: only this command goes to that node, behind an ASKING.
    """

    def __init__(self, text: str) -> None:
        super().__init__(f"the server cannot serve this now: {text}")
        word, slot, address = text.split(" ")[:3]
        self.host, _, port = address.rpartition(":")
        self.slot, self.port, self.once = int(slot), int(port), word == "ASK"

"""Ears: blocked reads, each of which hears for many idle groups that something was published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from streams.broker.server.connection import Broker
from streams.common.log_facts import logger_of
from streams.errors import AccessDenied, BrokerError, BrokerUnavailable

if TYPE_CHECKING:
    from streams.broker.server.link import Link
    from streams.broker.server.scripts import Command

logger = logger_of("broker")

SIZE = 64
"""Groups per ear.

When one of them is woken, its ear has to ask again for all others.
"""
_BLOCK = 0.5
_BLOCK_NEW = 0.1
"""Seconds for which the ear for newcomers blocks.

It hears for groups that come while the other ears are blocked, so it asks again soon.
"""
_PATIENCE = 5.0
_AFTER_DEFECT = 1.0


class Listener(Protocol):
    """Waits for entries.

    Its positions are stream keys, with the entry id after which an entry is news.
    """

    positions: Mapping[str, bytes]
    is_over: bool

    def wake(self, error: BrokerError | None = None) -> None:
        """There is news."""


class Ears:
    """As many ears as the waiting groups need, and one for newcomers.

    Args:
        broker: an open broker.
        on_loss: told that nothing can be heard: the server is away, or does not let
            this user listen.
    """

    def __init__(self, broker: Broker, on_loss: Callable[[BrokerError], None]) -> None:
        self._broker = broker
        self._on_loss = on_loss
        self._new: dict[Listener, None] = {}
        self._wanted = asyncio.Event()
        self._sets: list[set[Listener]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._start(self._hear_new)

    def add(self, who: Listener) -> None:
        """Wake ``who`` when there is an entry behind its positions, unless it is over before."""
        self._new[who] = None
        self._wanted.set()
        room = sum(SIZE - len(heard) for heard in self._sets)
        if room < len(self._new):
            more: set[Listener] = set()
            self._sets.append(more)
            self._start(partial(self._hear, more))

    async def close(self) -> None:
        """Hear nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, hear: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(self._hear_on(hear), name="streams-ear")
        self._tasks.append(task)

    async def _hear_on(self, hear: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin again after a defect: its groups would stand still, and nothing would tell."""
        while True:
            try:
                await hear()
            except Exception as defect:
                logger.exception("a read for many groups failed, and is begun again")
                self._on_loss(
                    BrokerError(
                        f"a read for many groups failed: {type(defect).__name__}"
                    )
                )
                await asyncio.sleep(_AFTER_DEFECT)

    async def _hear(self, mine: set[Listener]) -> None:
        link = self._broker.link()
        try:
            while True:
                mine -= {who for who in mine if who.is_over}
                while self._new and len(mine) < SIZE:
                    mine.add(self._new.popitem()[0])
                if mine:
                    await self._listen(link, list(mine), _BLOCK)
                else:
                    await self._newcomers()
        finally:
            await link.close()

    async def _hear_new(self) -> None:
        link = self._broker.link()
        try:
            while True:
                await self._newcomers()
                # The others first: one that is not blocked takes them.
                await asyncio.sleep(0)
                new = [who for who in self._new if not who.is_over]
                if new:
                    await self._listen(link, new, _BLOCK_NEW)
                else:
                    self._new.clear()
        finally:
            await link.close()

    async def _newcomers(self) -> None:
        if not self._new:
            self._wanted.clear()
        await self._wanted.wait()

    async def _listen(self, link: Link, whose: list[Listener], seconds: float) -> None:
        """Wake those for whom there is something, now or within so many seconds."""
        lows = _lowest(whose)
        command: Command = (
            "XREAD",
            "COUNT",
            1,
            "BLOCK",
            round(seconds * 1000),
            "STREAMS",
            *lows,
            *lows.values(),
        )
        try:
            reply = await link.send(command, within=seconds + _PATIENCE)
        except (AccessDenied, BrokerUnavailable) as error:
            # Not tried again in silence: another server may answer, where the groups
            # are not as far as they were.
            self._on_loss(error)
            return
        except BrokerError:
            await self._find_odd(link, whose)
            return
        for key, entries in reply or ():
            _wake(whose, key.decode(), entries[-1][0])

    async def _find_odd(self, link: Link, whose: list[Listener]) -> None:
        """Wake those whose streams cannot be read: the others must not suffer for them."""
        try:
            replies = await link.batch([_look(who.positions) for who in whose])
        except BrokerUnavailable as error:
            self._on_loss(error)
            return
        for who, reply in zip(whose, replies, strict=True):
            if reply:
                who.wake()


def _look(positions: Mapping[str, bytes]) -> Command:
    return ("XREAD", "COUNT", 1, "STREAMS", *positions, *positions.values())


def _lowest(whose: Iterable[Listener]) -> dict[str, bytes]:
    """Of each stream the position of the group that is least far."""
    lows: dict[str, bytes] = {}
    for who in whose:
        for key, position in who.positions.items():
            if key not in lows or _number(position) < _number(lows[key]):
                lows[key] = position
    return lows


def _wake(whose: Iterable[Listener], key: str, newest: bytes) -> None:
    for who in whose:
        position = who.positions.get(key)
        if position is not None and _number(position) < _number(newest):
            who.wake()


def _number(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence)

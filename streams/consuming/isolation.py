"""Isolation: while a suspect runs, nothing else of its process does."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Protocol
from weakref import WeakKeyDictionary

from streams.common.log_facts import logger_of

logger = logger_of("consumer")

FIRST_WAIT = 5.0
"""The most seconds that the gate is closed while others end; doubled if too few."""
LONGEST = 600.0
"""The longest of these waits, and how long a suspect runs with the gate closed at most."""
REST = 4
"""How many times as long as others took to end, the gate then stays open."""
LEAVE = (0.3, 1.5)
"""Seconds, drawn between these, that a busy process leaves a suspect to idle ones."""

_GATES: WeakKeyDictionary[object, Isolation] = WeakKeyDictionary()


class Hand(Protocol):
    """The part of a consumer that knows which entries it holds."""

    @property
    def in_hand(self) -> bool:
        """Whether it holds an entry, or may without knowing it."""
        ...


class Isolation:
    """The gate of a process.

    While it is closed for a suspect, no consumer fetches until that has its outcome.

    An entry that kills its worker must not take others with it, not even one that was
    only fetched. So a consumer that is to run a suspect closes the gate, waits until
    every entry that the process holds has ended and is written, and only then takes the
    suspect. One gate serves all consumers of a broker in a process. It is used in one
    event loop only.

    Neither side may starve: each wait for others is bounded, and followed by a longer
    time with the gate open; the next is longer. A suspect that runs for very long is no
    longer alone.
    """

    def __init__(self) -> None:
        self._hands: list[Hand] = []
        self._steps = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._opens_itself = False
        self._last_opening: asyncio.TimerHandle | None = None
        self._rest_until = 0.0
        self._wait = FIRST_WAIT
        self.is_closed = False
        """Nothing may be fetched, but by the consumer that closed it."""
        self.suspect = ""
        """For which suspect it is closed: stream/group and level|id; '' while it is open."""

    @classmethod
    def of(cls, broker: object) -> Isolation:
        """The gate of all consumers of this broker."""
        return _GATES.setdefault(broker, cls())

    @property
    def is_idle(self) -> bool:
        """No consumer holds an entry, or may hold one without knowing it."""
        return not any(hand.in_hand for hand in self._hands)

    @property
    def _is_quiet(self) -> bool:
        return not self._steps and self.is_idle

    def join(self, hand: Hand) -> None:
        """A consumer begins."""
        self._hands.append(hand)

    def leave(self, hand: Hand) -> None:
        """A consumer has ended."""
        self._hands.remove(hand)
        self.tell()

    def __enter__(self) -> None:
        """A step begins.

        Code that may take entries runs inside of a step until the entries are held.
        """
        self._steps += 1

    def __exit__(self, *_: object) -> None:
        """The step has ended."""
        self._steps -= 1
        self.tell()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """A part of a step that may be long and takes nothing.

        A gate that closes need not wait for it.

        The step must not take anything afterwards, for the gate may be closed by then.
        """
        self._steps -= 1
        self.tell()
        try:
            yield
        finally:
            self._steps += 1

    def tell(self) -> None:
        """Have the waiting consumers look again: something may have become quiet."""
        if not self.is_closed:
            return
        if self._opens_itself and self._is_quiet:
            self._open()
        self._wake()

    async def wait_open(self, is_stopping: Callable[[], bool]) -> None:
        """Return when the gate is open, or the consumer is to stop."""
        while self.is_closed and not is_stopping():
            await self._news()

    async def close(self, is_stopping: Callable[[], bool], suspect: str = "") -> bool:
        """Close the gate, and return True once no entry is held.

        ``open_when_quiet`` must follow then.

        ``suspect`` says for which: stream/group and level|id.

        False: the gate is closed already or has to stay open for now, others did not
        end in time, or the consumer is to stop. The gate is then as it was.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self.is_closed or (began < self._rest_until and not self.is_idle):
            return False
        self.is_closed, self.suspect = True, suspect
        try:
            async with asyncio.timeout(self._wait):
                while not self._is_quiet and not is_stopping():
                    await self._news()
        except TimeoutError:
            logger.info(
                "a suspect waits on: what runs did not end in time",
                extra={"seconds": round(self._wait)},
            )
            self._open()
            return False
        except BaseException:
            self._open()
            raise
        finally:
            waited = loop.time() - began
            self._wait = min(max(FIRST_WAIT, 2 * waited), LONGEST)
            self._rest_until = began + (1 + REST) * waited
        if is_stopping():
            self._open()
            return False
        return True

    def open_when_quiet(self) -> None:
        """Let the gate open when no entry is held, or after a very long time."""
        self._opens_itself = True
        self._last_opening = asyncio.get_running_loop().call_later(LONGEST, self._open)
        self.tell()

    def _open(self) -> None:
        self.is_closed = self._opens_itself = False
        self.suspect = ""
        if self._last_opening is not None:
            self._last_opening.cancel()
            self._last_opening = None
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _news(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


class Suspects:
    """The waiting suspect that one consumer knows, and when its process may run it."""

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation
        self._not_before = 0.0
        self.waiting = ""
        """level|id of one that is due, as of the last look; '' if there is none."""

    def saw(self, suspect: str) -> None:
        """A look for due retries left this one; '': none."""
        if suspect and not self.waiting:
            wait = random.uniform(*LEAVE)  # noqa: S311 - no secret
            self._not_before = asyncio.get_running_loop().time() + wait
        self.waiting = suspect

    @property
    def is_time(self) -> bool:
        """Whether to run the suspect that waits now.

        In an idle process that is at once, in a busy one after a moment.
        """
        if not self.waiting:
            return False
        return (
            self._isolation.is_idle
            or asyncio.get_running_loop().time() >= self._not_before
        )

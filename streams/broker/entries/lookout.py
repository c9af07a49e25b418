"""The lookout: waits for all idle groups of a process at once, on a few connections.

A group that waits by itself blocks on a connection of its own and looks for retries and
pauses twice a second. That is right for some groups and too much for hundreds. Here one
blocked XREAD hears for many groups that something was published, and one EXISTS sees
twice a second that none of them has a retry or a pause. It hands out nothing: who is
woken looks for itself, as it always does.

It is the server's own answer that is waited for: each stream is read from where its
group is, so what is published between two reads is in the answer to the second.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from streams.broker.entries.ears import Ears
from streams.broker.server.connection import Backoff, Broker
from streams.common.log_facts import logger_of
from streams.errors import AccessDenied, BrokerError, BrokerUnavailable

if TYPE_CHECKING:
    from streams.broker.server.link import Link
    from streams.broker.server.scripts import Command

logger = logger_of("broker")

CROWD = 24
"""So many consumers of one process wait together.

Fewer wait each by itself, which wakes one worker per event.
"""
POLL = 0.5
"""Seconds between two looks for what no read announces.

These are retries and pauses, and that the streams are there.
"""
_KEYS_PER_CALL = 1000
_STARTS = 16
"""So many groups of a process are declared at once."""


class Watch:
    """The news that one group, or one scheduler, waits for.

    Args:
        positions: stream keys, with the entry id after which an entry is news.
        absent: keys that do not exist; that one does is news.

    Attributes:
        is_over: there is news; the waiting group has to look, and to begin a new watch
            afterwards.
    """

    def __init__(self, positions: Mapping[str, bytes], absent: Iterable[str]) -> None:
        self.positions = positions
        self.absent = tuple(absent)
        self.is_over = False
        self._error: BrokerError | None = None
        self._news = asyncio.Event()

    def wake(self, error: BrokerError | None = None) -> None:
        """There is news, or it cannot be told any more whether there is."""
        self._error = self._error or error
        self.is_over = True
        self._news.set()

    def nudge(self) -> None:
        """Let the waiting group look up, though there is no news."""
        self._news.set()

    async def news(self, seconds: float) -> bool:
        """Wait for news, ``seconds`` at most; False: there is none yet, and the watch goes on.

        Raises:
            BrokerUnavailable: the server is away.
        """
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        if self._error is not None:
            raise self._error
        if not self.is_over:
            self._news.clear()
        return self.is_over


class Lookout:
    """Keeps the watches of one broker. It belongs to the event loop in which it is entered.

    Args:
        broker: an open broker.

    Attributes:
        starting: held while a group is declared, or looks for losses, so that hundreds
            do not wait for each other's answers until their time is over.
        heard_at: when the server last said that there is no retry and no pause
            (monotonic seconds; 0.0: never).
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = weakref.ref(broker)
        self._is_possible = not broker.is_spread
        self._inside = 0
        self._consumers = 0
        self._watches: set[Watch] = set()
        self._ears: Ears | None = None
        self._looking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._here = asyncio.Event()
        self._here.set()
        self.starting = asyncio.Semaphore(_STARTS)
        self.heard_at = 0.0

    @classmethod
    def of(cls, broker: Broker) -> Lookout:
        """The one of a broker."""
        return _lookouts.setdefault(broker, cls(broker))

    @property
    def is_crowded(self) -> bool:
        """Whether there are so many consumers that they wait together.

        Not on a cluster: one command reaches one slot only.
        """
        return self._is_possible and self._consumers >= CROWD

    def enter(self, *, consumes: bool) -> None:
        """A consumer or a scheduler will wait here."""
        self._inside += 1
        self._consumers += consumes

    async def leave(self, *, consumes: bool) -> None:
        """It will not wait any more; the last one closes the connections."""
        self._inside -= 1
        self._consumers -= consumes
        if self._inside:
            return
        # The next group or scheduler may enter in another event loop.
        self._news, self._here, self.starting = (
            asyncio.Event(),
            asyncio.Event(),
            asyncio.Semaphore(_STARTS),
        )
        self._here.set()
        if self._looking is None or self._ears is None:
            return
        looking, ears, self._looking, self._ears = self._looking, self._ears, None, None
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await ears.close()

    def watch(
        self, positions: Mapping[str, bytes], absent: Iterable[str] = ()
    ) -> Watch:
        """Begin to watch, once entered; the caller calls ``forget`` in the end."""
        broker = self._broker()
        assert broker is not None  # noqa: S101 - for the type checker: the caller has it
        watch = Watch(positions, absent)
        if self._ears is None:
            self._ears = Ears(broker, self._lose)
            self._looking = asyncio.create_task(
                self._look_on(broker), name="streams-lookout"
            )
        self._watches.add(watch)
        if positions:
            self._ears.add(watch)
        self._news.set()
        return watch

    def forget(self, watch: Watch) -> None:
        """Watch no more."""
        watch.is_over = True
        self._watches.discard(watch)

    @property
    def is_away(self) -> bool:
        """Whether the server was lost and does not answer yet."""
        return not self._here.is_set()

    def _lose(self, error: BrokerError) -> None:
        """Tell all that nothing can be heard.

        Each has to say so, or to look for itself before it waits again.
        """
        if isinstance(error, BrokerUnavailable):
            self._here.clear()
            self._news.set()
        elif isinstance(error, AccessDenied) and self._is_possible:
            # A user that was made before may not. Each group and scheduler waits by
            # itself, as where there is no crowd.
            self._is_possible = False
            logger.warning(
                "groups wait each on a connection of their own",
                extra={"error": str(error)},
            )
        watches, self._watches = self._watches, set()
        for watch in watches:
            watch.wake(error if isinstance(error, BrokerUnavailable) else None)

    async def _look_on(self, broker: Broker) -> None:
        link = broker.link()
        backoff = Backoff()
        try:
            while True:
                if self._here.is_set() and not self._watches:
                    self._news.clear()
                    await self._news.wait()
                try:
                    await self._look(link)
                except BrokerError as error:
                    self._lose(error)
                    await asyncio.sleep(backoff.next())
                except Exception as defect:
                    logger.exception("a look for many groups failed, and is made again")
                    self._lose(
                        BrokerError(
                            f"a look for many groups failed: {type(defect).__name__}"
                        )
                    )
                    await asyncio.sleep(backoff.next())
                else:
                    backoff.reset()
                    self._here.set()
                    self.heard_at = time.monotonic()
                    await asyncio.sleep(POLL)
        finally:
            await link.close()

    async def _look(self, link: Link) -> None:
        """See whether a key is there that was not, or a stream is not there any more."""
        for watch in [watch for watch in self._watches if watch.is_over]:
            self._watches.discard(watch)
        if not self._here.is_set():
            await link.call("TIME")
        watches = list(self._watches)
        parts = list(_parts(watches))
        counts = await _counts(
            link, [command for part in parts for command in _questions(part)]
        )
        for at, part in enumerate(parts):
            if counts[2 * at : 2 * at + 2] != _expected(part):
                await self._ask_each(link, part)

    async def _ask_each(self, link: Link, watches: list[Watch]) -> None:
        """Wake those whose keys have changed."""
        counts = await _counts(
            link, [command for watch in watches for command in _questions([watch])]
        )
        for at, watch in enumerate(watches):
            if counts[2 * at : 2 * at + 2] != _expected([watch]):
                watch.wake()


def _parts(watches: Iterable[Watch]) -> Iterable[list[Watch]]:
    part: list[Watch] = []
    size = 0
    for watch in watches:
        part.append(watch)
        size += len(watch.absent) + len(watch.positions)
        if size >= _KEYS_PER_CALL:
            yield part
            part, size = [], 0
    if part:
        yield part


def _questions(watches: list[Watch]) -> tuple[Command, Command]:
    """Ask how many keys exist that should not, and how many that should.

    A command needs some keys, so both may ask for the same.
    """
    absent = [key for watch in watches for key in watch.absent]
    there = [key for watch in watches for key in watch.positions]
    return ("EXISTS", *(absent or there)), ("EXISTS", *(there or absent))


def _expected(watches: list[Watch]) -> list[int]:
    absent = any(watch.absent for watch in watches)
    there = sum(len(watch.positions) for watch in watches)
    return [0 if absent else there, there]


async def _counts(link: Link, commands: list[Command]) -> list[Any]:
    replies = await link.batch(commands)
    for reply in replies:
        if isinstance(reply, BrokerError):
            raise reply
    return replies


_lookouts: weakref.WeakKeyDictionary[Broker, Lookout] = weakref.WeakKeyDictionary()

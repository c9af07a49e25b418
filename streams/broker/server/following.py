"""Follows which server is the primary while connections are open: one thread per broker, which asks the Sentinels.

In a planned failover the old primary goes on working for some ten seconds, and what it takes on is lost. No error tells
its users, so somebody has to ask (docs/adr/0030-ask-the-sentinels.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from streams.broker.server.dial import Dial
from streams.broker.server.kinds import no_sentinel
from streams.broker.server.link import NodeLink
from streams.common import native
from streams.common.forking import at_fork
from streams.errors import BrokerError, BrokerUnavailable, CommandRefused

Node = tuple[str, int]
Leave = Callable[[Callable[[str, int], bool]], bool]
"""Drops every connection but those to servers that the function takes; returns whether any connection is open."""

EVERY = 0.5
"""Seconds between two questions to the same Sentinel."""
_IDLE = 5.0
"""Seconds without an open connection after which nothing is followed any more."""

_guard = native.new_lock()
# A child that is forked while another thread holds the lock would wait for it for ever.
at_fork(
    before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release
)


class NoService(BrokerUnavailable):
    """A Sentinel watches no service of this name.

    Args:
        service: the name.
        place: host and port of the Sentinel.
        known: the services that it watches, as far as it says.
    """

    def __init__(self, service: str, place: Node, known: Sequence[str]) -> None:
        where = f"{place[0]}:{place[1]}"
        names = (
            f"it watches {', '.join(known)}"
            if known
            else "SENTINEL MASTERS tells which it watches"
        )
        name = known[0] if len(known) == 1 else "SERVICE"
        super().__init__(
            f"the Sentinel {where} watches no service {service}: {names}; write redis+sentinel://{where}/{name}/0"
        )


class Sentinels:
    """The Sentinels of a service, and what they say.

    Args:
        asking: how to connect to a Sentinel.
        places: where they are.
        service: the name under which they know the servers.
    """

    def __init__(self, asking: Dial, places: Sequence[Node], service: str) -> None:
        self.places = tuple(places)
        self.service = service
        self._asking = asking

    def link(self, place: Node, within: float) -> NodeLink:
        """A connection to one of them."""
        host, port = place
        return NodeLink(
            partial(self._asking.connect, within, host=host, port=port), within, _nobody
        )

    async def ask(self, link: NodeLink) -> Node:
        """Which server is the primary, as one of them says.

        Raises:
            BrokerUnavailable: it cannot be reached.
            NoService: it watches no service of this name.
            AccessDenied: it refuses the credentials.
        """
        try:
            found = await link.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        except CommandRefused as error:
            raise no_sentinel(link.peer, error) from error
        if not found:
            raise NoService(self.service, link.peer, await self._services(link))
        return found[0].decode(), int(found[1])

    async def _services(self, link: NodeLink) -> list[str]:
        """The names of the services that a Sentinel watches; none where it may not be asked."""
        with contextlib.suppress(
            BrokerError, LookupError, AttributeError, TypeError, ValueError
        ):
            masters = await link.call("SENTINEL", "MASTERS")
            return sorted(row[row.index(b"name") + 1].decode() for row in masters)
        return []

    def most(self, said: Sequence[Node | None]) -> Node | None:
        """The server that most of all Sentinels name, those included that say nothing; None: there is none."""
        named = Counter(filter(None, said)).most_common(1)
        return named[0][0] if named and named[0][1] > len(self.places) // 2 else None


class Following:
    """Leaves a server soon after most Sentinels name another one.

    It has a thread and an event loop of its own: connections belong to several event loops, and any of these may end,
    or be blocked by a handler.

    Args:
        sentinels: who is asked.
        leave: see ``Leave``; a method, which is held weakly: who forgets to close the broker keeps no thread running.
    """

    def __init__(self, sentinels: Sentinels, leave: Leave) -> None:
        self._sentinels = sentinels
        self._leave = weakref.WeakMethod(leave)
        self._run: _Run | None = None

    def start(self) -> None:
        """Follow from now on; nothing happens if that is so already. To be called with each new connection."""
        with _guard:
            if self._run is None or not self._run.goes_on():
                self._run = _Run(self._sentinels, self._leave)

    async def close(self) -> None:
        """End, and wait for the end."""
        with _guard:
            run, self._run = self._run, None
        if run is not None:
            await run.close()


class _Run:
    """One thread, from its start to its end."""

    def __init__(self, sentinels: Sentinels, leave: weakref.WeakMethod[Leave]) -> None:
        self._sentinels = sentinels
        self._leave = leave
        self._said: list[Node | None] = [None] * len(sentinels.places)
        self._primary: Node | None = None
        self._used_at = time.monotonic()
        self._is_over = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._is_closed = False
        self._thread = native.start(self._main, "streams-primary")

    def goes_on(self) -> bool:
        """Whether it goes on, which it then does for a while. False in a child of the process that started it."""
        if self._is_over or not self._thread.is_alive():
            return False
        self._used_at = time.monotonic()
        return True

    async def close(self) -> None:
        """End, and wait for the end."""
        self._is_closed = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # It ended by itself.
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, 2 * EVERY)

    def _main(self) -> None:
        self._loop = loop = native.new_event_loop()
        try:
            if not self._is_closed:  # Told before it had a loop to be told by.
                loop.run_until_complete(self._follow())
        finally:
            self._is_over = True
            loop.close()

    async def _follow(self) -> None:
        links = [self._sentinels.link(place, EVERY) for place in self._sentinels.places]
        asking = [
            asyncio.create_task(self._ask(at, link)) for at, link in enumerate(links)
        ]
        try:
            while not await self._stopped_within(EVERY) and self._is_wanted():
                continue
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            for link in links:
                await link.close()

    async def _ask(self, at: int, link: NodeLink) -> None:
        """Ask one Sentinel again and again; one that hangs keeps nobody from believing the others."""
        while True:
            try:
                self._said[at] = await self._sentinels.ask(link)
            except BrokerError:
                self._said[at] = None
            primary = self._sentinels.most(self._said)
            if primary not in (None, self._primary):
                self._primary = primary
                self._leave_others()
            await asyncio.sleep(EVERY)

    def _leave_others(self) -> bool | None:
        """Leave every server but the primary; returns whether any connection is open, None if nobody is there."""
        leave = self._leave()
        if leave is None:
            return None
        return leave(partial(_is, self._primary) if self._primary is not None else _any)

    def _is_wanted(self) -> bool:
        now = time.monotonic()
        with _guard:
            # Again and again: a connection may have been made by what was known a moment before.
            is_used = self._leave_others()
            if is_used:
                self._used_at = now
            self._is_over = is_used is None or now - self._used_at > _IDLE
        return not self._is_over

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        return self._stop.is_set()


def _is(primary: Node, host: str, port: int) -> bool:
    return (host, port) == primary


def _any(_: str, __: int) -> bool:
    return True


def _nobody(_: object) -> None:
    """Nobody needs to know that it is closed."""

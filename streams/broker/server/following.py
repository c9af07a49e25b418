"""Follow the primary of a service: one thread per broker asks the Sentinels.

In a planned failover the old primary goes on accepting writes for some ten seconds, which are
lost. No error tells its users, so this package asks (docs/adr/0030-ask-the-sentinels.md).
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
"""Drops the connections to servers that the function rejects; returns whether any was open."""

EVERY = 0.5
"""Seconds between two questions to the same Sentinel."""
_IDLE = 5.0
"""Seconds without an open connection after which the thread ends."""

_guard = native.new_lock()
# A child forked while another thread holds the lock would wait for it for ever.
at_fork(
    before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release
)


class NoService(BrokerUnavailable):
    """A Sentinel watches no service of this name.

    Args:
        service: the name.
        place: host and port of the Sentinel.
        known: the services that it watches, if it may be asked.
    """

    def __init__(self, service: str, place: Node, known: Sequence[str]) -> None:
        where = f"{place[0]}:{place[1]}"
        names = "SENTINEL MASTERS tells which it watches"
        if known:
            names = f"it watches {', '.join(known)}"

        name = known[0] if len(known) == 1 else "SERVICE"
        super().__init__(
            f"the Sentinel {where} watches no service {service}: {names};"
            f" write redis+sentinel://{where}/{name}/0"
        )


class Sentinels:
    """The Sentinels of a service.

    Args:
        asking: connects to a Sentinel.
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
        connect = partial(self._asking.connect, within, host=host, port=port)
        return NodeLink(connect, within, _nobody)

    async def ask(self, link: NodeLink) -> Node:
        """The primary, as one Sentinel names it.

        Raises:
            BrokerUnavailable: the Sentinel cannot be reached.
            NoService: the Sentinel watches no service of this name.
            AccessDenied: the Sentinel refuses the credentials.
        """
        try:
            found = await link.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        except CommandRefused as error:
            raise no_sentinel(link.peer, error) from error

        if not found:
            raise NoService(self.service, link.peer, await self._services(link))

        return found[0].decode(), int(found[1])

    async def _services(self, link: NodeLink) -> list[str]:
        """The names of the services that a Sentinel watches; none if it may not be asked."""
        with contextlib.suppress(
            BrokerError, LookupError, AttributeError, TypeError, ValueError
        ):
            masters = await link.call("SENTINEL", "MASTERS")
            return sorted(row[row.index(b"name") + 1].decode() for row in masters)

        return []

    def most(self, said: Sequence[Node | None]) -> Node | None:
        """The server that more than half of all Sentinels name; None if there is none."""
        for server, votes in Counter(filter(None, said)).most_common(1):
            if votes > len(self.places) // 2:
                return server

        return None


class PrimaryFollower:
    """Drops connections soon after most Sentinels name another primary.

    It has a thread and an event loop of its own: connections belong to several event loops, any of
    which may end, or be blocked by a handler.

    Args:
        sentinels: of the service.
        leave: see ``Leave``; a method, which is held weakly, so that the thread ends with a broker
            that was never closed.
    """

    def __init__(self, sentinels: Sentinels, leave: Leave) -> None:
        self._sentinels = sentinels
        self._leave = weakref.WeakMethod(leave)
        self._run: _Run | None = None

    def start(self) -> None:
        """Follow from now on. Idempotent; called with each new connection."""
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
        """Whether the thread is alive; prolongs its life. False in a forked child."""
        if self._is_over or not self._thread.is_alive():
            return False

        self._used_at = time.monotonic()
        return True

    async def close(self) -> None:
        """End, and wait for the end."""
        self._is_closed = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # The thread ended by itself.
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, 2 * EVERY)

    def _main(self) -> None:
        self._loop = loop = native.new_event_loop()
        try:
            if not self._is_closed:  # Closed before it had a loop.
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
        """Ask one Sentinel again and again, in a task of its own: it may hang."""
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
        """Leave every server but the primary; returns whether any connection was open.

        None: the broker is gone.
        """
        leave = self._leave()
        if leave is None:
            return None
        if self._primary is None:
            return leave(lambda _host, _port: True)

        return leave(partial(_is, self._primary))

    def _is_wanted(self) -> bool:
        now = time.monotonic()
        with _guard:
            # Each time: a new connection may be to the primary of a moment before.
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


def _nobody(_: object) -> None:
    """The link is in no set that it must be taken out of."""

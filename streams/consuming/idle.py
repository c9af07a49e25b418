"""How an idle group waits: by itself, or with other groups of its process."""

from __future__ import annotations

import asyncio
import time
from typing import Self

from streams.broker.entries.fetch import DueReply, Fetching
from streams.broker.entries.lookout import Lookout, Watch
from streams.consuming.settler import Settler
from streams.consuming.state import ConsumerState

QUIET = 2.0
"""Seconds without work after which a group waits with the others.

Until then it waits with a read of its own.
"""
LONG = 60.0
"""Seconds after which a resting group makes sure that it still exists.

It looks for lost reads then, too.
"""


class Idling:
    """Lets a group without work wait with the others, and without connections of its own.

    Args:
        state: shared by the parts of the consumer.
        fetching: of the group.
        settler: of the group.
        lookout: of the process.
        skips_looks: a retry or a pause leaves a key on the server, so no look is needed
            while there is none. This is not so where events are queued, by key or for a
            slot.
    """

    def __init__(
        self,
        state: ConsumerState,
        fetching: Fetching,
        settler: Settler,
        lookout: Lookout,
        *,
        skips_looks: bool,
    ) -> None:
        self._state = state
        self._fetching = fetching
        self._settler = settler
        self._lookout = lookout
        self._skips_looks = skips_looks
        self._quiet_since = -QUIET
        self._watch: Watch | None = None
        self._is_resting = False
        self._is_clear = False
        self._is_stopping = False

    async def __aenter__(self) -> Self:
        self._lookout.enter(consumes=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._drop_watch()
        await self._lookout.leave(consumes=True)

    async def begin(self) -> None:
        """Start at rest where there are many: a group without events then opens no connection."""
        if self.may_rest:
            await self._rest()

    @property
    def starting(self) -> asyncio.Semaphore:
        """To be held while the group is declared, or looks for losses.

        So not all groups of a process do that at once.
        """
        return self._lookout.starting

    @property
    def heard_at(self) -> float:
        """When the lookout last saw that there is nothing for this group.

        Monotonic seconds; 0.0: it never did.
        """
        return self._lookout.heard_at if self._is_watching else 0.0

    @property
    def sees_to_retries(self) -> bool:
        """Whether the group is woken when there is a retry or a pause, so that it need not look."""
        return (
            self._watch is not None and self._is_watching and bool(self._watch.absent)
        )

    @property
    def is_away(self) -> bool:
        """Whether the lookout waits for the server, and tries for all."""
        return self._lookout.is_crowded and self._lookout.is_away

    @property
    def is_resting(self) -> bool:
        """Whether it does without connections of its own."""
        return self._is_resting

    def check_again_in(self, seconds: float) -> float:
        """In how many seconds a look for lost reads is due again.

        A group that rests reads nothing, so it looks less often.
        """
        return max(seconds, LONG) if self._is_resting else seconds

    def work(self) -> None:
        """There is something to do: the group has its own connections from here on."""
        self._quiet_since = time.monotonic()
        if self._watch is not None:
            self._drop_watch()
        if self._is_resting:
            self._is_resting = False
            self._fetching.rise()

    def looked(self, reply: DueReply) -> None:
        """Learn the findings of a look for retries and pauses."""
        is_clear = not (reply.next_due or reply.paused or reply.scopes or reply.more)
        if is_clear != self._is_clear:
            self._is_clear = is_clear
            self._drop_watch()

    def changed(self) -> None:
        """The group reads from other levels now."""
        self._drop_watch()

    def stop(self) -> None:
        """Wait no longer."""
        self._is_stopping = True
        if self._watch is not None:
            self._watch.nudge()

    async def wait(self, until_due: float, until_check: float) -> bool | None:
        """Wait with the others; whether there is news. None: this group has to wait by itself.

        ``until_due``: seconds after which it has to look for itself, unless it is woken
        for that; ``until_check``: seconds after which it has to make sure of itself in
        any case.

        Raises:
            BrokerError: the server is away, or the group is.
        """
        if not self.may_rest:
            if self._is_resting:
                self.work()
            return None
        if self._watch is None or self._watch.is_over:
            positions = await self._fetching.positions()
            self._drop_watch()
            absent = (
                self._fetching.waits_for if self._is_clear and self._skips_looks else ()
            )
            self._watch = self._lookout.watch(positions, absent)
            if not self._is_resting:
                await self._rest()
        if self._is_stopping:
            return False
        is_news = await self._watch.news(
            until_check if self._watch.absent else until_due
        )
        if is_news:
            self._quiet_since = time.monotonic()
        return is_news

    async def _rest(self) -> None:
        self._is_resting = True
        await self._fetching.rest()
        await self._settler.rest()

    @property
    def _is_watching(self) -> bool:
        return self._watch is not None and not self._watch.is_over

    @property
    def may_rest(self) -> bool:
        """Whether it would wait with the others now."""
        is_quiet = time.monotonic() - self._quiet_since >= QUIET
        return is_quiet and self._lookout.is_crowded and not self._state.held

    def _drop_watch(self) -> None:
        if self._watch is not None:
            self._lookout.forget(self._watch)
            self._watch = None

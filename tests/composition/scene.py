"""Where steps are played: workers, a clock, the books, and what is judged after each step."""

from __future__ import annotations

import random
from typing import Self

from streams import Levels, Pipeline
from streams.admin.reason import Reason
from streams.settings import Settings
from streams.testing.time_travel import Rehearsing
from tests.composition import clock as clocks
from tests.composition.books import Books
from tests.composition.clock import Clock
from tests.composition.declared import STREAM, draw
from tests.composition.oracle import Oracle, Seen
from tests.composition.workers import Worker


def told(reason: Reason) -> str:
    return f"{reason.group} {reason.level}|{reason.entry_id} {reason.event_id} {reason.state} {dict(reason.facts)}"


class Scene:
    """Workers of one declaration. What may start has to start; ``books.wrong`` says what was wrong."""

    def __init__(self, seed: int, url: str, namespace: str) -> None:
        self.lot = random.Random(f"composition {seed}")
        self.url = url
        self.namespace = namespace
        self.books = Books()
        self.clock = Clock(namespace)
        self.books.now = lambda: self.clock.ahead
        self.declared = draw(self.lot)
        self.levels = self.declared.levels
        self.workers: list[Worker] = []
        self.count = 0
        self.ops: Pipeline
        self.oracle: Oracle

    async def __aenter__(self) -> Self:
        clocks.use(self.clock)
        self.ops = Pipeline(settings=self._settings())
        await self.ops.__aenter__()
        self.ops.broker.clock = self.clock  # type: ignore[assignment]
        spread = self.declared.spread
        # As a worker declares it; here a publisher may come first.
        if spread.count > 1:
            place = self.ops.broker.keys(STREAM).partitions()
            await self.ops.broker.control.call(
                "SET", place, f"{spread.count} {spread.by}"
            )
        self.oracle = Oracle(self.ops.broker, self.books, self.declared.streams)
        return self

    async def __aexit__(self, *_: object) -> None:
        while self.workers:
            await self.workers.pop().kill()
        await Rehearsing(self.ops.broker).erase()
        await self.ops.__aexit__(None, None, None)
        clocks.use(None)

    def _settings(self) -> Settings:
        return Settings(
            url=self.url, namespace=self.namespace, levels=Levels(self.levels)
        )

    # --- looking and judging

    async def look(self) -> None:
        """Every worker looks once, in any order; what killed its worker kills it."""
        for worker in self.lot.sample(self.workers, len(self.workers)):
            self.books.tell("  look", worker.name)
            await worker.look()
            await self._bury()
        for worker in self.workers:
            await worker.rest()
        for worker in self.workers:
            await worker.crew.heartbeat.record()

    async def _bury(self) -> None:
        for worker in [worker for worker in self.workers if worker.is_crashed]:
            self.books.tell("  killed", worker.name)
            self.workers.remove(worker)
            self.books.killed(worker.name, worker.held)
            await worker.kill()

    async def judge(self) -> None:
        """What may start has started, and nothing belongs to what has ended."""
        if not self.workers:
            return
        before = len(self.books.starts)
        seen = await self._seen()
        # They run one at a time, and nothing else of their process does; and what one worker did, another sees later.
        looks = 1 + len(seen.suspects)
        while (seen.waiting or seen.strays) and looks:
            looks -= 1
            await self.look()
            seen = seen.still(await self._seen(), set(self.books.starts[before:]))
        self.books.wrong += [
            f"it may start, and waits: {told(reason)}"
            for reason in seen.waiting.values()
        ]
        if seen.strays or seen.stale:
            # What only a sweep can find: there is one every ten seconds.
            self.books.seen["left-to-a-sweep"] += 1
            await self.pass_time(35)
            await self.look()
            seen = seen.still(await self._seen(), set())
            self.books.wrong += [
                f"left behind: {what}" for what in (*seen.strays, *seen.stale)
            ]
        await self.oracle.check_reasons(seen.reasons, self.clock.now())

    async def _seen(self) -> Seen:
        reasons = await self.oracle.reasons(self.levels)
        waiting = self.oracle.due_now(reasons, self.workers)
        for name in await self.oracle.disputed(waiting, self.workers):
            del waiting[name]
        suspects = [reason for reason in reasons if reason.state == "suspect"]
        # A whole stream that is paused looks for nothing, and finds no head that was erased.
        is_paused = any(
            [await self.oracle.paused(stream) for stream in self.declared.streams]
        )
        return Seen(
            reasons,
            waiting,
            await self.oracle.suspects([*waiting.values(), *suspects]),
            await self.oracle.strays(
                self.workers, list(self.clock.dead), self._limits()
            ),
            [] if is_paused else self.oracle.stale(reasons, self.workers),
        )

    def _limits(self) -> dict[str, set[str]]:
        """By group, the names of the limits that are declared."""
        return {
            name: {limit.name for limit in group.limits}
            for name, group in self.declared.groups.items()
        }

    async def pass_time(self, seconds: int) -> None:
        claims = (
            [key for worker in self.workers for key in worker.claims]
            if self.books.dedupes
            else []
        )
        await self.clock.travel(
            self.ops.broker, self.declared.streams, self.levels, seconds, claims
        )
        for worker in self.workers:
            await worker.renew()

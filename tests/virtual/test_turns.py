"""Whose turn it is while retries are due all the time, in virtual time: handlers take seconds, and the test does not.

``STREAMS_TEST_SEED=17`` plays one seed, with its story.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from streams.consumer import Consumer, ConsumerOptions
from streams.events.event import Event
from streams.handlers.routes import Route
from streams.policy.retry import Retry
from tests.virtual.loop import VirtualLoop
from tests.virtual.model import Entry
from tests.virtual.stories import play
from tests.virtual.world import LEVELS, World

_ONE = os.environ.get("STREAMS_TEST_SEED")
_SEEDS = [int(_ONE)] if _ONE else range(12)


class Queue:
    """A backlog, some of which fails for ever, and now and then an urgent event."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.world = world = World(seed, loop)
        world.faults, world.latency = 0.0, 0.0
        self.slots = world.lot.choice([1, 1, 2, 4])
        self.seconds = world.lot.choice([0.02, 0.5])
        self.delay = world.lot.choice([0.0, 0.05, 0.5])
        self.failing = self.slots + world.lot.randint(1, 4)
        self.backlog = world.lot.randint(10, 30)
        self.starts: list[Entry] = []
        self.published = 0
        self.since: dict[Entry, int] = {}
        """Of an urgent event: how many starts there were before it was published."""

    def publish(self, level: int) -> Entry:
        self.published += 1
        place = (level, f"{self.published}-0")
        self.world.model.publish(
            *place, [b"type", b"t", b"id", b"%d" % self.published, b"data", b"1"]
        )
        self.world.news.set()
        return place

    async def handle(self, event: Event) -> None:
        place = (event.priority, event.entry_id)
        self.starts.append(place)
        self.world.note("starts", *place, f"attempt={event.attempt}")
        await asyncio.sleep(self.seconds)
        if event.priority == 0 and int(event.entry_id.split("-")[0]) <= self.failing:
            raise RuntimeError("for ever")

    async def run(self) -> World:
        world = self.world
        first = [self.publish(0) for _ in range(self.failing + self.backlog)]
        retry = Retry(
            max_retries=1_000_000, delay=self.delay, backoff="fixed", jitter=0.0
        )
        options = ConsumerOptions(
            levels=LEVELS, concurrency=self.slots, lease=5.0, name="c"
        )
        consumer = Consumer(world, "s", "g", Route(self.handle, retry=retry), options)  # type: ignore[arg-type]
        running = asyncio.create_task(consumer.run())
        give_up = world.loop.time() + 60
        while (
            len(set(self.starts) & set(first)) < len(first)
            and world.loop.time() < give_up
        ):
            await asyncio.sleep(world.lot.uniform(0.5, 5.0) * self.seconds)
            self.since[self.publish(10)] = len(self.starts)
        await asyncio.sleep(2.0)
        consumer.stop(5.0)
        await running
        self.check(first)
        return world

    def check(self, first: list[Entry]) -> None:
        wrong = self.world.wrong
        for place, before in self.since.items():
            # Those that were read at the same moment, one for each slot, and no others.
            others = [
                start
                for start in self.starts[before : self.starts.index(place)]
                if start[0] != 10
            ]
            if len(others) > self.slots:
                wrong.append(f"{len(others)} started before {place}, which is urgent")
        plain = [start for start in self.starts if start[0] == 0]
        missing = set(first) - set(plain)
        if missing:
            wrong.append(f"{len(missing)} were never tried")
            return
        last = max(plain.index(place) for place in first)
        if last > 2 * len(first) + 2 * self.slots:
            wrong.append(f"it took {last} starts to try {len(first)}")


@pytest.mark.parametrize("seed", _SEEDS)
def test_nobody_starves_while_others_fail(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def story(seed: int, loop: VirtualLoop):
        return Queue(seed, loop).run()

    world = play(seed, monkeypatch, story)
    if _ONE:
        print(*world.history, sep="\n")
    assert not world.wrong, f"seed {seed}: {world.wrong}\n" + "\n".join(
        world.history[-40:]
    )

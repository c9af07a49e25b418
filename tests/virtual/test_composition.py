"""Random scenarios of workers that come, go and are killed, in virtual time: what has no reason to wait starts.

The same kinds of steps as in ``tests/composition``, as far as the model of the server knows them, and hundreds of seeds
for the price of a few there. ``STREAMS_TEST_SEED=17`` plays one, with its story.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from streams.broker.keys import PARKED
from streams.consumer import Consumer, ConsumerOptions
from streams.consuming.fetcher import POLL
from streams.errors import Reject, Snooze
from streams.events.event import Event
from streams.handlers.routes import Route
from streams.policy.levels import Levels
from streams.policy.retry import AttemptRecord, Retry
from tests import seeds as seeds_of
from tests.virtual.loop import VirtualLoop
from tests.virtual.model import Entry
from tests.virtual.stories import play
from tests.virtual.world import LEVELS, World

LEASE = 10.0
_DO = (
    *[("ok",)] * 5,
    *[("slow", "ok")] * 4,
    *(
        ("fail", "ok"),
        ("fail",),
        ("reject",),
        ("reject", "ok"),
        ("snooze", "ok"),
        ("fail", "slow", "ok"),
    ),
    *(("kill", "ok"), ("kill",), ("slow", "kill", "ok")),
)
_STEPS = (
    *["publish"] * 6,
    *["travel"] * 4,
    *(
        "pause",
        "resume",
        "resume",
        "start",
        "start",
        "stop",
        "kill",
        "cancel",
        "replay",
        "delay",
    ),
)
REACHED = {
    *(
        "do-ok",
        "do-slow",
        "do-fail",
        "do-reject",
        "do-snooze",
        "do-kill",
        "pause",
        "killed",
        "stopped",
        "cancelled",
    ),
    *(
        "replayed",
        "alone",
        "dead-stalled",
        "dead-rejected",
        "dead-retries-used-up",
        "serve",
        "delayed",
    ),
}


class Process:
    """What one worker takes for its broker: nothing passes once it is killed. It has one gate for suspects."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)

    async def trip(self, what: str, call: Any) -> Any:
        if not self.is_dead:
            result = await self.world.trip(what, call)
            if not self.is_dead:
                return result
        return await asyncio.Event().wait()


class Worker:
    """A process with one consumer."""

    def __init__(self, play: Composition, number: int) -> None:
        lot = play.world.lot
        serve = (
            Levels(tuple(lot.sample(LEVELS.ascending, 2)))
            if lot.random() < 0.2
            else None
        )
        play.seen["serve"] += serve is not None
        self.name = f"w{number}"
        self.process = Process(play.world, self.name)
        self.levels = (serve or LEVELS).ascending
        self.running: set[Entry] = set()

        async def handle(event: Event) -> None:
            await play.handle(self, event)

        options = ConsumerOptions(
            levels=LEVELS,
            serve=serve,
            concurrency=lot.choice([1, 2, 5]),
            lease=LEASE,
            name=self.name,
        )
        route = Route(handle, retry=play.retry)
        self.consumer = Consumer(self.process, "s", "g", route, options)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.consumer.run())


class Composition:
    """One seed."""

    def __init__(self, seed: int, loop: VirtualLoop, seen: Counter[str]) -> None:
        self.world = world = World(seed, loop)
        world.faults = 0.0
        self.seen = seen
        self.retry = Retry(
            max_retries=world.lot.choice([0, 1, 2]),
            delay=1.0,
            backoff="fixed",
            jitter=0.0,
        )
        self.workers: list[Worker] = []
        self.count = self.published = 0
        self.do: dict[Entry, tuple[str, ...]] = {}
        self.fields: dict[Entry, list[bytes]] = {}
        self.started: Counter[Entry] = Counter()
        self.ended: set[Entry] = set()
        self.alone: set[Entry] = set()
        self.publishing: set[asyncio.Task[None]] = set()

    async def run(self) -> World:
        sweeping = asyncio.create_task(self.sweep())
        await self.start()
        for _ in range(self.world.lot.randint(6, 14)):
            step = self.world.lot.choice(_STEPS)
            self.world.note("step", step)
            await getattr(self, step)()
            await self.judge()
            if self.world.wrong:
                break
        await self.end()
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        return self.world

    # --- steps

    async def publish(self) -> None:
        lot = self.world.lot
        for _ in range(lot.randint(1, 5)):
            self.put(lot.choice(LEVELS.ascending), lot.choice(_DO))

    def put(self, level: int, do: tuple[str, ...]) -> None:
        self.published += 1
        place = (level, f"{self.published}-0")
        self.world.note("publish", *place, do)
        self.do[place] = do
        self.world.model.publish(
            *place, [b"type", b"t", b"id", b"e%d" % self.published, b"data", b"1"]
        )
        self.world.news.set()

    async def delay(self) -> None:
        """An event that is put on its level later."""
        self.seen["delayed"] += 1
        seconds, level = (
            self.world.lot.choice([0.3, 5.0]),
            self.world.lot.choice(LEVELS.ascending),
        )
        later = asyncio.get_running_loop().call_later(seconds, self.put, level, ("ok",))
        if self.world.lot.random() < 0.2:
            later.cancel()

    async def travel(self) -> None:
        await asyncio.sleep(self.world.lot.choice([0.1, 1.0, 5.0, 11.0, 30.0]))

    async def pause(self) -> None:
        self.seen["pause"] += 1
        self.world.model.paused.add(self.world.lot.choice(LEVELS.ascending))
        await asyncio.sleep(2 * POLL)  # Who is full learns of it with its next look.

    async def resume(self) -> None:
        if self.world.model.paused:
            self.world.model.paused.discard(
                self.world.lot.choice(sorted(self.world.model.paused))
            )

    async def start(self) -> None:
        if len(self.workers) < 3:
            self.count += 1
            self.workers.append(Worker(self, self.count))

    async def stop(self) -> None:
        if self.workers:
            self.seen["stopped"] += 1
            worker = self.workers.pop(self.world.lot.randrange(len(self.workers)))
            self.world.note("stop", worker.name)
            worker.consumer.stop(self.world.lot.choice([0.0, 5.0]))
            await asyncio.wait([worker.task])
            worker.task.result()
            mine = [
                place
                for place, held in self.world.model.pending.items()
                if held.owner == worker.name
            ]
            if mine:
                self.world.wrong.append(f"{worker.name} ended and left {mine}")

    async def kill(self) -> None:
        if self.workers:
            self.killed(self.world.lot.choice(self.workers))

    def killed(self, worker: Worker) -> None:
        self.seen["killed"] += 1
        self.world.note("killed", worker.name)
        worker.process.is_dead = True
        self.workers.remove(worker)

    async def cancel(self) -> None:
        if self.do:
            place = self.world.lot.choice(sorted(self.do))
            if self.world.model.cancel(place):
                self.world.note("cancelled", *place)
                self.seen["cancelled"] += 1
                self.ended.add(place)

    async def replay(self) -> None:
        dead = sorted(self.world.model.dead)
        if dead:
            place = self.world.lot.choice(dead)
            self.count_dead(place)
            self.seen["replayed"] += 1
            self.put(place[0], ("ok",))

    def count_dead(self, place: Entry) -> None:
        reason = self.world.model.dead.pop(place)
        self.seen[f"dead-{reason}"] += 1
        self.ended.add(place)
        if reason == "stalled" and place not in self.alone:
            self.world.wrong.append(
                f"{place} was buried as stalled, and never ran alone"
            )

    async def sweep(self) -> None:
        while True:
            await asyncio.sleep(LEASE / 3)
            if self.workers:
                for place, owner in self.world.model.sweep_by(self.retry, LEASE):
                    self.world.note("swept", *place, "from", owner)
                    if any(owner == worker.name for worker in self.workers):
                        self.world.wrong.append(
                            f"{place} was swept from {owner}, which is alive"
                        )

    async def handle(self, worker: Worker, event: Event) -> None:
        if worker.process.is_dead:
            await asyncio.Event().wait()
        place = (event.priority, event.entry_id)
        do = self.do[place]
        what = do[min(self.started[place], len(do) - 1)]
        self.started[place] += 1
        self.seen[f"do-{what}"] += 1
        self.world.note(worker.name, "starts", *place, what)
        self.see(worker, place)
        worker.running.add(place)
        try:
            await self.act(worker, what)
        finally:
            worker.running.discard(place)
        if not worker.process.is_dead:
            self.ended.add(place)

    def see(self, worker: Worker, place: Entry) -> None:
        held = self.world.model.pending.get(place)
        if held is None or held.owner != worker.name:
            self.world.wrong.append(
                f"{worker.name} starts {place}, which is held by {held and held.owner}"
            )
        if any(place in other.running for other in self.workers):
            self.world.wrong.append(f"{place} runs twice at once")
        if not worker.running:
            self.alone.add(place)
        elif AttemptRecord.from_json(self.world.model.records.get(place)).suspect:
            self.world.wrong.append(
                f"the suspect {place} starts beside {worker.running}"
            )
        self.seen["alone"] += AttemptRecord.from_json(
            self.world.model.records.get(place)
        ).suspect

    async def act(self, worker: Worker, what: str) -> None:
        match what:
            case "slow":
                await asyncio.sleep(self.world.lot.choice([0.2, 3.0, 8.0]))
            case "fail":
                raise ValueError("no")
            case "reject":
                raise Reject("never")
            case "snooze":
                raise Snooze(2.0)
            case "kill":
                await asyncio.sleep(self.world.lot.choice([0.0, 0.2]))
                if worker in self.workers:
                    self.killed(worker)
                await asyncio.Event().wait()

    # --- judging

    async def judge(self) -> None:
        """What may start now starts within two looks: another worker may have set it, and a level is told of late."""
        began, before = Counter(self.started), self.may_start()
        if not before:
            return
        await asyncio.sleep(2 * POLL + 0.3)
        still = [
            place
            for place in self.may_start()
            if place in before and self.started[place] == began[place]
        ]
        if still:
            self.world.wrong.append(
                f"nothing starts {still}, although nothing hinders it"
            )

    def may_start(self) -> set[Entry]:
        """What is unread or due, of a level that is not paused, that a worker serves which has room."""
        model = self.world.model
        now = int(asyncio.get_running_loop().time() * 1000)
        waiting = {
            (level, entry_id)
            for level, ids in model.waiting.items()
            for entry_id in ids
        }
        due = {
            place
            for place, at in model.retry.items()
            if at <= now and model.pending[place].owner == PARKED
        }
        served = {
            level
            for worker in self.workers
            if worker.consumer.free > 0
            for level in worker.levels
        }
        suspects = {
            place
            for place in due
            if AttemptRecord.from_json(model.records.get(place)).suspect
        }
        if any(worker.running for worker in self.workers):
            due -= suspects  # They wait until nothing else runs, for so long at a time.
        return {
            place
            for place in waiting | due
            if place[0] in served and place[0] not in model.paused
        }

    async def end(self) -> None:
        if self.world.wrong:
            return
        self.world.note("the end")
        self.world.model.paused.clear()
        while self.workers:
            await self.stop()
        give_up = asyncio.get_running_loop().time() + 600
        while self.world.model.stored and asyncio.get_running_loop().time() < give_up:
            if not any(worker.levels == LEVELS.ascending for worker in self.workers):
                await self.start()
            await asyncio.sleep(1.0)
        while self.workers:
            await self.stop()
        model, wrong = self.world.model, self.world.wrong
        wrong += [f"{place} {self.do[place]} never ends" for place in model.stored]
        for place in list(model.dead):
            self.count_dead(place)
        wrong += [
            f"{place} is gone, and nothing ended it"
            for place in self.do
            if place not in self.ended
        ]
        left = {
            "pending": model.pending,
            "retry": model.retry,
            "records": model.records,
        }
        wrong += [
            f"{name} has left-overs: {rows}"
            for name, rows in left.items()
            if rows and not model.stored
        ]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with seeds_of.quiet():
        yield


@pytest.mark.parametrize("seeds", seeds_of.parts(300), ids=seeds_of.name_of)
def test_whatever_has_no_reason_to_wait_starts(
    seeds: range, monkeypatch: pytest.MonkeyPatch
):
    seen: Counter[str] = Counter()
    for seed in seeds:
        world = play(
            seed, monkeypatch, lambda seed, loop: Composition(seed, loop, seen).run()
        )
        if seeds_of.ONE:
            print(*world.history, sep="\n")
        story = "\n".join(world.history[-60:])
        replay = (
            f"STREAMS_TEST_SEED={seed} pytest -n0 -s tests/virtual/test_composition.py"
        )
        assert not world.wrong, (
            f"seed {seed}: {world.wrong}\nreplay: {replay}\nits end:\n{story}"
        )
    if len(seeds) == seeds_of.PART:
        assert {name for name in REACHED if not seen[name]} == set(), (
            "no seed came to these"
        )

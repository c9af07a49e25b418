"""One seeded run: two consumers, a reclaimer and a publisher against the model, and the books of what happened."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from streams.broker.entries.declare import Declared
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import DueReply
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.ordering import Ways
from streams.broker.entries.settle import DONE, Buried, Postponed, Settlement
from streams.broker.keys import PARKED, Keys
from streams.broker.server.outages import Outages
from streams.consumer import Consumer, ConsumerOptions
from streams.consuming.isolation import Isolation
from streams.consuming.lease_renewer import LeaseRenewer
from streams.consuming.lease_thread import TICK
from streams.errors import BrokerUnavailable, Reject, Snooze
from streams.events.event import Event
from streams.handlers.routes import Route
from streams.policy.levels import Levels, LevelTurns
from streams.policy.retry import AttemptRecord, Retry
from tests.virtual.loop import VirtualLoop
from tests.virtual.model import Entry, Model

T = TypeVar("T")

LEVELS = Levels((0, 5, 10))
LEASE = 1.0
TIMEOUT = 1.5
CANCEL_GRACE = 0.5
RETRIES = 2
KINDS = (
    "ok",
    "ok",
    "ok",
    "slow",
    "fail",
    "flaky",
    "hang",
    "stubborn",
    "snooze",
    "reject",
)


class World:
    """Everything that one seed decides. ``history`` is the story, one line per step."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.lot = random.Random(f"world {seed}")
        self.loop = loop
        self.model = Model(LEVELS.ascending, loop.time)
        self.news = asyncio.Event()
        self.history: list[str] = []
        self.wrong: list[str] = []
        self.faults = self.lot.choice([0.0, 0.0, 0.05, 0.2])
        self.latency = self.lot.choice([0.0, 0.001, 0.02])
        self.kind: dict[Entry, str] = {}
        self.started: Counter[Entry] = Counter()
        self.finished: Counter[Entry] = Counter()
        self.failed: Counter[Entry] = Counter()
        self.running: dict[Entry, int] = {}
        self.alone: Entry | None = None
        """The suspect that runs."""
        self.suspects = 0
        """How many suspects ran."""
        self.stopping: set[str] = set()
        self.unsure: set[Entry] = set()
        """Entries that somebody else may have by right: swept, or their consumer lost an answer."""
        self.trips = 0
        self.stop_after = self.lot.choice([0, 0, self.lot.randint(1, 60)])
        """If not 0: the first consumer stops in the moment in which the answer of that trip arrives."""
        self.stop_now = asyncio.Event()
        self.observers = ()
        self.outages = Outages("world")
        self.clock = SimpleNamespace(now=loop.time, observe=lambda _: None, ahead=0.0)
        self.address = "model"
        self.is_spread = False

    def keys(self, stream: str) -> Keys:
        return Keys(stream)

    def note(self, *facts: object) -> None:
        self.history.append(f"{self.loop.time():.4f} " + " ".join(map(str, facts)))

    async def trip(self, what: str, call: Callable[[], T]) -> T:
        """A round trip: late, and perhaps lost on the way there or on the way back."""
        await self._travel()
        fault = self.lot.random() if self.faults else 1.0
        if fault < self.faults / 2:
            self.note(what, "lost on the way")
            raise BrokerUnavailable("the model is away")
        result = call()
        self.note(what, _short(result))
        await self._travel()
        self.trips += 1
        if self.trips == self.stop_after:
            self.stop_now.set()
        if fault < self.faults:
            self.note(what, "answer lost")
            raise BrokerUnavailable("the model is away")
        return result

    async def _travel(self) -> None:
        if self.latency:
            await asyncio.sleep(self.lot.random() * self.latency)

    # --- the world's people

    async def publish(self, count: int) -> None:
        for number in range(count):
            level, kind = self.lot.choice(LEVELS.ascending), self.lot.choice(KINDS)
            place = (level, f"{number + 1}-0")
            self.kind[place] = kind
            self.note("publish", *place, kind)
            fields = [b"type", b"t", b"id", f"{level}/{number}".encode(), b"data", b"1"]
            self.model.publish(*place, fields)
            self.news.set()
            if self.lot.random() < 0.3:
                await asyncio.sleep(self.lot.random() * 0.5)

    def leave_suspects(self, count: int) -> None:
        """What a worker had that was killed before the story begins: one more stall would be the last of each."""
        for number in range(count):
            place = (self.lot.choice(LEVELS.ascending), f"{1000 + number}-0")
            self.kind[place] = self.lot.choice(("ok", "slow", "fail", "hang"))
            self.note("suspect", *place, self.kind[place])
            self.model.publish(*place, [b"type", b"t", b"data", b"1"])
            self.model.take_level(place[0], PARKED, 1)
            self.model.retry[place] = 0
            self.model.records[place] = AttemptRecord(
                stalls=RETRIES, suspect=True
            ).to_json()
            self.failed[place] = RETRIES

    async def sweep(self) -> None:
        while True:
            await asyncio.sleep(LEASE / 4)
            owners = {place: held.owner for place, held in self.model.pending.items()}
            for place in self.model.sweep(LEASE):
                self.note("swept", *place, "from", owners[place])
                self.unsure.add(place)
                if owners[place] not in self.stopping and self.faults < 0.1:
                    self.wrong.append(
                        f"{place} was swept from {owners[place]}, which is alive"
                    )

    def consumer(self, name: str, concurrency: int) -> Consumer:
        busy: Counter[str] = Counter()

        async def handle(event: Event) -> None:
            place = (event.priority, event.entry_id)
            stubborn = self.kind[place] == "stubborn"
            if stubborn:
                # Abandoned when it does not end: settled without it, its slot given away.
                self.unsure.add(place)
            busy[name] += not stubborn
            self._start(name, place, event)
            if busy[name] > concurrency:
                self.wrong.append(
                    f"{name} runs {busy[name]} handlers, and may run {concurrency}"
                )
            try:
                await self._work(name, place, event)
                self.finished[place] += 1
            except Snooze:
                raise
            except Exception:
                self.failed[place] += 1
                raise
            finally:
                busy[name] -= not stubborn
                self.running[place] -= 1
                self.note(name, "ended", *place)

        route = Route(
            handle, retry=Retry(max_retries=RETRIES, delay=0.2), timeout=TIMEOUT
        )
        options = ConsumerOptions(
            levels=LEVELS,
            concurrency=concurrency,
            lease=LEASE,
            cancel_grace=CANCEL_GRACE,
            name=name,
        )
        return Consumer(self, "s", "g", route, options)  # type: ignore[arg-type]

    def _start(self, name: str, place: Entry, event: Event) -> None:
        self.started[place] += 1
        self.note(name, "starts", *place, self.kind[place], f"attempt={event.attempt}")
        others = self.running.get(place, 0)
        self.running[place] = others + 1
        if place in self.unsure:
            return
        self._see_alone(name, place)
        held = self.model.pending.get(place)
        if held is None or held.owner != name:
            self.wrong.append(
                f"{name} starts {place}, which is held by {held and held.owner}"
            )
        if others:
            self.wrong.append(f"{place} runs twice at once")
        if event.attempt != 1 + self.failed[place]:
            self.wrong.append(
                f"{place}: attempt {event.attempt} after {self.failed[place]} failures"
            )

    def _see_alone(self, name: str, place: Entry) -> None:
        """All consumers of a world are one process: beside a suspect none of them has anything, started or not."""
        if self.alone not in (None, place) and self.running.get(self.alone):
            self.wrong.append(
                f"{name} starts {place} while the suspect {self.alone} runs"
            )
        if AttemptRecord.from_json(self.model.records.get(place)).suspect:
            self.alone = place
            self.suspects += 1
            # What one that ended could not give back stalls whatever happens here.
            there = {hand.id.name for hand in Isolation.of(self)._hands}
            with_them = {
                other
                for other, held in self.model.pending.items()
                if held.owner in there
                and other != place
                and self.kind[other] != "stubborn"
            }
            if with_them:
                self.wrong.append(
                    f"{name} starts the suspect {place} beside {with_them}"
                )

    async def _work(self, name: str, place: Entry, event: Event) -> None:
        match self.kind[place]:
            case "slow":
                await asyncio.sleep(self.lot.random() * TIMEOUT * 0.9)
            case "fail":
                await asyncio.sleep(self.lot.random() * 0.1)
                raise ValueError("no")
            case "flaky" if event.attempt == 1:
                raise ValueError("not yet")
            case "hang":
                await self._hang(name, place)
            case "stubborn":
                end = (
                    self.loop.time()
                    + TIMEOUT
                    + CANCEL_GRACE * self.lot.choice([0.5, 4])
                )
                while (left := end - self.loop.time()) > 0:
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(left)
            case "snooze" if self.started[place] == 1:
                raise Snooze(self.lot.random())
            case "reject":
                raise Reject("never")
            case _:
                await asyncio.sleep(0)

    async def _hang(self, name: str, place: Entry) -> None:
        began = self.loop.time()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if self.loop.time() - began >= TIMEOUT:
                # A timeout, which counts; a shutdown at the same moment does not, and cannot be told from it here.
                self.failed[place] += 1
                if name in self.stopping:
                    self.unsure.add(place)
            raise


def _short(result: object) -> str:
    if isinstance(result, DueReply):
        return f"due {[d.place for d in result.deliveries]}"
    if isinstance(result, Settlement):
        return f"settled {result.ack_shortfall} {result.statuses}"
    return str([d.place for d in result] if isinstance(result, list) else result)


class ModelFetching:
    """``Fetching``, against the model."""

    def __init__(
        self,
        me: GroupConsumer,
        declaring: object,
    ) -> None:
        del declaring
        self._world: World = me.broker  # type: ignore[assignment]
        self._served = self._levels = me.served.descending
        self._consumer = me.name

    @property
    def open_levels(self) -> tuple[int, ...]:
        return self._levels

    def hold(self, paused: frozenset[int]) -> None:
        self._levels = tuple(level for level in self._served if level not in paused)

    async def ensure_group(self) -> Declared:
        return await self._world.trip("ensure", lambda: Declared([], []))

    async def announce(self) -> None:
        pass

    async def wait(
        self, count: int, seconds: float, patience: float = 10.0
    ) -> list[Delivery]:
        del patience
        world, until = self._world, self._world.loop.time() + seconds
        while (
            not any(world.model.waiting[level] for level in self._levels)
            and (left := until - world.loop.time()) > 0
        ):
            world.news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await world.news.wait()
        return await self._read(
            "wait",
            lambda: [
                d
                for level in self._levels
                for d in world.model.take_level(level, self._consumer, count)
            ],
        )

    async def take(self, limit: int) -> list[Delivery]:
        return await self._read(
            "take", lambda: self._world.model.take(self._levels, self._consumer, limit)
        )

    async def take_from(self, level: int, limit: int) -> tuple[list[Delivery], bool]:
        above = self._levels[: self._levels.index(level)]
        share = max(1, limit // 32)

        def read() -> list[Delivery]:
            model = self._world.model
            taken = [
                d
                for other in above
                for d in model.take_level(other, self._consumer, share)
            ]
            return taken + model.take_level(
                level, self._consumer, limit - share * len(above)
            )

        taken = await self._read("take_from", read)
        return taken, len(taken) == limit - share * len(above) and taken[
            0
        ].level == level

    async def take_due(
        self, limit: int, suspects: int, turns: LevelTurns | None = None
    ) -> DueReply:
        reply: list[DueReply] = []

        def read() -> list[Delivery]:
            reply.append(
                self._world.model.take_due(
                    self._served, self._consumer, limit, suspects, turns
                )
            )
            return reply[0].deliveries

        await self._read("take_due", read)
        return reply[0]

    async def take_alone(self, suspect: str) -> list[Delivery]:
        return await self._read(
            "take_alone",
            lambda: self._world.model.take_alone(self._served, self._consumer, suspect),
        )

    async def hand_back_unknown(self, held: Sequence[Entry]) -> int:
        return await self._world.trip(
            f"{self._consumer} hand_back",
            lambda: self._world.model.hand_back(self._served, self._consumer, held),
        )

    async def leave(self, held: Sequence[Entry]) -> None:
        pass

    async def close(self) -> None:
        pass

    async def _read(
        self, what: str, call: Callable[[], list[Delivery]]
    ) -> list[Delivery]:
        return await self._world.trip(f"{self._consumer} {what}", call)


class ModelSettling:
    """``Settling``, against the model."""

    def __init__(
        self, me: GroupConsumer, ways: Ways | None = None, link: object = None
    ) -> None:
        del ways, link
        self.world: World = me.broker  # type: ignore[assignment]
        self._consumer = me.name

    async def settle(
        self,
        done: Sequence[Delivery],
        postponed: Sequence[Postponed] = (),
        buried: Sequence[Buried] = (),
    ) -> Settlement:
        model, who = self.world.model, self._consumer

        def write() -> Settlement:
            shortfall = len(done) - model.ack(delivery.place for delivery in done)
            statuses = {delivery.place: DONE for delivery in done}
            statuses |= {
                row.delivery.place: model.postpone(who, row) for row in postponed
            }
            statuses |= {
                letter.delivery.place: model.bury(who, letter) for letter in buried
            }
            return Settlement(shortfall, statuses, None)

        return await self.world.trip(f"{who} settle", write)

    async def renew(self, held: Sequence[Delivery]) -> list[Delivery]:
        return await self.world.trip(
            f"{self._consumer} renew",
            lambda: self.world.model.renew(self._consumer, held),
        )

    async def close(self) -> None:
        pass


class ModelRedeclaring:
    """``Redeclaring``: in this world nothing is limited."""

    def __init__(self, *_: object) -> None:
        pass

    async def declare(self) -> list[str]:
        return []


class LoopKeeper(LeaseRenewer):
    """The lease keeper as a task of the same loop instead of a thread."""

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self.keep(None))
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.look(asyncio.get_running_loop().time())

    @property
    def alive(self) -> bool:
        return not self._task.done()

    async def _give_back(self, settling: ModelSettling) -> None:
        waits = [
            d.place
            for d, since in self._state.unstarted.values()
            if settling.world.loop.time() - since > 0.05
        ]
        if waits:
            settling.world.wrong.append(
                f"{waits} wait for a runner, and nothing blocks the loop"
            )
        await super()._give_back(settling)

    async def close(self) -> None:
        while self._news is None:
            await asyncio.sleep(0)
        self._ticking.cancel()
        self._stopped.set()
        self._news.set()
        await self._task


Story = Callable[[int, VirtualLoop], Coroutine[Any, Any, "World"]]


def play(seed: int, patch: pytest.MonkeyPatch, story: Story | None = None) -> World:
    """Run one seed from its first event to the last one settled; what went wrong is in ``wrong``."""
    random.seed(seed)  # The jitter of waiting times.
    loop = VirtualLoop(seed)
    clock = SimpleNamespace(monotonic=loop.time)
    for module in ("fetcher", "lease_renewer", "executor"):
        patch.setattr(f"streams.consuming.{module}.time", clock)
    patch.setattr("streams.consumer.Fetching", ModelFetching)
    patch.setattr("streams.consumer.Settling", ModelSettling)
    patch.setattr("streams.consumer.Redeclaring", ModelRedeclaring)
    patch.setattr("streams.consumer.LeaseRenewer", LoopKeeper)
    try:
        return loop.run_until_complete((story or _story)(seed, loop))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(5))
        loop.close()


async def _story(seed: int, loop: VirtualLoop) -> World:
    world = World(seed, loop)
    lot = world.lot
    world.leave_suspects(lot.choice([0, 0, 1, 5]))
    sweeping = asyncio.create_task(world.sweep())
    publishing = asyncio.create_task(world.publish(lot.randint(5, 25)))
    first, second = (
        world.consumer(name, lot.choice([1, 2, 5, 40])) for name in ("c1", "c2")
    )
    tasks = {
        name: asyncio.create_task(c.run())
        for name, c in (("c1", first), ("c2", second))
    }
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(lot.random() * 8):
            await world.stop_now.wait()
    await _stop(world, first, tasks["c1"], lot.choice([0.0, 0.5, 5.0]))
    await publishing
    await asyncio.sleep(lot.random() * 8)
    await _stop(world, second, tasks["c2"], lot.choice([0.0, 0.5, 5.0]))
    world.faults = 0.0
    third = world.consumer("c3", 5)
    closing = asyncio.create_task(third.run())
    give_up = loop.time() + 120
    while (world.model.stored or third.held) and loop.time() < give_up:
        await asyncio.sleep(0.5)
    await _stop(world, third, closing, 5.0)
    sweeping.cancel()
    await asyncio.wait([sweeping])
    _balance(world)
    return world


async def _stop(
    world: World, consumer: Consumer, task: asyncio.Task[None], grace: float
) -> None:
    """Stop a consumer and see that it ends in time, having settled or given back what it had."""
    faults = world.faults
    if world.lot.random() < 0.5:
        await _calm(world, consumer)
    world.note(consumer.name, "stops", grace)
    began = world.loop.time()
    world.stopping.add(consumer.name)
    consumer.stop(grace)
    await asyncio.wait([task])
    task.result()
    took = world.loop.time() - began
    # The grace, cancelled handlers, the last trips (5 s at most while the server is away), and what was on its way.
    if took > grace + CANCEL_GRACE + 6.5:
        world.wrong.append(
            f"{consumer.name} took {took:.1f} s to stop with a grace of {grace} s"
        )
    mine = [
        place
        for place, held in world.model.pending.items()
        if held.owner == consumer.name
    ]
    if mine and not world.faults:
        world.wrong.append(f"{consumer.name} ended and left {mine}")
    world.unsure.update(mine)
    world.faults = faults
    world.note(consumer.name, "stopped", consumer.stats.as_dict())


async def _calm(world: World, consumer: Consumer) -> None:
    """Let the server be there all the time, and see that what is not running is settled soon."""
    world.note("calm")
    world.faults = 0.0
    # The settler waits for 5 seconds at most between two tries.
    give_up = world.loop.time() + 8
    while consumer.held > consumer.busy:
        if world.loop.time() > give_up:
            world.wrong.append(
                f"{consumer.name} holds {consumer.held} entries and runs {consumer.busy}"
            )
            break
        await asyncio.sleep(0.01)


def _balance(world: World) -> None:
    model, wrong = world.model, world.wrong
    for place, kind in world.kind.items():
        if place in model.stored:
            wrong.append(
                f"{place} ({kind}) is still stored: {model.pending.get(place)}, due {model.retry.get(place)}"
            )
        elif place in model.dead:
            reason = model.dead[place]
            expected = {
                "reject": {"rejected"},
                "fail": {"retries-used-up"},
                "hang": {"retries-used-up"},
            }
            allowed = expected.get(
                kind, {"retries-used-up"} if kind == "stubborn" else set()
            )
            if place not in world.unsure and reason not in allowed:
                wrong.append(f"{place} ({kind}) died: {reason}")
            if (
                place not in world.unsure
                and kind != "reject"
                and world.failed[place] != RETRIES + 1
            ):
                wrong.append(
                    f"{place} ({kind}) died after {world.failed[place]} failures"
                )
        elif not world.finished[place]:
            wrong.append(f"{place} ({kind}) is gone, and no handler finished it")
    for name, rows in (
        ("pending", model.pending),
        ("retry", model.retry),
        ("records", model.records),
    ):
        if rows:
            wrong.append(f"{name} has left-overs: {dict(list(rows.items())[:3])}")
    current = asyncio.current_task()
    others = [
        t
        for t in asyncio.all_tasks(world.loop)
        if t is not current and t.get_name() != "streams-runner"
    ]
    if others:
        wrong.append(f"tasks are left: {others}")

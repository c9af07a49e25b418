"""One seeded run: two consumers, a reclaimer and a publisher against the model, and the books of what happened."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import TypeVar

from streams.broker.entries.fetch import DueReply
from streams.broker.entries.settle import Settlement
from streams.broker.keys import PARKED, Keys
from streams.broker.server.outages import Outages
from streams.consumer import Consumer, ConsumerOptions
from streams.consuming.isolation import Isolation
from streams.errors import BrokerUnavailable, Reject, Snooze
from streams.events.event import Event
from streams.handlers.routes import Route
from streams.policy.levels import Levels
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

"""The model does what the server does: the same calls, drawn by lot, get the same answers from both."""

from __future__ import annotations

import random
import time

import pytest

from streams import Broker, Levels
from streams.admin.pauses import Pauses
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import Buried, Postponed, Settling
from streams.policy.retry import AttemptRecord
from tests.virtual.model import Entry, Model

LEVELS = Levels((0, 5))
STEPS = 40


class Both:
    """One stream on the server and in the model, with two consumers."""

    def __init__(self, broker: Broker, lot: random.Random) -> None:
        keys = broker.keys("s")
        self.lot = lot
        self.link = broker.control
        self.keys = keys
        self.pauses = Pauses(broker, "s")
        self.model = Model(LEVELS.ascending, time.time)
        self.fetching = {
            name: Fetching(GroupConsumer(broker, keys, LEVELS, "g", name))
            for name in ("a", "b")
        }
        self.settling = {
            name: Settling(GroupConsumer(broker, keys, LEVELS, "g", name))
            for name in ("a", "b")
        }
        self.given: dict[str, list[Delivery]] = {"a": [], "b": []}
        """Everything that a consumer was ever given: what it no longer holds must be refused by both."""
        self.count = 0

    async def step(self) -> tuple[str, object, object]:
        name = self.lot.choice("ab")
        what = self.lot.choice(
            [
                "publish",
                "publish",
                "take",
                "take",
                "due",
                "alone",
                "settle",
                "settle",
                "renew",
                "back",
                "delete",
                "pause",
            ]
        )
        return (what, *await getattr(self, what)(name))

    async def publish(self, name: str) -> tuple[object, object]:
        del name
        level, self.count = self.lot.choice(LEVELS.ascending), self.count + 1
        entry_id, fields = f"{self.count}-0", [b"type", b"t", b"data", b"1"]
        self.model.publish(level, entry_id, fields)
        return entry_id, (
            await self.link.call("XADD", self.keys.level(level), entry_id, *fields)
        ).decode()

    async def take(self, name: str) -> tuple[object, object]:
        limit = self.lot.randint(1, 4)
        mine = self.model.take(LEVELS.descending, name, limit)
        theirs = await self.fetching[name].take(limit)
        self.given[name] += theirs
        return _plain(mine), _plain(theirs)

    async def pause(self, name: str) -> tuple[object, object]:
        del name
        level = self.lot.choice(LEVELS.ascending)
        if level in self.model.paused:
            self.model.paused.discard(level)
            await self.pauses.resume(level=level)
        else:
            self.model.paused.add(level)
            await self.pauses.pause(level=level)
        return None, None

    async def due(self, name: str) -> tuple[object, object]:
        suspects = self.lot.choice([0, 100])
        mine = self.model.take_due(LEVELS.descending, name, 100, suspects)
        theirs = await self.fetching[name].take_due(100, suspects)
        self.given[name] += theirs.deliveries
        return (
            (
                sorted(_plain(mine.deliveries)),
                mine.vanished,
                mine.next_due is None,
                bool(mine.suspect),
                mine.paused,
            ),
            (
                sorted(_plain(theirs.deliveries)),
                theirs.vanished,
                theirs.next_due is None,
                bool(theirs.suspect),
                theirs.paused,
            ),
        )

    async def alone(self, name: str) -> tuple[object, object]:
        place = self.lot.choice(
            sorted(self.model.retry) or [(LEVELS.ascending[0], "77-0")]
        )
        suspect = "{}|{}".format(*place)
        mine = self.model.take_alone(LEVELS.descending, name, suspect)
        theirs = await self.fetching[name].take_alone(suspect)
        self.given[name] += theirs
        return _plain(mine), _plain(theirs)

    async def settle(self, name: str) -> tuple[object, object]:
        given = list(
            {delivery.place: delivery for delivery in self.given[name]}.values()
        )
        chosen = self.lot.sample(given, min(len(given), 4))
        done, postponed, buried = chosen[:1], chosen[1:3], chosen[3:]
        rows = [
            Postponed(delivery, self.lot.choice([0, 600_000]), self._record())
            for delivery in postponed
        ]
        letters = [Buried(delivery, "rejected", b"{}") for delivery in buried]
        shortfall = len(done) - self.model.ack(delivery.place for delivery in done)
        # In the order of the commands: acknowledge, postpone, bury; the highest level has no precedence.
        statuses = {delivery.place: 1 for delivery in done}
        statuses |= {row.delivery.place: self.model.postpone(name, row) for row in rows}
        statuses |= {
            letter.delivery.place: self.model.bury(name, letter) for letter in letters
        }
        theirs = await self.settling[name].settle(done, rows, letters)
        assert theirs.refused is None
        return (shortfall, statuses), (theirs.ack_shortfall, theirs.statuses)

    async def renew(self, name: str) -> tuple[object, object]:
        mine = self.model.renew(name, self.given[name])
        return _plain(mine), _plain(await self.settling[name].renew(self.given[name]))

    async def back(self, name: str) -> tuple[object, object]:
        known = [
            delivery.place for delivery in self.given[name] if self.lot.random() < 0.7
        ]
        return (
            self.model.hand_back(LEVELS.descending, name, known),
            await self.fetching[name].hand_back_unknown(known),
        )

    async def delete(self, name: str) -> tuple[object, object]:
        places: list[Entry] = [delivery.place for delivery in self.given[name]]
        if not places or self.lot.random() < 0.7:
            return None, None
        level, entry_id = place = self.lot.choice(places)
        self.model.delete(place)
        await self.link.call("XDEL", self.keys.level(level), entry_id)
        return None, None

    async def state(self) -> tuple[object, object]:
        model, link, keys = self.model, self.link, self.keys
        stored, pending = set(), {}
        for level in LEVELS.ascending:
            stored |= {
                (level, i.decode())
                for i, _ in await link.call("XRANGE", keys.level(level), "-", "+")
            }
            for i, owner, _, count in await link.call(
                "XPENDING", keys.level(level), "g", "-", "+", 1000
            ):
                pending[level, i.decode()] = (owner.decode(), count)
        retry = {_place(m) for m in await link.call("ZRANGE", keys.retry("g"), 0, -1)}
        records = await link.call("HGETALL", keys.attempts("g"))
        dead = await link.call("XLEN", keys.dead("g"))
        return (
            (
                set(model.stored),
                {
                    place: (held.owner, held.count)
                    for place, held in model.pending.items()
                },
                set(model.retry),
                dict(model.records),
                len(model.dead),
            ),
            (
                stored,
                pending,
                retry,
                {_place(records[i]): records[i + 1] for i in range(0, len(records), 2)},
                dead,
            ),
        )

    def _record(self) -> bytes:
        if self.lot.random() < 0.3:
            return b""
        return AttemptRecord(suspect=self.lot.random() < 0.3).to_json()


def _plain(deliveries: list[Delivery]) -> list[tuple[object, ...]]:
    return [(d.level, d.entry_id, d.count, bytes(d.record)) for d in deliveries]


def _place(text: bytes) -> Entry:
    level, _, entry_id = text.decode().partition("|")
    return int(level), entry_id


@pytest.mark.parametrize("seed", range(25))
async def test_the_model_answers_as_the_server_does(broker: Broker, seed: int):
    both = Both(broker, random.Random(f"conformance {seed}"))
    try:
        await both.fetching["a"].ensure_group()
        for number in range(STEPS):
            what, mine, theirs = await both.step()
            assert mine == theirs, f"seed {seed}, step {number}: {what}"
            mine, theirs = await both.state()
            assert mine == theirs, f"seed {seed}, after step {number}: {what}"
    finally:
        for part in (*both.fetching.values(), *both.settling.values()):
            await part.close()

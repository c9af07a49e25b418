"""The story of an entry that was admitted."""

from __future__ import annotations

from typing import Any

from streams import Broker, Limit, Reclaimer, ReclaimerOptions
from streams.broker.entries.delivery import Delivery
from streams.events.names import member
from streams.policy.admission import Kind
from tests.server.asking import ZERO, Hands, held

ONE = (Limit("tenant", concurrency=1), "a")

LATER = 3_600_000


class Story:
    """An entry with a slot, and one that waits for it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.hands, self.others = Hands(broker), Hands(broker, "other")
        self.keys = broker.keys("s")
        self.first: Delivery
        self.second: Delivery

    async def begin(self, *, handed: bool = False) -> Story:
        """``handed``: the first one was handed its slot while it waited, and nobody has come for it yet."""
        self.first, self.second = await self.hands.take_plain(2)
        if handed:
            (before,) = await self.hands.take_plain(1)
            await self.hands.ask([before, self.first, self.second], ONE)
            await self.hands.settling.settle([before])
            await self.hands.admitting.hand_over([ONE], 0)
        else:
            await self.hands.ask([self.first, self.second], ONE)
        assert (await held(self.broker))["busy:tenant=a"] == [self.name(self.first)]
        return self

    @staticmethod
    def name(delivery: Delivery) -> str:
        return member(*delivery.place)

    async def is_over(self) -> None:
        """The slot is nobody's, the other one is told, and has it then."""
        waits = [self.name(self.second)]
        assert await held(self.broker) == {"queue:tenant=a": waits, "admissions": waits}
        (told,) = await self.others.take_due()
        assert told.place == self.second.place, (
            "who waits is told by the script, whoever ran it"
        )
        assert [answer.kind for answer in await self.others.ask([told], ONE)] == [
            Kind.START
        ]
        await self.others.settling.settle([told])
        assert await held(self.broker) == {}

    async def erase(self) -> None:
        await self.broker.control.call("XDEL", self.keys.level(0), self.first.entry_id)

    async def silence(self) -> None:
        """Its consumer was heard of an hour ago."""
        where = (
            self.keys.level(0),
            "g",
            "c",
            0,
            self.first.entry_id,
            "IDLE",
            LATER,
            "JUSTID",
        )
        await self.broker.control.call("XCLAIM", *where)

    async def put_out_of_sight(self) -> None:
        """The first one is due, too: the other one is to be the only one."""
        await self.broker.control.call(
            "ZREM", self.keys.retry("g"), self.name(self.first)
        )

    async def sweep(self) -> None:
        reclaimer = Reclaimer(
            self.broker, "s", "g", options=ReclaimerOptions(levels=ZERO)
        )

        async def nothing(*_: Any, **__: Any) -> None:
            """It would hand the slot on, too."""

        reclaimer._admitting.look_after_queues = nothing
        await reclaimer.sweep()

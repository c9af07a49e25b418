"""What a consumer speaks to in virtual time: its fetching, settling and leases, against the model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from streams.broker.entries.declare import Declared
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import DueReply
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.ordering import Ways
from streams.broker.entries.settle import DONE, Buried, Postponed, Settlement
from streams.consuming.lease_renewer import LeaseRenewer
from streams.consuming.lease_thread import TICK
from streams.policy.levels import LevelTurns
from tests.virtual.model import Entry
from tests.virtual.world import World


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

"""A stream of four partitions with something on each, for tests of what its name means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streams import Event, Limit, Pipeline, Reject, Settings
from streams.policy.partitions import partition_name, partition_of
from tests.conftest import eventually

COUNT = 4
ALL = [partition_name("orders", number) for number in range(COUNT)]


def key_on(number: int, stem: str = "k") -> str:
    """A key whose events are on a partition."""
    return next(
        f"{stem}{n}" for n in range(1000) if partition_of(f"{stem}{n}", COUNT) == number
    )


KEYS = [key_on(number) for number in range(COUNT)]


@dataclass
class Spread:
    """A stream of four partitions; on each are a dead letter that holds its key, a scheduled and a waiting event."""

    settings: Settings

    def pipeline(self, count: int = COUNT) -> Pipeline:
        pipeline = Pipeline(settings=self.settings)
        pipeline.stream("orders", partitions=count)

        @pipeline.handler(
            "orders",
            group="g",
            order_by="key",
            on_dead="hold",
            limits=[Limit("key", rate="1000/s")],
        )
        async def handle(event: Event) -> None:
            if event.type == "bad":
                raise Reject("no")

        return pipeline

    async def fill(self) -> None:
        pipeline = self.pipeline()
        running = asyncio.create_task(pipeline.run())
        try:
            async with self.pipeline() as client:
                await eventually(
                    lambda: self.is_declared(client),
                    what="the partitions to be declared",
                )
                for number, key in enumerate(KEYS):
                    receipt = await client.publish(
                        "orders", Event("bad", number, id=f"bad-{number}", key=key)
                    )
                    assert receipt.partition == number
                    later = Event(
                        "later", number, id=f"later-{number}", key=key, delay=3600
                    )
                    assert (await client.publish("orders", later)).partition == number
                letters = client.dead_letters("orders", "g")

                async def have_died() -> bool:
                    return await letters.count() == COUNT

                await eventually(have_died, what="the dead letters")
        finally:
            pipeline.stop()
            await asyncio.wait_for(running, 20)
        async with self.pipeline() as client:
            for number, key in enumerate(KEYS):
                await client.publish(
                    "orders",
                    number,
                    type="t",
                    id=f"waits-{number}",
                    key=key_on(number, "w"),
                    tenant=key,
                )

    @staticmethod
    async def is_declared(client: Pipeline) -> bool:
        if not all([await client.status().levels(name) for name in ALL]):
            return False
        return len((await client.status().stream("orders")).partitions) == COUNT

    async def read(self, key_of: Callable[[Any], str]) -> list[dict[bytes, bytes]]:
        """A hash of each partition."""
        async with self.pipeline() as client:
            found = []
            for name in ALL:
                reply = await client.broker.control.call(
                    "HGETALL", key_of(client.broker.keys(name))
                )
                found.append(dict(zip(reply[::2], reply[1::2], strict=True)))
            return found

    def paused(self) -> list[int]:
        """The partitions with a pause."""
        rows = asyncio.run(self.read(lambda keys: keys.paused()))
        return [number for number, row in enumerate(rows) if row]

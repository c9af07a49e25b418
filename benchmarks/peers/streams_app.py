"""streams, measured in the same way as the others: a worker with its defaults."""

import asyncio
import sys

from meter import BODY, URL, concurrently, hit, main, one_by_one

from streams import Event, Pipeline

pipeline = Pipeline(URL)


@pipeline.handler("peer", group="g")
async def send(event: Event) -> None:
    hit()


async def publish() -> None:
    await pipeline.publish("peer", BODY, type="message.queued")


async def bulk(count: int):
    async with pipeline:
        await publish()
        yield
        await pipeline.publish_many(
            "peer", (BODY for _ in range(count)), type="message.queued"
        )


async def concurrent(count: int):
    async with pipeline:
        await publish()
        yield
        await concurrently(publish, count, 100)


async def one(count: int):
    async with pipeline:
        await publish()
        yield
        await one_by_one(publish, count)


if __name__ == "__main__":
    asyncio.run(pipeline.run()) if sys.argv[1] == "work" else main(
        bulk=bulk, concurrent=concurrent, one=one
    )

"""faststream: a stream subscriber in a group; PEER_BATCH=1: the batch handler, one ack per batch, all or nothing."""

import os

from faststream import AckPolicy, FastStream
from faststream.redis import RedisBroker, StreamSub
from meter import BATCH, BODY, URL, concurrently, hit, main, one_by_one

broker = RedisBroker(URL)
app = FastStream(broker)
STREAM = "peer"

if os.environ.get("PEER_BATCH"):

    @broker.subscriber(
        stream=StreamSub(
            STREAM, group="g", consumer="c", last_id="0", max_records=500, batch=True
        ),
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def send(messages: list[dict]) -> None:
        for _ in messages:
            hit()

else:

    @broker.subscriber(
        stream=StreamSub(STREAM, group="g", consumer="c", last_id="0", max_records=500),
        max_workers=32,
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def send(message: dict) -> None:
        hit()


async def publish() -> None:
    await broker.publish(BODY, stream=STREAM)


async def bulk(count: int):
    async with broker:
        await broker.connect()
        await publish()
        yield
        for _ in range(count // BATCH):
            async with broker._connection.pipeline() as pipe:
                for _ in range(BATCH):
                    await broker.publish(BODY, stream=STREAM, pipeline=pipe)
                await pipe.execute()


async def concurrent(count: int):
    async with broker:
        await broker.connect()
        await publish()
        yield
        await concurrently(publish, count)


async def one(count: int):
    async with broker:
        await broker.connect()
        await publish()
        yield
        await one_by_one(publish, count)


if __name__ == "__main__":
    main(bulk=bulk, concurrent=concurrent, one=one)

"""streaq: tasks over Redis Streams; concurrency is its default, results are off."""

from meter import BATCH, BODY, URL, concurrently, hit, main, one_by_one
from streaq import Worker

worker = Worker(redis_url=URL, concurrency=16)


@worker.task(ttl=0, silent=True)
async def send(message: dict) -> None:
    hit()


async def publish() -> None:
    await send.enqueue(BODY)


async def bulk(count: int):
    async with worker:
        await publish()
        yield
        for _ in range(count // BATCH):
            await worker.enqueue_many([send.enqueue(BODY) for _ in range(BATCH)])


async def concurrent(count: int):
    async with worker:
        await publish()
        yield
        await concurrently(publish, count)


async def one(count: int):
    async with worker:
        await publish()
        yield
        await one_by_one(publish, count)


if __name__ == "__main__":
    main(bulk=bulk, concurrent=concurrent, one=one)

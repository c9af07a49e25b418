"""bullmq for Python: finished jobs are removed."""

import asyncio
import sys

from bullmq import Queue, Worker
from meter import BATCH, BODY, URL, concurrently, hit, main, one_by_one

OPTIONS = {"removeOnComplete": True}
CONNECTION = {"connection": URL}


async def bulk(count: int):
    queue = Queue("peer", CONNECTION)
    await queue.add("send", BODY, OPTIONS)
    yield
    for _ in range(count // BATCH):
        await queue.addBulk(
            [{"name": "send", "data": BODY, "opts": OPTIONS} for _ in range(BATCH)]
        )
    await queue.close()


async def concurrent(count: int):
    queue = Queue("peer", CONNECTION)
    await queue.add("send", BODY, OPTIONS)
    yield
    await concurrently(lambda: queue.add("send", BODY, OPTIONS), count)
    await queue.close()


async def one(count: int):
    queue = Queue("peer", CONNECTION)
    await queue.add("send", BODY, OPTIONS)
    yield
    await one_by_one(lambda: queue.add("send", BODY, OPTIONS), count)
    await queue.close()


async def work() -> None:
    async def send(job, token) -> None:
        hit()

    Worker("peer", send, CONNECTION | {"concurrency": 50})
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work()) if sys.argv[1] == "work" else main(
        bulk=bulk, concurrent=concurrent, one=one
    )

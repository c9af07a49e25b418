"""saq: jobs leave nothing behind when they are done (ttl -1)."""

from meter import BODY, URL, concurrently, hit, main, one_by_one
from saq import Queue

queue = Queue.from_url(URL)


async def send(ctx: dict, *, message: dict) -> None:
    hit()


settings = {"queue": queue, "functions": [send], "concurrency": 20}


async def publish() -> None:
    await queue.enqueue("send", message=BODY, ttl=-1)


async def concurrent(count: int):
    await queue.connect()
    yield
    await concurrently(publish, count, 20)
    await queue.disconnect()


async def one(count: int):
    await queue.connect()
    yield
    await one_by_one(publish, count)
    await queue.disconnect()


if __name__ == "__main__":
    main(bulk=concurrent, concurrent=concurrent, one=one)

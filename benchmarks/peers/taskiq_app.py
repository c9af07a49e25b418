"""taskiq with taskiq-redis: stream broker, acknowledged when done, no result backend."""

from meter import BODY, URL, concurrently, hit, main, one_by_one
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(URL, xread_count=500, consumer_id="0")


@broker.task
async def send(message: dict) -> None:
    hit()


async def publish() -> None:
    await send.kiq(BODY)


async def concurrent(count: int):
    await broker.startup()
    yield
    await concurrently(publish, count)
    await broker.shutdown()


async def one(count: int):
    await broker.startup()
    yield
    await one_by_one(publish, count)
    await broker.shutdown()


if __name__ == "__main__":
    main(bulk=concurrent, concurrent=concurrent, one=one)

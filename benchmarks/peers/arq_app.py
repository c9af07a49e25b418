"""arq: results are not kept."""

from arq import create_pool
from arq.connections import RedisSettings
from meter import BODY, URL, concurrently, hit, main, one_by_one


async def send(ctx: dict, message: dict) -> None:
    hit()


class WorkerSettings:
    functions = (send,)
    redis_settings = RedisSettings.from_dsn(URL)
    max_jobs = 500
    keep_result = 0


async def concurrent(count: int):
    pool = await create_pool(WorkerSettings.redis_settings)
    yield
    await concurrently(lambda: pool.enqueue_job("send", BODY), count)
    await pool.aclose()


async def one(count: int):
    pool = await create_pool(WorkerSettings.redis_settings)
    yield
    await one_by_one(lambda: pool.enqueue_job("send", BODY), count)
    await pool.aclose()


if __name__ == "__main__":
    main(bulk=concurrent, concurrent=concurrent, one=one)

"""docket: its fire-and-forget mode; concurrency and check interval are those of its production page."""

import asyncio
from datetime import timedelta

from docket import Docket, Worker
from meter import BATCH, BODY, URL, concurrently, hit, main, one_by_one


async def send(message: dict) -> None:
    hit()


def made() -> Docket:
    return Docket(
        name="peer", url=URL + "?max_connections=550", execution_ttl=timedelta(0)
    )


async def bulk(count: int):
    async with made() as docket:
        docket.register(send)
        yield
        for _ in range(count // BATCH):
            await docket.add_many([docket.call(send)(BODY) for _ in range(BATCH)])


async def concurrent(count: int):
    async with made() as docket:
        docket.register(send)
        yield
        await concurrently(lambda: docket.add(send)(BODY), count)


async def one(count: int):
    async with made() as docket:
        docket.register(send)
        yield
        await one_by_one(lambda: docket.add(send)(BODY), count)


async def work() -> None:
    async with made() as docket:
        docket.register(send)
        interval = timedelta(milliseconds=100)
        async with Worker(
            docket, concurrency=500, minimum_check_interval=interval
        ) as worker:
            await worker.run_forever()


if __name__ == "__main__":
    import sys

    asyncio.run(work()) if sys.argv[1] == "work" else main(
        bulk=bulk, concurrent=concurrent, one=one
    )

"""What every peer's handler calls, and what runs every peer's publishers. The standard library only.

A handler calls ``hit``; the first call starts the clock, the one numbered PEER_COUNT stops it and writes PEER_RESULT.
The publishers of a peer are run by ``python PEER.py MODE COUNT`` and print one JSON line.
"""

import asyncio
import inspect
import itertools
import json
import os
import resource
import sys
import time

BODY = {
    "phone": "5511999999999",
    "message": "x" * 160,
    "tenant_id": 1,
    "instance_id": 1,
}
URL = os.environ.get("PEER_URL", "redis://127.0.0.1:6379/0")
BATCH = 500
IN_FLIGHT = 50

_count = int(os.environ.get("PEER_COUNT", "0"))
_numbers = itertools.count(1)
_started = [0.0, 0.0]


def hit() -> None:
    number = next(_numbers)
    if number == 1:
        _started[:] = time.perf_counter(), time.process_time()
    if number == _count:
        seconds, cpu = (
            time.perf_counter() - _started[0],
            time.process_time() - _started[1],
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        path = os.environ["PEER_RESULT"]
        with open(path + ".new", "w") as file:
            json.dump(
                {
                    "rate": (number - 1) / seconds,
                    "cpu_us": 1e6 * cpu / number,
                    "peak_mib": round(peak, 1),
                },
                file,
            )
        os.rename(path + ".new", path)


async def concurrently(publish, count: int, in_flight: int = IN_FLIGHT) -> None:
    numbers = iter(range(count))

    async def publisher() -> None:
        for _ in numbers:
            await publish()

    await asyncio.gather(*(publisher() for _ in range(in_flight)))


async def one_by_one(publish, count: int) -> None:
    for _ in range(count):
        await publish()


def main(**modes) -> None:
    """``modes``: names to functions of a count; coroutine functions prepare, yield once, and publish."""
    mode, count = modes[sys.argv[1]], int(sys.argv[2])
    if inspect.isasyncgenfunction(mode):
        asyncio.run(_timed(mode, count))
        return
    steps = mode(count)
    next(steps)
    clock, cpu = time.perf_counter(), time.process_time()
    for _ in steps:
        pass
    _tell(count, clock, cpu)


async def _timed(mode, count: int) -> None:
    steps = mode(count)
    await anext(steps)
    clock, cpu = time.perf_counter(), time.process_time()
    async for _ in steps:
        pass
    _tell(count, clock, cpu)


def _tell(count: int, clock: float, cpu: float) -> None:
    seconds, used = time.perf_counter() - clock, time.process_time() - cpu
    print(
        json.dumps({"rate": count / seconds, "cpu_us": 1e6 * used / count}), flush=True
    )

"""What middleware costs per event: ``python benchmarks/middleware.py [N] [rounds]``.

A consumer with its defaults and a handler that does nothing drains N events, with different middleware in turn on one
server. The figure is the worker's CPU time per event, the least of all rounds: the server is another process.
"""

from __future__ import annotations

import asyncio
import sys
import time

from streams import Broker, Consumer, ConsumerOptions, Producer
from streams.events.event import Event
from streams.middleware import Attempt, Context, Dedupe, Middleware, Timeout

BODY = {
    "phone": "5511999999999",
    "message": "x" * 160,
    "tenant_id": 1,
    "instance_id": 1,
}


class Both(Middleware):
    """Two hooks that do nothing."""

    def before(self, attempt: Attempt) -> None:
        pass

    def after(self, attempt: Attempt) -> None:
        pass


KINDS: dict[str, tuple[Middleware, ...]] = {
    "none": (),
    "context": (Context(),),
    "timeout": (Timeout(30.0),),
    "before and after": (Both(),),
    "dedupe": (Dedupe(),),
}


async def drain(
    broker: Broker, stream: str, count: int, middleware: tuple[Middleware, ...]
) -> float:
    """Microseconds of this process per event."""
    await Producer(broker, stream).publish_many(
        (BODY for _ in range(count)), type="message.queued"
    )
    left, done = count, asyncio.Event()

    async def handle(event: Event) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    consumer = Consumer(
        broker, stream, "g", handle, ConsumerOptions(middleware=middleware)
    )
    started = time.process_time()
    running = asyncio.create_task(consumer.run())
    await done.wait()
    spent = time.process_time() - started
    consumer.stop()
    await running
    return spent / count * 1e6


async def main(count: int, rounds: int) -> None:
    least = dict.fromkeys(KINDS, float("inf"))
    async with Broker("memory://") as broker:
        for n in range(rounds):
            for name, middleware in KINDS.items():
                stream = f"{name.split()[0]}{n}"
                least[name] = min(
                    least[name], await drain(broker, stream, count, middleware)
                )
    for name, spent in least.items():
        print(f"{name}: {spent:.2f} µs per event, {spent - least['none']:+.2f}")


if __name__ == "__main__":
    asyncio.run(
        main(*(int(a) for a in sys.argv[1:]) if len(sys.argv) > 2 else (10_000, 10))
    )

"""How long work stands still when a primary is lost, and what that loses: ``python -m benchmarks.failover [RUNS]``.

For Sentinels (noticed after 1 s) and a cluster (after 1.5 s), and for a primary that is killed and one that hangs: 16
tasks publish, a worker handles, the primary goes, and 5 s after work goes on everything stops and is counted. The times
are from the loss to the new primary, and from there to the first event that is published and handled there.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import Any

from streams import Broker, Consumer, ConsumerOptions, Event, Producer, PublishUnknown, StreamsError
from tests.servers import BINARIES, server_label
from tests.topologies import Clustered, Watched

STREAM = "jobs"


class Run:
    """One loss of a primary, and the books of it."""

    def __init__(self, servers: Watched | Clustered) -> None:
        self._servers = servers
        self._handled: set[str] = set()
        self._stored: dict[str, float] = {}
        self._unknown = self._refused = self._twice = 0
        self._going_on = True

    async def run(self, how: signal.Signals) -> dict[str, Any]:
        """Lose the primary; returns the figures."""
        async with Broker(self._servers.url, timeout=2.0) as broker:
            consumer = Consumer(broker, STREAM, "g", self._handle, ConsumerOptions(lease=5.0))
            producer = Producer(broker, STREAM)
            running = [asyncio.create_task(self._publish(producer, n)) for n in range(16)]
            consuming = asyncio.create_task(consumer.run())
            await self._until(lambda: len(self._handled) > 2000)
            before = self._servers.of(STREAM)
            lost = time.monotonic()
            before.signal(how)
            while self._servers.of(STREAM) is before:  # noqa: ASYNC110 - as below
                await asyncio.sleep(0.02)
            there = time.monotonic()
            await self._until(lambda: any(at > there and ident in self._handled for ident, at in self._stored.items()))
            again = time.monotonic()
            await asyncio.sleep(5)
            self._going_on = False
            await asyncio.gather(*running)
            await self._quiet(broker)
            consumer.stop()
            await consuming
        missing = [at - lost for ident, at in self._stored.items() if ident not in self._handled]
        return {
            "new primary": there - lost, "work after": again - there, "acknowledged": len(self._stored),
            "unknown": self._unknown, "refused": self._refused, "twice": self._twice, "missing": len(missing),
            "first missing": min(missing, default=0.0),
        }  # fmt: skip

    async def _handle(self, event: Event) -> None:
        self._twice += event.id in self._handled
        self._handled.add(event.id)

    async def _publish(self, producer: Producer, task: int) -> None:
        n = 0
        while self._going_on:
            n += 1
            try:
                receipt = await producer.publish(Event("t", 1, id=f"{task}-{n}"))
            except PublishUnknown:
                self._unknown += 1
            except StreamsError:
                self._refused += 1
                await asyncio.sleep(0.05)
            else:
                self._stored[receipt.event_id] = time.monotonic()
            await asyncio.sleep(0.002)

    async def _quiet(self, broker: Broker) -> None:
        while await broker.control.call("XLEN", broker.keys(STREAM).level(0)):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)

    async def _until(self, condition: Any) -> None:
        while not condition():  # noqa: ASYNC110 - what is waited for is no event of its own
            await asyncio.sleep(0.01)


async def main(runs: int) -> None:
    """Print a table."""
    print(server_label(BINARIES[0]))
    print(
        "| servers | primary | s to a new one | s until work goes on | acknowledged | unknown | refused "
        "| handled twice | missing |"
    )
    print("| --- " * 9 + "|")
    for kind in (Watched, Clustered):
        for how in (signal.SIGKILL, signal.SIGSTOP):
            for _ in range(runs):
                servers = kind(BINARIES[0])
                try:
                    servers.start()
                    got = await Run(servers).run(how)
                finally:
                    servers.close()
                lost = f" (from {got['first missing']:.3f} s)" if got["missing"] else ""
                word = "killed" if how == signal.SIGKILL else "hangs"
                print(
                    f"| {kind.name} | {word} | {got['new primary']:.1f} | {got['work after']:.1f} | "
                    f"{got['acknowledged']:,} | {got['unknown']} | {got['refused']:,} | {got['twice']} | "
                    f"{got['missing']}{lost} |"
                )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))

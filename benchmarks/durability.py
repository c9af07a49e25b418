"""What is left of acknowledged publishes, per setting of Redis: ``python -m benchmarks.durability [SECONDS]``.

For each setting: publish one event after the other for SECONDS (default 2) with 16 tasks, kill the server with SIGKILL,
start it again on its folder, and count. A lost answer is neither acknowledged nor missing. The last rows have a replica
that is killed half-way: with ``min-replicas-to-write`` the primary then refuses.

A killed process is not a power cut: what the process had written, the kernel still has.
"""

from __future__ import annotations

import asyncio
import sys
import time

from streams import Broker, BrokerUnavailable, Producer, PublishUnknown
from streams.errors import BrokerError
from tests.servers import BINARIES, Server, server_label

SETTINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "appendonly yes, appendfsync always",
        ("--appendonly", "yes", "--appendfsync", "always"),
    ),
    (
        "appendonly yes, appendfsync everysec",
        ("--appendonly", "yes", "--appendfsync", "everysec"),
    ),
    ("appendonly no, no snapshots", ("--appendonly", "no")),
)


class Count:
    """What publishers were told."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.refused = self.unknown = 0
        self.reasons: set[str] = set()


async def publish(url: str, seconds: float, count: Count) -> None:
    """Publish one event after the other from 16 tasks until the time is over or the server is away."""
    until = time.monotonic() + seconds
    async with Broker(url, timeout=1.0) as broker:
        producer = Producer(broker, "s")

        async def one_after_the_other() -> None:
            while time.monotonic() < until:
                try:
                    count.acknowledged.add(
                        (await producer.publish({"n": 1}, type="t")).entry_id
                    )
                except PublishUnknown:
                    count.unknown += 1
                except (BrokerUnavailable, BrokerError) as error:
                    count.refused += 1
                    count.reasons.add(
                        str(error).split(":")[1].split()[0]
                        if "NOREPLICAS" in str(error)
                        else "away"
                    )
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(one_after_the_other() for _ in range(16)))


def stored(server: Server) -> set[str]:
    """Entry ids that are there."""
    with server.client() as client:
        return {entry_id.decode() for entry_id, _ in client.xrange("streams:{s}:0")}


async def killed(options: tuple[str, ...], seconds: float) -> tuple[Count, int]:
    """Publish, kill the server, start it again, and count what is missing."""
    server = Server(BINARIES[0], *options).start()
    try:
        count = Count()
        task = asyncio.create_task(publish(server.url, seconds + 0.3, count))
        await asyncio.sleep(seconds)
        server.kill()
        await task
        server.start()
        return count, len(count.acknowledged - stored(server))
    finally:
        server.close()


async def replica_killed(options: tuple[str, ...], seconds: float) -> Count:
    """Publish to a primary whose replica is killed half-way."""
    primary = Server(BINARIES[0], *options, port=True).start()
    replica = Server(
        BINARIES[0], "--replicaof", "127.0.0.1", str(primary.port), port=True
    ).start()
    try:
        with primary.client() as client:
            for _ in range(100):  # The first copy of the data takes about a second.
                if client.wait(1, 100):
                    break
        count = Count()
        task = asyncio.create_task(publish(primary.url, seconds, count))
        await asyncio.sleep(seconds / 2)
        replica.kill()
        await task
        return count
    finally:
        replica.close()
        primary.close()


async def main(seconds: float) -> None:
    """Print one line per setting."""
    print(server_label(BINARIES[0]))
    print(
        f"{'SETTING':<40} {'ACKNOWLEDGED':>12} {'UNKNOWN':>8} {'REFUSED':>8} {'MISSING':>8}"
    )
    for name, options in SETTINGS:
        count, missing = await killed(options, seconds)
        print(
            f"{name:<40} {len(count.acknowledged):>12,} {count.unknown:>8} {count.refused:>8} {missing:>8,}"
        )
    for name, options in (
        ("a replica, which is killed", ()),
        (
            "the same, min-replicas-to-write 1",
            ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"),
        ),
    ):
        count = await replica_killed(options, 2 * seconds)
        told = f"  {', '.join(sorted(count.reasons))}" if count.reasons else ""
        print(
            f"{name:<40} {len(count.acknowledged):>12,} {count.unknown:>8} {count.refused:>8} {'':>8}{told}"
        )


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0))

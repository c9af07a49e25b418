"""What looking for stalled entries costs the server while many retries wait: ``python benchmarks/sweep_cost.py [N]``.

Compares one full pass of XAUTOCLAIM over the pending list with one sweep of the reclaimer, for N waiting retries
(default 100,000) that have been silent for longer than a lease, and ten stalled entries among them.
"""

from __future__ import annotations

import asyncio
import sys

from streams import Broker, Producer, Reclaimer, ReclaimerOptions
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.keys import PARKED
from streams.policy.levels import Levels

LEVELS = Levels([0])


async def server_cpu_us(broker: Broker) -> float:
    """Microseconds that the server's main thread has spent so far."""
    info = (await broker.control.call("INFO", "cpu")).decode()
    facts = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    return 1e6 * (float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"]))


async def prepare(broker: Broker, waiting: int) -> None:
    """``waiting`` parked entries with retry rows far away, and ten stalled ones, all silent for ten leases."""
    keys = broker.keys("s")
    await Fetching(GroupConsumer(broker, keys, LEVELS, "g", "dead")).ensure_group()
    receipts = await Producer(broker, "s").publish_many(
        ({"n": n} for n in range(waiting + 10)), type="t"
    )
    for at in range(0, len(receipts), 1000):
        ids = [receipt.entry_id for receipt in receipts[at : at + 1000]]
        key = keys.level(0)
        owner = PARKED if at + 1000 <= waiting else "dead"
        await broker.control.batch(
            [
                (
                    "XREADGROUP",
                    "GROUP",
                    "g",
                    owner,
                    "COUNT",
                    len(ids),
                    "STREAMS",
                    key,
                    ">",
                ),
                ("XCLAIM", key, "g", owner, 0, *ids, "IDLE", 300_000, "JUSTID"),
            ]
        )
        if owner == PARKED:
            rows: list[str | int] = []
            for entry_id in ids:
                rows += (4_000_000_000_000, f"0|{entry_id}")
            await broker.control.call("ZADD", keys.retry("g"), *rows)


async def main(waiting: int) -> None:
    async with Broker("memory://") as broker:
        await prepare(broker, waiting)
        reclaimer = Reclaimer(
            broker, "s", "g", options=ReclaimerOptions(levels=LEVELS, name="bench")
        )
        before = await server_cpu_us(broker)
        while await reclaimer.sweep():
            pass
        ours = await server_cpu_us(broker) - before
        cursor = b"0-0"
        before = await server_cpu_us(broker)
        while True:
            command = (
                "XAUTOCLAIM",
                broker.keys("s").level(0),
                "g",
                PARKED,
                30_000,
                cursor,
                "COUNT",
                100,
                "JUSTID",
            )
            cursor = (await broker.control.call(*command))[0]
            if cursor == b"0-0":
                break
        full = await server_cpu_us(broker) - before
        print(f"{waiting:,} waiting retries, {reclaimer.stalled} stalled entries found")
        print(f"one sweep of the reclaimer : {ours / 1000:10.1f} ms of server CPU")
        print(f"one full XAUTOCLAIM pass   : {full / 1000:10.1f} ms of server CPU")
        print(f"ratio                      : {full / max(ours, 1):10.0f}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))

"""What the change to another primary costs: ``python -m benchmarks.failover [RUNS]``, or with ``planned`` before RUNS.

For Sentinels (noticed after 1 s) and a cluster (after 1.5 s), and for a primary that is killed and one that hangs: 16
tasks publish, a worker handles, the primary goes, and 5 s after work goes on everything stops and is counted. The times
are from the loss to the new primary, and from there to the first event that is published and handled there.

``planned`` asks for the change, as an operator does before maintenance: 16 tasks publish, and 15 s later every event
that was accepted is looked for on the new primary. Sentinels demote the old one some 10 s after the new one is there.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Producer,
    PublishUnknown,
    StreamsError,
)
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
            consumer = Consumer(
                broker, STREAM, "g", self._handle, ConsumerOptions(lease=5.0)
            )
            producer = Producer(broker, STREAM)
            running = [
                asyncio.create_task(self._publish(producer, n)) for n in range(16)
            ]
            consuming = asyncio.create_task(consumer.run())
            await self._until(lambda: len(self._handled) > 2000)
            before = self._servers.of(STREAM)
            lost = time.monotonic()
            before.signal(how)
            while self._servers.of(STREAM) is before:  # noqa: ASYNC110 - as below
                await asyncio.sleep(0.02)
            there = time.monotonic()
            await self._until(
                lambda: any(
                    at > there and ident in self._handled
                    for ident, at in self._stored.items()
                )
            )
            again = time.monotonic()
            await asyncio.sleep(5)
            self._going_on = False
            await asyncio.gather(*running)
            await self._quiet(broker)
            consumer.stop()
            await consuming
        missing = [
            at - lost
            for ident, at in self._stored.items()
            if ident not in self._handled
        ]
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


class Change(Run):
    """A change of the primary that somebody asks for, and what was accepted and is not there afterwards."""

    async def ask(self, change: Callable[[], object]) -> dict[str, Any]:
        """Publish, change the primary, and look for the events; returns the figures."""
        async with Broker(self._servers.url, timeout=2.0) as broker:
            producer = Producer(broker, STREAM)
            running = [
                asyncio.create_task(self._publish(producer, n)) for n in range(16)
            ]
            await self._until(lambda: len(self._stored) > 2000)
            before = self._servers.of(STREAM)
            asked = time.monotonic()
            await asyncio.to_thread(change)
            while await asyncio.to_thread(self._servers.of, STREAM) is before:  # noqa: ASYNC110 - as below
                await asyncio.sleep(0.02)
            there = time.monotonic()
            await asyncio.sleep(15)
            self._going_on = False
            await asyncio.gather(*running)
            rows = await broker.control.call(
                "XRANGE", broker.keys(STREAM).level(0), "-", "+", within=30.0
            )
        kept = {row[1][row[1].index(b"id") + 1].decode() for row in rows}
        lost = [at - asked for ident, at in self._stored.items() if ident not in kept]
        times = sorted(self._stored.values())
        return {
            "new primary": there - asked, "pause": max(b - a for a, b in itertools.pairwise(times)),
            "acknowledged": len(self._stored), "unknown": self._unknown, "refused": self._refused, "lost": len(lost),
            "span": f" ({min(lost):.1f} to {max(lost):.1f} s)" if lost else "",
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of planned change: the servers, what is asked for, in words and in fact, and the servers' options."""

    kind: type[Watched | Clustered]
    word: str
    change: Callable[[Any], object]
    options: tuple[str, ...] = ()


_REPLICATED = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "10")
_PLANNED = (
    Case(Watched, "`SENTINEL FAILOVER`", Watched.ask_for_failover),
    Case(
        Watched,
        "the same, `min-replicas-to-write 1`",
        Watched.ask_for_failover,
        _REPLICATED,
    ),
    Case(Watched, "`CLIENT PAUSE`, `WAIT`, `SENTINEL FAILOVER`", Watched.failover),
    Case(Clustered, "`CLUSTER FAILOVER`", lambda servers: servers.failover(STREAM)),
    Case(
        Clustered,
        "`CLUSTER FAILOVER FORCE`",
        lambda servers: servers.failover(STREAM, "FORCE"),
    ),
    Case(
        Clustered,
        "`CLUSTER FAILOVER TAKEOVER`",
        lambda servers: servers.failover(STREAM, "TAKEOVER"),
    ),
)


async def planned(runs: int) -> None:
    """Print a table of changes that are asked for."""
    print(
        "| servers | asked for | s to a new one | longest pause, s | acknowledged | unknown | refused | lost |"
    )
    print("| --- " * 8 + "|")
    for case in _PLANNED:
        for _ in range(runs):
            servers = case.kind(BINARIES[0], *case.options)
            try:
                servers.start()
                got = await Change(servers).ask(partial(case.change, servers))
            finally:
                servers.close()
            print(
                f"| {case.kind.name} | {case.word} | {got['new primary']:.1f} | {got['pause']:.1f} | "
                f"{got['acknowledged']:,} | {got['unknown']} | {got['refused']:,} | {got['lost']:,}{got['span']} |",
                flush=True,
            )


async def lost(runs: int) -> None:
    """Print a table of primaries that are lost."""
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
                since = (
                    f" (from {got['first missing']:.3f} s)" if got["missing"] else ""
                )
                word = "killed" if how == signal.SIGKILL else "hangs"
                print(
                    f"| {kind.name} | {word} | {got['new primary']:.1f} | {got['work after']:.1f} | "
                    f"{got['acknowledged']:,} | {got['unknown']} | {got['refused']:,} | {got['twice']} | "
                    f"{got['missing']}{since} |"
                )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    is_planned = arguments[:1] == ["planned"]
    runs = int((arguments[is_planned:] or ["1"])[0])
    print(server_label(BINARIES[0]))
    asyncio.run(planned(runs) if is_planned else lost(runs))

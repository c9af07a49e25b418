"""Throw rows that say nothing into every set of a group, on a real server: they stop themselves only.

Each seed lines events up, queues them for slots and lets some fail, adds bent rows to the keys that hold these, and
sees that an event that comes afterwards is handled, and that nothing that looks at the group raises anything but our
own errors.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import traceback

import pytest

from streams import Limit, Status
from streams.admin.why import Wanted, Why
from streams.doctor import Doctor
from streams.errors import StreamsError
from tests.composition import clock, workers
from tests.composition.declared import STREAM, Declared, Group
from tests.composition.run import Run
from tests.fuzz import bent
from tests.servers import BINARIES, Server

_SLOTS = (Limit("tenant", name="slots", concurrency=1),)
_ROWS = (
    b"0|abc", b"0|99999999999999999999-0", b"0|01-1", b"junk", b"", b"0|1-1", b"5|1-1", b"k\x01", b"k\x0101A1-A0\x01t",
    b"\xff\xfe", b"held 1 0|1-0 x", b"held x", b"k\x01L1:0:A1-A0\x01", b"\x01\x01", b"slots=t1", b"{",
    b'{"failures":"x"}', b"9" * 400,
)  # fmt: skip
_SCORES = ("-inf", "+inf", "0", "1", "-1", "1e300", "1796000000000", "9007199254740993")


async def play(seed: int, url: str) -> list[str]:
    """What one seed found."""
    lot = random.Random(f"rows {seed}")
    run = Run(seed, url, f"f{seed}")
    group = Group(
        concurrency=4,
        max_retries=2,
        lease=30.0,
        order_by="key",
        fair_by="tenant",
        limits=_SLOTS,
    )
    run.declared, run.levels = Declared((0, 5), {"a": group}), (0, 5)
    found: list[str] = []
    async with run:
        await run.add_worker()
        for number, do in enumerate(
            (("slow", "ok"), ("ok",), ("fail", "ok"), ("ok",), ("reject",), ("ok",))
        ):
            attributes = {
                "id": f"e{number}",
                "key": lot.choice(["k", "k1"]),
                "tenant": "t1",
                "priority": lot.choice([0, 5]),
            }
            await run.accept(do, attributes)
        await run.accept(("ok",), {"id": "later", "delay": 300.0})
        await run.look()
        placed = await _bend(lot, run)
        found += await _looked(run)
        await run.accept(
            ("ok",), {"id": "good", "key": "good", "tenant": lot.choice(["t1", "good"])}
        )
        for _ in range(4):
            await run.look()
            while any(one.parked for one in run.books.running.values()):
                await run.finish()
            await run.pass_time(35)
        found += await _looked(run)
        if ("a", "good") not in run.books.done:
            found.append("an event that came later is not handled")
        found += [
            line for line in run.books.wrong if "ended" in line or "fetches on" in line
        ]
    return [f"seed {seed}: {what}\n  rows: {placed}" for what in found]


async def _bend(lot: random.Random, run: Run) -> list[tuple[object, ...]]:
    """Add rows to what is there, and to what is not."""
    keys, call = run.ops.broker.keys(STREAM), run.ops.broker.control.call
    sets = [
        keys.retry("a"),
        keys.scheduled(),
        keys.behind("a"),
        keys.busy_prefix("a") + "slots=t1",
    ]
    sets += [
        keys.queue_prefix("a") + "slots=t1",
        *(part("a", level) for part in (keys.lane, keys.ring) for level in (0, 5)),
    ]
    hashes = [
        keys.heads("a"),
        keys.attempts("a"),
        keys.queues("a"),
        keys.scheduled_fields(),
        keys.sweep("a"),
    ]
    placed: list[tuple[object, ...]] = []
    for _ in range(lot.randint(1, 8)):
        row = lot.choice(_ROWS) if lot.random() < 0.6 else bent(lot.choice(_ROWS), lot)
        if lot.random() < 0.6:
            key = lot.choice(sets)
            score = "0" if key in sets[2:3] or "lane" in key else lot.choice(_SCORES)
            command: tuple[object, ...] = ("ZADD", key, score, row)
        else:
            key = lot.choice(hashes)
            names = await call("HKEYS", key)
            is_known = (
                bool(names) and key != keys.scheduled_fields() and lot.random() < 0.3
            )
            command = (
                "HSET",
                key,
                lot.choice(sorted(names)) if is_known else bent(row, lot),
                row,
            )
        placed.append(command)
        await call(*command)
    return placed


async def _looked(run: Run) -> list[str]:
    """What looking at it raised that is none of our own errors."""
    broker, found = run.ops.broker, []
    looks = {
        "why": lambda: Why(broker, STREAM, look=0.0).ask(Wanted(tenant="t1")),
        "level": lambda: Why(broker, STREAM, look=0.0).ask(Wanted(level=0)),
        "doctor": lambda: Doctor(broker, role="operator").examine(STREAM),
        "ls": lambda: Status(broker).overview(),
    }
    for name, look in looks.items():
        try:
            await look()
        except StreamsError:
            pass
        except Exception:  # noqa: BLE001 - whatever it is, it is the finding
            found.append(f"{name}: {traceback.format_exc(limit=-3)}")
    return found


def run_rows(seconds: float, seed: int) -> tuple[int, list[str]]:
    """Fuzz for so long; how many seeds were played, and what was found."""
    logging.getLogger("streams").setLevel(logging.CRITICAL + 1)
    server, count, found = Server(BINARIES[0]), 0, list[str]()
    with pytest.MonkeyPatch.context() as patch:
        clock.install(patch)
        workers.install(patch)
        server.start()
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end and not found:
                try:
                    found += asyncio.run(play(seed + count, server.url))
                except Exception:  # noqa: BLE001 - whatever it is, it is the finding
                    found.append(
                        f"seed {seed + count}: {traceback.format_exc(limit=-6)}"
                    )
                count += 1
        finally:
            server.close()
    return count, found

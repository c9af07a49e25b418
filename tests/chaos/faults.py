"""What can break: one coroutine per fault, which breaks something, and mends it before it returns."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from tests.chaos.ground import Ground
from tests.process.worker_app import STREAM

Break = Callable[[Ground, random.Random], Awaitable[None]]


async def worker_killed(ground: Ground, lot: random.Random) -> None:
    """SIGKILL, and another one starts."""
    number = lot.randrange(len(ground.workers))
    await asyncio.to_thread(ground.workers[number].kill)
    await asyncio.sleep(lot.uniform(0, 1))
    await asyncio.to_thread(ground.hire, number)


async def worker_replaced(ground: Ground, lot: random.Random) -> None:
    """As a deployment does it: SIGTERM, then another one."""
    number = lot.randrange(len(ground.workers))
    await asyncio.to_thread(ground.workers[number].stop, 30.0)
    await asyncio.to_thread(ground.hire, number)


async def worker_stands_still(ground: Ground, lot: random.Random) -> None:
    """SIGSTOP, for about a lease: then it goes on and does not know."""
    worker = ground.workers[lot.randrange(len(ground.workers))]
    worker.signal(signal.SIGSTOP)
    await asyncio.sleep(lot.uniform(0.3, 3.0))
    worker.signal(signal.SIGCONT)


async def worker_cut_off(ground: Ground, lot: random.Random) -> None:
    """The network between one worker and the server is gone, resets, or loses an answer."""
    proxy = ground.proxy
    assert proxy is not None
    way = lot.choice(("refuse", "hang_up", "reset"))
    getattr(proxy, way)()
    await asyncio.sleep(lot.uniform(0.1, 3.0))
    await proxy.accept()


async def scripts_flushed(ground: Ground, lot: random.Random) -> None:
    """SCRIPT FLUSH, some times over."""
    for _ in range(lot.randint(1, 20)):
        await asyncio.to_thread(ground.ask, "SCRIPT", "FLUSH")


async def clients_killed(ground: Ground, lot: random.Random) -> None:
    """CLIENT KILL of everybody."""
    del lot
    await asyncio.to_thread(
        ground.ask, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"
    )


async def no_memory(ground: Ground, lot: random.Random) -> None:
    """At maxmemory: nothing new is taken."""
    await asyncio.to_thread(ground.ask, "CONFIG", "SET", "maxmemory", "1")
    await asyncio.sleep(lot.uniform(0.2, 2.0))
    await asyncio.to_thread(ground.ask, "CONFIG", "SET", "maxmemory", "0")


async def no_disk(ground: Ground, lot: random.Random) -> None:
    """A save fails, as on a full disk: the server refuses writes until one succeeds."""
    server = ground.single
    place = server.folder / "dump.rdb"
    place.unlink(missing_ok=True)
    place.mkdir()
    await asyncio.to_thread(ground.ask, "CONFIG", "SET", "save", "3600 1000000000")
    await asyncio.to_thread(ground.saved)
    await asyncio.sleep(lot.uniform(0.2, 2.0))
    place.rmdir()
    await asyncio.to_thread(ground.saved)
    await asyncio.to_thread(ground.ask, "CONFIG", "SET", "save", "")


async def server_stands_still(ground: Ground, lot: random.Random) -> None:
    """SIGSTOP of the server, for less than its replicas' patience."""
    pid = await asyncio.to_thread(ground.pid)
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(lot.uniform(0.1, 0.7))
    os.kill(pid, signal.SIGCONT)


async def server_restarted(ground: Ground, lot: random.Random) -> None:
    """SIGKILL of the server, which comes back with its append-only file."""
    await asyncio.to_thread(ground.single.kill)
    await asyncio.sleep(lot.uniform(0, 1))
    await asyncio.to_thread(ground.single.start)


async def server_replaced(ground: Ground, lot: random.Random) -> None:
    """As an upgrade of the server does it: SIGTERM, and another one starts on the same files."""
    server = ground.single
    server.signal(signal.SIGTERM)
    assert server.process is not None
    await asyncio.to_thread(server.process.wait, 10)
    await asyncio.sleep(lot.uniform(0, 1))
    await asyncio.to_thread(server.start)


async def file_rewritten(ground: Ground, lot: random.Random) -> None:
    """The append-only file is rewritten."""
    del lot
    await asyncio.to_thread(ground.ask, "BGREWRITEAOF")


async def clock_jumps(ground: Ground, lot: random.Random) -> None:
    """The server's clock is set ahead or back by up to half a minute, and stays there."""
    ground.move_clock(lot.uniform(-30, 30))
    await asyncio.sleep(1.0)


async def failover(ground: Ground, lot: random.Random) -> None:
    """Another server becomes the primary, in good order."""
    del lot
    before = ground.topology.of(STREAM)  # type: ignore[union-attr]
    await asyncio.to_thread(ground.topology.failover, STREAM)  # type: ignore[union-attr]
    await ground.until(lambda: ground.topology.of(STREAM) is not before)  # type: ignore[union-attr]
    await ground.until(ground.whole)


async def primary_killed(ground: Ground, lot: random.Random) -> None:
    """SIGKILL of the primary; another one takes over, and the old one comes back as its replica."""
    before = ground.topology.of(STREAM)  # type: ignore[union-attr]
    await asyncio.to_thread(before.kill)
    await ground.until(lambda: ground.topology.of(STREAM) is not before)  # type: ignore[union-attr]
    await asyncio.sleep(lot.uniform(0, 1))
    await asyncio.to_thread(before.start)
    await ground.until(ground.whole)


WORKERS: tuple[Break, ...] = (worker_killed, worker_replaced, worker_stands_still)
ANYWHERE: tuple[Break, ...] = (
    *WORKERS,
    scripts_flushed,
    clients_killed,
    no_memory,
    server_stands_still,
)
FAULTS: dict[str, tuple[Break, ...]] = {
    "single": (*ANYWHERE, worker_cut_off, no_disk, server_restarted, clock_jumps),
    "acl": (*ANYWHERE, server_restarted, server_replaced, file_rewritten),
    "embedded": (*WORKERS, scripts_flushed, clients_killed, no_memory),
    "sentinel": (*ANYWHERE, failover, primary_killed),
    "cluster": (*ANYWHERE, failover, primary_killed),
}
LOSES: tuple[Break, ...] = (primary_killed,)
QUIET: tuple[Any, ...] = (scripts_flushed, no_memory, no_disk, file_rewritten)
"""Faults after which nothing may be handled twice: no answer and no lease is lost with them."""

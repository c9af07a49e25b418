"""Where chaos happens: servers, worker processes, a publisher, and the record of it all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import redis

from streams import Broker, Event, Producer, PublishUnknown, StreamsError
from tests.chaos.history import MAX_RETRIES, Fault, History
from tests.process.books import dead_letters
from tests.process.proxy import Proxy
from tests.process.site import Site, Worker
from tests.process.test_clock_jump import SHIM
from tests.process.worker_app import LEVELS, STREAM
from tests.servers import BINARIES, Server
from tests.topologies import KINDS, Clustered, Guarded, Topology, Watched

WORKERS = 3
LEASE = 1.0
_IN_STEP = 20_000
"""Bytes that a replica in step may be behind."""
ORDERS: tuple[dict[str, Any], ...] = (
    *({"do": "ok"},) * 6,
    {"do": "sleep", "s": 0.2},
    {"do": "error", "times": 1},
    {"do": "sleep-fail", "s": 0.1, "times": 2},
    {"do": "sleep-snooze", "s": 0.05, "once": True},
    {"do": "error"},
)
"""What handlers are told to do: most succeed, some after retries or a snooze, a few never."""


class Ground:
    """One topology with workers on it, and a load. Use with ``async with``."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        self.lot = random.Random(f"load {seed}")
        self.folder = Path(tempfile.mkdtemp(prefix="sc", dir="/tmp"))
        self.offset = self.folder / "offset"
        self.offset.write_text("0")
        self.topology: Topology = self._make()
        self.history = History()
        self.workers: list[Worker] = []
        self.proxy: Proxy | None = None
        self.can_move_clock = False
        self._publishing: asyncio.Task[None] | None = None
        self._is_over = False

    def _make(self) -> Topology:
        if self.kind == "single":
            return Server(BINARIES[0], aof=True, port=True)
        return KINDS[self.kind](BINARIES[0])

    @property
    def single(self) -> Server:
        """The one server."""
        assert isinstance(self.topology, Server)
        return self.topology

    async def __aenter__(self) -> Self:
        library = self._shim() if self.kind == "single" else None
        if library is not None:
            os.environ |= {
                "LD_PRELOAD": str(library),
                "CLOCK_OFFSET_FILE": str(self.offset),
            }
        await asyncio.to_thread(self.topology.start)
        os.environ.pop("LD_PRELOAD", None)
        self.can_move_clock = library is not None and await asyncio.to_thread(
            self._clock_moves
        )
        if self.kind == "single":
            self.proxy = await Proxy(self.single).__aenter__()
        self.site = Site(self.topology, "chaos", self.folder)  # type: ignore[arg-type]
        for number in range(WORKERS):
            await asyncio.to_thread(self.hire, number)
        self._broker = Broker(self._url_as("producer"), namespace="chaos", timeout=2.0)
        self._publishing = asyncio.create_task(
            self._publish(Producer(self._broker, STREAM))
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)
            await self._broker.close()
        await asyncio.to_thread(self.site.close)
        if self.proxy is not None:
            await self.proxy.__aexit__()
        await asyncio.to_thread(self.topology.close)
        shutil.rmtree(self.folder, ignore_errors=True)

    def hire(self, number: int) -> None:
        """Start a worker in the place of one that is gone; the first one is behind the proxy, where there is one."""
        url = (
            self.proxy.url
            if self.proxy is not None and number == 0
            else self._url_as("worker")
        )
        worker = self.site.worker(
            url=url, lease=LEASE, max_retries=MAX_RETRIES, concurrency=8
        )
        self.workers[number : number + 1] = [worker]

    def _url_as(self, role: str) -> str:
        """The server's URL, as the user of this role where it has one."""
        return (
            self.topology.url_as(role)
            if isinstance(self.topology, Guarded)
            else self.topology.url
        )

    async def suffer(self, breaks: Callable[[Any, random.Random], Any], lot: random.Random, *, loses: bool,
                     repeats: bool) -> None:  # fmt: skip
        """Let something break, and write down when."""
        fault = Fault(
            breaks.__name__.replace("_", " "),
            time.monotonic_ns(),
            loses=loses,
            repeats=repeats,
        )
        self.history.faults.append(fault)
        await breaks(self, lot)
        fault.ended = time.monotonic_ns()

    async def settle(self, within: float = 60.0) -> History:
        """Stop publishing, wait until nothing is unfinished, and give the history."""
        self._is_over = True
        assert self._publishing is not None
        await self._publishing
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.until(lambda: not self.site.unfinished())
        history = self.history
        history.seconds_to_drain = time.monotonic() - began
        history.left = await asyncio.to_thread(self.site.unfinished)
        for worker in self.workers:
            await asyncio.to_thread(worker.stop, 30.0)
        history.read(self.site.history())
        with self.topology.client() as client:
            letters = dead_letters(client, self.site.keys)
            marks = client.hgetall(self.site.keys.watermarks())
        history.missed = {
            name.decode(): value.decode()
            for name, value in marks.items()
            if name.startswith(b"lost:")
        }
        history.dead = {event: letter["reason"] for event, letter in letters.items()}
        return history

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that is asked of servers, which may be away."""
        while True:
            with contextlib.suppress(
                redis.RedisError, OSError, AssertionError, StopIteration
            ):
                if await asyncio.to_thread(condition):
                    return
            await asyncio.sleep(0.05)

    def whole(self) -> bool:
        """Whether every replica is in step again."""
        assert isinstance(self.topology, Watched | Clustered)
        servers = self.topology.servers
        primaries = (
            [self.topology.of(STREAM)]
            if isinstance(self.topology, Watched)
            else servers
        )
        replicas = 0
        for server in primaries:
            with server.client() as client:
                facts = client.info("replication")
            rows = [
                facts.get(f"slave{n}", {}) for n in range(facts["connected_slaves"])
            ]
            if facts["role"] == "master":
                # A replica is called online before it has read what it was sent to begin with.
                reached = [
                    row
                    for row in rows
                    if facts["master_repl_offset"] - row.get("offset", 0) < _IN_STEP
                ]
                replicas += sum(row.get("state") == "online" for row in reached)
        return replicas == (2 if isinstance(self.topology, Watched) else 3)

    def ask(self, *command: Any) -> Any:
        """Ask the server that has the stream."""
        if isinstance(self.topology, Watched | Clustered):
            with self.topology.of(STREAM).client() as client:
                return client.execute_command(*command)
        with self.topology.client() as client:
            return client.execute_command(*command)

    def pid(self) -> int:
        """Of the server that has the stream."""
        return int(self.ask("INFO", "server")["process_id"])

    def saved(self) -> None:
        """Save to disk, whether that succeeds or not."""
        with self.topology.client() as client:
            with contextlib.suppress(redis.ResponseError):
                client.bgsave()
            while client.info("persistence")["rdb_bgsave_in_progress"]:
                time.sleep(0.02)

    def move_clock(self, seconds: float) -> None:
        """Set the server's clock ahead by so many seconds, or back, against this machine's."""
        self.offset.write_text(str(round(seconds)))

    def _clock_moves(self) -> bool:
        before = self.ask("TIME")[0]
        self.move_clock(500)
        moved = self.ask("TIME")[0] > before + 400
        self.move_clock(0)
        return moved

    def _shim(self) -> Path | None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            return None
        library = self.folder / "clock.so"
        subprocess.run(
            [
                compiler,
                "-shared",
                "-fPIC",
                "-O1",
                "-o",
                str(library),
                str(SHIM),
                "-ldl",
            ],
            check=True,
        )
        return library

    async def _publish(self, producer: Producer) -> None:
        for n in itertools.count():
            if self._is_over:
                return
            event = Event(
                "job",
                self.lot.choice(ORDERS),
                id=f"n{n}",
                priority=self.lot.choice(LEVELS),
                delay=self.lot.uniform(0, 1) if self.lot.random() < 0.1 else 0.0,
                dedup_id=f"d{n}" if self.lot.random() < 0.2 else None,
            )
            try:
                await producer.publish(event)
            except PublishUnknown:
                self.history.unknown[event.id] = time.monotonic_ns()
            except StreamsError:
                self.history.refused += 1
                await asyncio.sleep(0.05)
            else:
                self.history.acknowledged[event.id] = time.monotonic_ns()
            await asyncio.sleep(0.005)

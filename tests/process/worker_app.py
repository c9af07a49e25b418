"""A worker as a program of its own, told by each event what its handler shall do; and the handle to start one.

The handlers write a history: one line per start and end, each in a single append, so a killed worker loses none.
``data`` of an event: ``{"do": ..., "s": seconds}``. With ``"times": n`` only the first n attempts do it, with
``"once": true`` only the first start; any other is ok at once. ``Live`` is the same without a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import redis

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    Event,
    Pipeline,
    Reclaimer,
    ReclaimerOptions,
    Reject,
    Retry,
    Scheduler,
    Settings,
    Snooze,
)
from streams.broker.keys import Keys
from streams.handlers.routes import Route
from streams.logs import set_up
from streams.worker import service as service_module
from streams.worker.options import ServiceOptions
from streams.worker.service import Service
from tests.canaries import shown
from tests.servers import Server, clean_environment, wait_until, whole_lines
from tests.terminal import Program

ROOT = Path(__file__).parents[2]
STREAM, GROUP = "jobs", "work"
LEVELS = (0, 1, 5, 10)


@dataclasses.dataclass(slots=True)
class Config:
    """What a worker process is started with."""

    url: str
    namespace: str
    history: str
    lease: float = 1.0
    concurrency: int = 4
    max_retries: int = 3
    delay: float = 0.05
    timeout: float | None = None
    grace: float = 5.0
    cancel_grace: float | None = None
    """None: ``Pipeline.run`` with its own value; else the same service with this one."""
    health: str = ""
    """Where it serves its health."""
    last_resort: float | None = None
    """Seconds added to the two graces before a process that hangs is ended; None: its own value."""


_RAISES: dict[str, Callable[[], BaseException]] = {
    "error": lambda: RuntimeError("told to fail"),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "generator-exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "group": lambda: BaseExceptionGroup(
        "told to fail", [SystemExit(3), KeyboardInterrupt()]
    ),
}


def _forked_and_ended(times: int) -> Counter[int | None]:
    """How children of a handler end that are told to at once; None: one that did not."""
    codes: Counter[int | None] = Counter()
    for _ in range(times):
        child = multiprocessing.get_context("fork").Process(
            target=time.sleep, args=(60,)
        )
        child.start()
        child.terminate()
        child.join(40)
        codes[child.exitcode] += 1
        if child.exitcode is None:
            child.kill()
            break
    return codes


class Handlers:
    """The handlers: type ``job`` runs in the event loop, type ``plain`` in a thread."""

    def __init__(self, history: str) -> None:
        self._history = history
        self._file = os.open(history, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, **facts: Any) -> None:
        line = {"what": what, "pid": os.getpid(), "at": time.monotonic_ns(), **facts}
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def _begin(self, event: Event[Any]) -> dict[str, Any]:
        self.note(
            "start",
            event=event.id,
            entry=event.entry_id,
            level=event.priority,
            attempt=event.attempt,
        )
        order: dict[str, Any] = event.data
        if event.attempt > order.get("times", 1_000_000):
            return {"do": "ok"}
        if order.get("once"):
            try:
                os.close(os.open(f"{self._history}.{event.id}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return {"do": "ok"}
        return order

    def _end(self, event: Event[Any], how: str) -> None:
        self.note(
            "end", event=event.id, entry=event.entry_id, attempt=event.attempt, how=how
        )

    def _common(self, event: Event[Any], order: dict[str, Any]) -> None:
        do = order["do"]
        if do == "block":
            time.sleep(order["s"])
        elif do == "fork":
            self.note("forked", codes=list(_forked_and_ended(order["times"]).items()))
        elif do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif do in _RAISES:
            self._end(event, do)
            raise _RAISES[do]()

    async def job(self, event: Event[Any]) -> None:
        order = self._begin(event)
        do = order["do"]
        try:
            if do == "sleep":
                await asyncio.sleep(order["s"])
            elif do == "sleep-fail":
                await asyncio.sleep(order["s"])
                raise RuntimeError("told to fail")
            elif do == "sleep-kill":
                await asyncio.sleep(order["s"])
                os._exit(1)
            elif do == "sleep-snooze":
                await asyncio.sleep(order["s"])
                raise Snooze(0.05)
            elif do == "never":
                await asyncio.get_running_loop().create_future()
            elif do == "deaf":
                await self._deaf(order.get("s", 3600.0))
            else:
                self._common(event, order)
        except asyncio.CancelledError:
            if do != "cancelled":
                self._end(event, "cancelled")
            raise
        self._end(event, "ok")

    async def _deaf(self, seconds: float) -> None:
        """Swallow every cancellation."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(min(0.05, seconds))

    def plain(self, event: Event[Any]) -> None:
        order = self._begin(event)
        if order["do"] == "never":
            threading.Event().wait()
        self._common(event, order)
        self._end(event, "ok")


def build(config: Config) -> tuple[Pipeline, Handlers]:
    """The pipeline of one worker."""
    settings = Settings(
        namespace=config.namespace,
        lease=config.lease,
        concurrency=config.concurrency,
        grace_period=config.grace,
        health=config.health,
    )
    pipeline = Pipeline(config.url, settings=settings)
    handlers = Handlers(config.history)
    retry = Retry(
        max_retries=config.max_retries, delay=config.delay, backoff="fixed", jitter=0.0
    )
    for kind, function in (("job", handlers.job), ("plain", handlers.plain)):
        pipeline.handler(
            STREAM, group=GROUP, types=[kind], retry=retry, timeout=config.timeout
        )(function)
    return pipeline, handlers


async def run(config: Config) -> None:
    if config.last_resort is not None:
        service_module._LAST_RESORT = config.last_resort
    pipeline, handlers = build(config)
    if config.cancel_grace is None:
        running = asyncio.create_task(pipeline.run())
        while pipeline._service is None and not running.done():
            await asyncio.sleep(0.005)
        service = pipeline._service
        handlers.note("up")
        await running
    else:
        async with pipeline:
            options = ServiceOptions(
                grace_period=config.grace, cancel_grace=config.cancel_grace
            )
            service = Service(pipeline.broker, pipeline.plans, options)
            asyncio.get_running_loop().call_later(0.01, handlers.note, "up")
            await service.run()
    assert service is not None
    stalled = sum(reclaimer.stalled for reclaimer in service.reclaimers)
    handlers.note("stats", **service.consumers[0].stats.as_dict(), stalled=stalled)


def main(config: Config) -> None:
    warnings.simplefilter("default")
    set_up("json", "info")
    asyncio.run(run(config))


# The other side: what tests use.


class Worker:
    """A worker process, its log and its end."""

    def __init__(self, config: Config, log: Path, root: Path = ROOT) -> None:
        self.log = log
        self.process: subprocess.Popen[Any]
        with log.open("ab") as out:
            environment = clean_environment() | {"PYTHONPATH": str(root)}
            if root == ROOT:
                self.process = Program(
                    main, [config], cwd=root, env=environment, stdout=out, stderr=out
                )
            else:
                command = [
                    sys.executable,
                    "-m",
                    "tests.process.worker_app",
                    json.dumps(dataclasses.asdict(config)),
                ]
                self.process = subprocess.Popen(
                    command, cwd=root, env=environment, stdout=out, stderr=out
                )
        self.pid = self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait(10)

    def wait(self, seconds: float) -> int:
        """The exit code; fails if the process does not end in time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the worker did not end within {seconds} s; its log:\n{self.text}"
            ) from None

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    @property
    def text(self) -> str:
        return self.log.read_text("utf-8")

    def lines(self, message: str) -> list[dict[str, Any]]:
        """The log lines with this message."""
        found = [
            json.loads(line) for line in whole_lines(self.log) if line.startswith("{")
        ]
        return [line for line in found if line["message"] == message]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)


class Site:
    """One namespace on one server, the workers on it, their shared history, and the books."""

    def __init__(self, server: Server, namespace: str, folder: Path) -> None:
        self.server = server
        self.namespace = namespace
        self.keys = Keys(STREAM, namespace)
        self.history_file = folder / f"{namespace}.history"
        self.history_file.touch()
        self._folder = folder
        self._workers: list[Worker] = []
        self._count = 0

    def worker(self, **options: Any) -> Worker:
        """Start a worker and wait until its handlers may be called (or until it has ended).

        ``root``: the tree whose code it runs, else this one.
        """
        url, root = options.pop("url", self.server.url), options.pop("root", ROOT)
        config = Config(url, self.namespace, str(self.history_file), **options)
        worker = Worker(
            config, self._folder / f"{self.namespace}.{len(self._workers)}.log", root
        )
        self._workers.append(worker)

        def up() -> bool:
            # A handler that blocks the loop from the beginning lets its worker say no more than that it started.
            heard = self.of("up", worker.pid) or self.of("start", worker.pid)
            return bool(heard) or worker.process.poll() is not None

        wait_until(up, what="the worker to be up")
        return worker

    def pass_time(self, seconds: float) -> None:
        """Let what workers hold have been silent for longer."""
        with self.server.client() as client:
            for key in client.keys(f"{self.namespace}:{{{STREAM}}}:[0-9]*"):
                for row in client.xpending_range(key, GROUP, "-", "+", 10_000):
                    idle = row["time_since_delivered"] + round(seconds * 1000)
                    if not row["consumer"].startswith(b"-"):
                        client.xclaim(
                            key,
                            GROUP,
                            row["consumer"],
                            0,
                            [row["message_id"]],
                            idle=idle,
                            justid=True,
                        )

    def close(self) -> None:
        """End the workers; nothing that they wrote may show what must be masked."""
        for worker in self._workers:
            worker.close()
            for line in worker.text.splitlines():
                assert not shown(line), f"a log line shows what it must not: {line}"

    # history

    def history(self) -> list[dict[str, Any]]:
        """Every line but a last one that is being written at this moment."""
        whole, _, _ = self.history_file.read_text("utf-8").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def of(self, what: str, pid: int | None = None) -> list[dict[str, Any]]:
        return [
            line
            for line in self.history()
            if line["what"] == what and pid in (None, line["pid"])
        ]

    def attempts(self) -> dict[str, list[int]]:
        """Event id to the attempts that its handler saw, in order."""
        seen: dict[str, list[int]] = defaultdict(list)
        for line in self.of("start"):
            seen[line["event"]].append(line["attempt"])
        return dict(seen)

    def done(self) -> Counter[str]:
        """How often each event's handler came to its good end."""
        return Counter(line["event"] for line in self.of("end") if line["how"] == "ok")

    def started(self, count: int, pid: int | None = None) -> None:
        wait_until(lambda: len(self.of("start", pid)) >= count, what=f"{count} starts")

    def stats(self, worker: Worker) -> dict[str, int]:
        """What a worker counted; written when it ended in order."""
        (line,) = self.of("stats", worker.pid)
        return line

    # books

    def publish(
        self,
        orders: Iterable[dict[str, Any]],
        *,
        kind: str = "job",
        level: int = 0,
        meta: str = "",
    ) -> list[str]:
        """Add events as any foreign program would; returns their ids."""
        ids = []
        with self.client() as client, client.pipeline(transaction=False) as pipe:
            for order in orders:
                self._count += 1
                ids.append(f"e{self._count}")
                fields: dict[Any, Any] = {
                    "type": kind,
                    "id": ids[-1],
                    "data": json.dumps(order),
                }
                pipe.xadd(
                    self.keys.level(level), fields | ({"meta": meta} if meta else {})
                )
            pipe.execute()
        return ids

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        with self.server.client() as client:
            yield client

    def unfinished(self) -> dict[str, int]:
        """Whatever the server keeps of events that are neither done nor dead; {} once all are."""
        with self.client() as client:
            return unfinished(client, self.keys)

    def dead(self) -> dict[str, dict[str, Any]]:
        """Event id to reason and attempt record of each dead letter."""
        with self.client() as client:
            return dead_letters(client, self.keys)

    def drained(self, seconds: float = 40.0) -> None:
        """Wait until nothing is unfinished."""
        try:
            wait_until(lambda: not self.unfinished(), seconds=seconds)
        except AssertionError:
            raise AssertionError(
                f"not drained after {seconds} s: {self.unfinished()}"
            ) from None

    def balance(self, published: Iterable[str]) -> None:
        """Every event is done or dead, none is both, none was made up, and nothing is left over."""
        balance(published, self.done(), self.dead(), self.attempts())
        assert self.unfinished() == {}


def unfinished(client: redis.Redis, keys: Keys, group: str = GROUP) -> dict[str, int]:
    """Stored entries, pending entries, retry rows, attempt rows and scheduled events, where there are any."""
    found: dict[str, int] = {}
    for level in LEVELS:
        found[f"stored {level}"] = client.xlen(keys.level(level))
        with contextlib.suppress(redis.ResponseError):
            found[f"pending {level}"] = client.xpending(keys.level(level), group)[
                "pending"
            ]
    found["retry"] = client.zcard(keys.retry(group))
    found["attempts"] = client.hlen(keys.attempts(group))
    found["scheduled"] = client.zcard(keys.scheduled())
    found["scheduled-fields"] = client.hlen(keys.scheduled_fields())
    return {name: count for name, count in found.items() if count}


def dead_letters(
    client: redis.Redis, keys: Keys, group: str = GROUP
) -> dict[str, dict[str, Any]]:
    """Event id to reason and record; an event that died twice fails the books here."""
    letters: dict[str, dict[str, Any]] = {}
    for _, fields in client.xrange(keys.dead(group)):
        event_id = fields[b"id"].decode()
        assert event_id not in letters, f"{event_id} has two dead letters"
        letters[event_id] = {
            "reason": fields[b"reason"].decode(),
            **json.loads(fields[b"record"]),
        }
    return letters


def balance(
    published: Iterable[str],
    done: Iterable[str],
    dead: Iterable[str],
    started: Iterable[str],
) -> None:
    """Compare sets of event ids: done and dead share nothing and together are what was published."""
    expected, done, dead, started = set(published), set(done), set(dead), set(started)
    assert started <= expected, f"made up: {started - expected}"
    assert not done & dead, f"done and dead: {done & dead}"
    assert done | dead == expected, (
        f"lost: {expected - done - dead}; unexpected: {(done | dead) - expected}"
    )


class Live:
    """A worker inside the test: consumer, reclaimer, scheduler. Does to each event what its data says."""

    def __init__(
        self,
        broker: Broker,
        stream: str = STREAM,
        *,
        lease: float = 1.0,
        concurrency: int = 16,
        retry: Retry | None = None,
    ) -> None:
        self.starts: dict[str, list[int]] = defaultdict(list)
        self.times: dict[str, list[float]] = defaultdict(list)
        """Monotonic times of the starts."""
        self.done: Counter[str] = Counter()
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        retry = retry or Retry(max_retries=5, delay=0.05, backoff="fixed", jitter=0.0)
        self.consumer = Consumer(
            broker,
            stream,
            GROUP,
            Route(self.handle, retry=retry),
            ConsumerOptions(lease=lease, concurrency=concurrency),
        )
        self.reclaimer = Reclaimer(
            broker, stream, GROUP, retry, ReclaimerOptions(lease=lease)
        )
        self.scheduler = Scheduler(broker, stream)
        self._tasks: list[asyncio.Task[None]] = []

    async def handle(self, event: Event[Any]) -> None:
        order = event.data
        self.starts[event.id].append(event.attempt)
        self.times[event.id].append(time.monotonic())
        match order:
            case {"gate": name}:
                await self.gates[name].wait()
            case {"sleep": seconds}:
                await asyncio.sleep(seconds)
        if event.attempt <= order.get("fails", 0):
            raise RuntimeError("told to fail")
        if order.get("reject"):
            raise Reject("told to reject")
        self.done[event.id] += 1

    async def __aenter__(self) -> Self:
        roles = (self.consumer, self.reclaimer, self.scheduler)
        self._tasks = [asyncio.create_task(role.run()) for role in roles]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.consumer.stop(1.0)
        self.reclaimer.stop()
        self.scheduler.stop()
        async with asyncio.timeout(15):
            await asyncio.gather(*self._tasks)

    async def ended(self) -> None:
        """Wait for the first role to end, and raise what it raised."""
        done, _ = await asyncio.wait(
            self._tasks, return_when=asyncio.FIRST_EXCEPTION, timeout=5
        )
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        errors = [
            task.exception()
            for task in done
            if not task.cancelled() and task.exception()
        ]
        self._tasks = []
        assert errors, "no role ended"
        raise errors[0]


if __name__ == "__main__":
    main(Config(**json.loads(sys.argv[1])))

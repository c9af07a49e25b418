"""A worker as a program of its own, told by each event what its handler shall do.

The handlers write a history: one line per start and end, each in a single append, so a killed worker loses none.
``data`` of an event: ``{"do": ..., "s": seconds}``. With ``"times": n`` only the first n attempts do it, with
``"once": true`` only the first start; any other is ok at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams import Event, Pipeline, Retry, Settings, Snooze
from streams.logs import set_up
from streams.worker import service as service_module
from streams.worker.options import ServiceOptions
from streams.worker.service import Service

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


if __name__ == "__main__":
    main(Config(**json.loads(sys.argv[1])))

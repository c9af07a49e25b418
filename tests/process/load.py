"""A worker under load while something breaks, and the books that must balance afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import pytest

from streams import Broker, Event, Producer, PublishUnknown, StreamsError
from tests.conftest import eventually
from tests.process.books import balance, dead_letters, unfinished
from tests.process.live import Live
from tests.process.worker_app import LEVELS, STREAM
from tests.servers import Server

MakeServer = Callable[..., Server]

MINIMAL_ACL = (
    # Everybody.
    "+auth +select +time +script|load +evalsha"
    # Producers.
    " +xadd +sadd +xlen +zcard +hexists +hset +zadd +get +set"
    # Workers.
    " +xreadgroup +xgroup|create +xgroup|delconsumer +xack +xdel +xclaim +xautoclaim +xpending +xrange"
    " +xinfo|groups +xinfo|consumers +type +exists +zrangebyscore +zrange +zrem +zscore +zrank +hget +hmget +hdel"
    " +hgetall +hlen +pexpire +unlink +xread +zrangebylex +hscan +hincrby +xinfo|stream"
    # Whoever looks at status and dead letters, replays and discards, pauses and resumes, drops groups.
    " +smembers +xrevrange +xgroup|destroy +scan +mget"
)
"""What one user needs for everything; keys: ``~<namespace>:*``."""


class Load:
    """Publishes until stopped, and keeps what became of each event."""

    def __init__(self, producer: Producer, pause: float = 0.004) -> None:
        self.stored: set[str] = set()
        self.unknown: set[str] = set()
        self.refused = 0
        self._producer = producer
        self._pause = pause
        self._count = itertools.count()
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        async with asyncio.timeout(15):
            await self._task

    async def _run(self) -> None:
        while not self._stopping:
            n = next(self._count)
            event = Event(
                "job",
                {"fails": 1 if n % 5 == 0 else 0, "reject": n % 17 == 0},
                id=f"n{n}",
                priority=LEVELS[n % 4],
                delay=0.2 if n % 7 == 0 else 0.0,
            )
            try:
                await self._producer.publish(event)
            except PublishUnknown:
                self.unknown.add(event.id)
            except StreamsError:
                self.refused += 1
                await asyncio.sleep(0.02)
            else:
                self.acknowledged(event.id)
            await asyncio.sleep(self._pause)

    def acknowledged(self, ident: str) -> None:
        """The server has the event."""
        self.stored.add(ident)


async def drained(server: Server, broker: Broker, seconds: float = 40.0) -> None:
    """Wait until the server keeps nothing unfinished."""
    left: dict[str, int] = {}

    def empty() -> bool:
        nonlocal left
        with server.client() as client:
            left = unfinished(client, broker.keys(STREAM))
        return not left

    try:
        await eventually(empty, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"not drained after {seconds} s: {left}") from None


def dead(server: Server, broker: Broker) -> dict[str, dict[str, Any]]:
    with server.client() as client:
        return dead_letters(client, broker.keys(STREAM))


def check_books(
    server: Server,
    broker: Broker,
    live: Live,
    stored: set[str],
    unknown: set[str] = frozenset(),
) -> None:  # type: ignore[assignment]
    """Every stored event is done or dead; one with an unknown fate is at most that, too."""
    letters = dead(server, broker)
    came = unknown & (set(live.done) | set(letters))
    balance(stored | came, live.done, letters, set(live.starts) - (unknown - came))


@contextlib.asynccontextmanager
async def under_load(
    server: Server, url: str | None = None, **options: Any
) -> AsyncIterator[tuple[Live, Load, Broker]]:
    """A live worker and a publishing producer; on leaving: stop publishing, drain, check the books."""
    async with (
        Broker(server.url, timeout=3.0) as broker,
        Live(broker, **options) as live,
    ):
        async with Load(Producer(broker, STREAM)) as load:
            await eventually(lambda: len(live.done) > 50, what="the load to run")
            yield live, load, broker
            there = len(live.done)
            await eventually(
                lambda: len(live.done) > there + 50, what="the worker to go on"
            )
        await drained(server, broker)
        check_books(server, broker, live, load.stored, load.unknown)
        assert len(load.stored) > 100


def messages(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if text in record.getMessage()]

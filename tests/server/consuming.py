"""A consumer that runs beside a test, and looks at what it leaves on the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from streams import Broker, Consumer, ConsumerOptions, DeadLetters, Retry

LEVELS = (0, 1, 5, 10)

AT_ONCE = Retry(delay=0.0)


@pytest.fixture(autouse=True)
def _short_polls(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry that becomes due while its consumer blocks waits for the next look: here not for half a second."""
    if "real_polls" not in request.fixturenames:
        monkeypatch.setattr("streams.consuming.fetcher.POLL", 0.05)


@pytest.fixture
def real_polls() -> None:
    """For tests of the times themselves."""


@contextlib.asynccontextmanager
async def consuming(broker: Broker, handler, group: str = "g", **options):
    """A running consumer of stream ``s``; at the end it is cancelled, which is quicker than an orderly stop."""
    consumer = Consumer(broker, "s", group, handler, ConsumerOptions(**options))
    task = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def length(broker: Broker) -> int:
    """Entries stored on all levels."""
    return sum(
        await broker.control.batch(
            [("XLEN", broker.keys("s").level(level)) for level in LEVELS]
        )
    )


async def held(broker: Broker, consumer: str, group: str = "g") -> int:
    """Entries pending with one consumer, on all levels."""
    commands = [
        ("XPENDING", broker.keys("s").level(n), group, "-", "+", 1000, consumer)
        for n in LEVELS
    ]
    return sum(map(len, await broker.control.batch(commands)))


async def pending(
    broker: Broker, level: int = 0, group: str = "g"
) -> list[tuple[str, str, int, int]]:
    """Entry id, owner, milliseconds of silence and delivery count of what is pending."""
    rows = await broker.control.call(
        "XPENDING", broker.keys("s").level(level), group, "-", "+", 1000
    )
    return [
        (entry_id.decode(), owner.decode(), idle, count)
        for entry_id, owner, idle, count in rows
    ]


def gone(broker: Broker) -> Callable:
    async def nothing_left() -> bool:
        return await length(broker) == 0

    return nothing_left


def idle(broker: Broker) -> Callable:
    """That a consumer waits for entries."""

    async def blocked() -> bool:
        return b"blocked_clients:1\r\n" in await broker.control.call("INFO", "clients")

    return blocked


def dead(broker: Broker, n: int = 1, group: str = "g") -> Callable:
    async def there_are() -> bool:
        return await DeadLetters(broker, "s", group).count() == n

    return there_are


async def letters(broker: Broker, group: str = "g"):
    return await DeadLetters(broker, "s", group).page(limit=1000)


UNREADABLE = {
    "no type": ([b"data", b"{}"], "malformed"),
    "no data": ([b"type", b"t"], "malformed"),
    "no JSON": ([b"type", b"t", b"data", b'{"a":'], "malformed"),
    "type not UTF-8": ([b"type", b"\xff", b"data", b"{}"], "malformed"),
    "id not UTF-8": ([b"type", b"t", b"id", b"\xfe", b"data", b"{}"], "malformed"),
    "data not UTF-8": ([b"type", b"t", b"data", b'"\xff"'], "malformed"),
    "too deep": ([b"type", b"t", b"data", b"[" * 100 + b"]" * 100], "malformed"),
    "too large": ([b"type", b"t", b"data", b'"' + b"x" * 2000 + b'"'], "too-large"),
    "meta no object": ([b"type", b"t", b"data", b"{}", b"meta", b"[]"], "malformed"),
    "meta too large": (
        [b"type", b"t", b"data", b"{}", b"meta", b'{"a":"' + b"x" * 2000 + b'"}'],
        "too-large",
    ),
    "bad meta": (
        [b"type", b"t", b"data", b"{}", b"meta", b'{"max_retries":-1}'],
        "malformed",
    ),
    "expired": ([b"type", b"t", b"data", b"{}", b"meta", b'{"expires":1}'], "expired"),
    "odd fields": (
        [
            b"data",
            b"{",
            b"x\x00\xff",
            b"",
            b"x\x00\xff",
            b"\r\n",
            b"",
            b"no name",
            b"type",
            b"t",
        ],
        "malformed",
    ),
}

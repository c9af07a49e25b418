"""The worker of ``benchmarks.cpu_bound``: one handler that computes for some milliseconds, in one of four ways."""

from __future__ import annotations

import asyncio
import hashlib
import os

from streams import Event, Pipeline

pipeline = Pipeline.from_env()
ROUNDS = int(os.environ["BENCH_ROUNDS"])


def python() -> int:
    """Holds the interpreter."""
    total = 0
    for n in range(ROUNDS * 40):
        total += n * n % 7
    return total


def hashing() -> bytes:
    """Lets go of the interpreter, as compression, hashing, NumPy and image libraries do."""
    return hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", ROUNDS)


def threaded_python(event: Event) -> None:
    python()


def threaded_hashing(event: Event) -> None:
    hashing()


async def inline_python(event: Event) -> None:
    python()
    await asyncio.sleep(0)


async def inline_hashing(event: Event) -> None:
    hashing()
    await asyncio.sleep(0)


HANDLERS = {
    "inline python": inline_python,
    "inline hashing": inline_hashing,
    "threaded python": threaded_python,
    "threaded hashing": threaded_hashing,
}
concurrency = int(os.environ["BENCH_CONCURRENCY"])
pipeline.handler("cpu", group="g", concurrency=concurrency)(
    HANDLERS[os.environ["BENCH_HANDLER"]]
)

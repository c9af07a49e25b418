"""Asking a worker how it is, from another process."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import orjson

from streams.address import Address
from streams.health.judging import Check, Report

_MOST_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        ok: the worker says yes.
        report: its checks; None if nothing came that could be understood.
        says: one sentence.
        is_nobody: nothing listens there, which is how a worker that is not up yet looks.
    """

    ok: bool
    report: Report | None
    says: str
    is_nobody: bool = False


async def ask(address: Address, path: str, *, within: float = 2.0) -> Answer:
    """Ask for ``/livez`` or ``/readyz``. Never raises for an address where nobody answers: that is an answer, too.

    Args:
        address: where the worker serves its health.
        path: ``/livez`` or ``/readyz``.
        within: seconds for everything.
    """
    try:
        async with asyncio.timeout(within):
            raw = await _fetch(address.local, path)
    except TimeoutError:
        return Answer(
            ok=False, report=None, says=f"no answer from {address} within {within:g} s"
        )
    except OSError as error:
        return Answer(
            ok=False,
            report=None,
            says=f"nobody answers at {address}: {error.strerror or error}",
            is_nobody=True,
        )
    status, report = _read(raw)
    if report is None:
        return Answer(
            ok=False,
            report=None,
            says=f"what answers at {address} is no worker of this package",
        )
    ok = status == 200 and report.ok
    word = {"/livez": "alive", "/readyz": "ready"}.get(path, "good")
    if ok:
        return Answer(
            ok, report, f"{word}: {', '.join(check.name for check in report.checks)}"
        )
    says = "; ".join(f"{check.name}: {check.says}" for check in report.failed)
    return Answer(ok, report, f"not {word}: {says}")


async def read_metrics(address: Address, *, within: float = 3.0) -> bytes:
    """What a worker tells scrapers; empty where nothing is measured or nobody answers."""
    try:
        async with asyncio.timeout(within):
            raw = await _fetch(address.local, "/metrics")
    except (TimeoutError, OSError):
        return b""
    head, _, body = raw.partition(b"\r\n\r\n")
    return body if head.partition(b"\r\n")[0].split(b" ")[1:2] == [b"200"] else b""


async def _fetch(address: Address, path: str) -> bytes:
    reader, writer = await (
        asyncio.open_unix_connection(address.path)
        if address.path
        else asyncio.open_connection(address.host, address.port)
    )
    try:
        writer.write(
            f"GET {path}?verbose HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        chunks = b""
        while len(chunks) < _MOST_BYTES and (chunk := await reader.read(65_536)):
            chunks += chunk
        return chunks
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _read(raw: bytes) -> tuple[int, Report | None]:
    head, _, body = raw.partition(b"\r\n\r\n")
    words = head.partition(b"\r\n")[0].split(b" ")
    try:
        checks = orjson.loads(body)["checks"]
        return int(words[1]), Report(
            tuple(Check(str(c["name"]), bool(c["ok"]), str(c["says"])) for c in checks)
        )
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
        return 0, None

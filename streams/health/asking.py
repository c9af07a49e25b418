"""The client of a worker's health server."""

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
    """The answer of a worker, or the failure to get one.

    Attributes:
        ok: whether every check is good.
        report: the checks; None without a valid answer.
        says: one sentence.
        is_nobody: whether nothing listens there, e.g. because the worker is starting.
    """

    ok: bool
    report: Report | None
    says: str
    is_nobody: bool = False


async def ask(address: Address, path: str, *, within: float = 2.0) -> Answer:
    """Ask for ``/livez`` or ``/readyz``. A failed request is an answer, too.

    Args:
        address: the address of the worker's health server.
        path: ``/livez`` or ``/readyz``.
        within: seconds for the whole request.
    """
    try:
        async with asyncio.timeout(within):
            raw = await _fetch(address.local, path)
    except TimeoutError:
        says = f"no answer from {address} within {within:g} s"
        return Answer(ok=False, report=None, says=says)
    except OSError as error:
        says = f"nobody answers at {address}: {error.strerror or error}"
        return Answer(ok=False, report=None, says=says, is_nobody=True)

    status, report = _read(raw)
    if report is None:
        says = f"what answers at {address} is no worker of this package"
        return Answer(ok=False, report=None, says=says)

    word = {"/livez": "alive", "/readyz": "ready"}.get(path, "good")
    if status == 200 and report.ok:
        names = ", ".join(check.name for check in report.checks)
        return Answer(ok=True, report=report, says=f"{word}: {names}")

    reasons = "; ".join(f"{check.name}: {check.says}" for check in report.failed)
    return Answer(ok=False, report=report, says=f"not {word}: {reasons}")


async def read_metrics(address: Address, *, within: float = 3.0) -> bytes:
    """The metrics of a worker; empty if it has none or does not answer."""
    try:
        async with asyncio.timeout(within):
            raw = await _fetch(address.local, "/metrics")
    except (TimeoutError, OSError):
        return b""

    words, body = _parts(raw)
    return body if words[1:2] == [b"200"] else b""


async def _fetch(address: Address, path: str) -> bytes:
    if address.path:
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port)

    request = f"GET {path}?verbose HTTP/1.1\r\nHost: worker\r\nConnection: close"
    try:
        writer.write(f"{request}\r\n\r\n".encode())
        await writer.drain()
        chunks = b""
        while len(chunks) < _MOST_BYTES and (chunk := await reader.read(65_536)):
            chunks += chunk

        return chunks
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _parts(raw: bytes) -> tuple[list[bytes], bytes]:
    """The words of a response's first line, and its body."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0].split(b" "), body


def _read(raw: bytes) -> tuple[int, Report | None]:
    words, body = _parts(raw)
    try:
        status = int(words[1])
        checks = []
        for row in orjson.loads(body)["checks"]:
            checks.append(Check(str(row["name"]), bool(row["ok"]), str(row["says"])))
    except (LookupError, TypeError, ValueError):
        return 0, None

    return status, Report(tuple(checks))

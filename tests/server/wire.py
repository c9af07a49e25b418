"""The page on the wire format, taken to pieces."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
from pathlib import Path
from typing import TypeVar

import pytest

from streams import Broker, Consumer, ConsumerOptions, Event, Retry
from streams.handlers.routes import Route
from streams.middleware.base import Middleware

PAGE = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text()

COMMANDS = [
    line
    for block in re.findall(r"^```redis\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]

PUBLISHING = [line for line in COMMANDS if line.startswith("XADD ")]

BROKEN = [line for line in PUBLISHING if line.endswith("""'{"id":'""")]

T = TypeVar("T")

_alive: list[object] = []


@pytest.fixture(autouse=True)
def _keep_alive():
    """What is forgotten before the broker is closed leaves its connection to the garbage collector, with a warning."""
    yield
    _alive.clear()


def alive(thing: T) -> T:
    _alive.append(thing)
    return thing


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str, header: str) -> list[list[str]]:
    """The cells of the table in a section whose first column is called so."""
    table = section(title).partition(f"\n| {header} |")[2].partition("\n\n")[0]
    lines = table.splitlines()[2:]
    return [
        [
            cell.strip().replace(r"\|", "|")
            for cell in re.split(r"(?<!\\)\|", line)[1:-1]
        ]
        for line in lines
    ]


def quoted(cell: str) -> str:
    return re.findall(r"`([^`]+)`", cell)[0]


def words(line: str, namespace: str) -> list[str]:
    return [word.replace("streams:", f"{namespace}:", 1) for word in shlex.split(line)]


@contextlib.asynccontextmanager
async def consuming(
    broker: Broker,
    group: str = "billing",
    retry: Retry | None = None,
    error: str = "",
    middleware: tuple[Middleware, ...] = (),
):
    """A consumer of ``orders``; gives the list of events that its handler was called with."""
    handled: list[Event] = []

    async def handler(event: Event) -> None:
        handled.append(event)
        if error:
            raise ValueError(error)

    route = Route(handler, retry=retry)
    options = ConsumerOptions(concurrency=4, name=f"c-{group}", middleware=middleware)
    consumer = alive(Consumer(broker, "orders", group, route, options))
    running = asyncio.create_task(consumer.run())
    try:
        yield handled
    finally:
        consumer.stop(5.0)
        await running

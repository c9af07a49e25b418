"""A child that a handler forks is no second copy of the worker, however it leaves the handler."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from streams import Event, Producer, Retry
from streams.handlers.routes import Route
from tests.conftest import eventually
from tests.server.consuming import consuming

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


class Forking:
    """Handlers that fork with their first event, and note how the child ended."""

    def __init__(self, leave: Callable[[], Any]) -> None:
        self.leave = leave
        self.done: list[object] = []
        self.codes: list[int] = []

    def _fork(self) -> int:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(5)  # Whatever goes wrong, this test must not run twice.
        return child

    async def in_loop(self, event: Event) -> None:
        if event.data == 0:
            child = self._fork()
            if child == 0:
                if (waiting := self.leave()) is not None:
                    await waiting
                return
            self.codes.append(await asyncio.to_thread(ended, child))
        self.done.append(event.data)

    def in_thread(self, event: Event) -> None:
        if event.data == 0:
            child = self._fork()
            if child == 0:
                self.leave()
                return
            self.codes.append(ended(child))
        self.done.append(event.data)


def ended(child: int) -> int:
    """Exit code of a child, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fails() -> None:
    raise ValueError("in the child")


async def waits() -> None:
    await asyncio.get_running_loop().create_future()


async def yields() -> None:
    await _Bare()


class _Bare:
    def __await__(self):
        yield


@pytest.mark.parametrize(
    ("where", "leave", "code"),
    [
        ("in_loop", lambda: None, 0),
        ("in_loop", lambda: sys.exit(3), 3),
        ("in_loop", fails, 1),
        ("in_loop", waits, 1),
        ("in_loop", yields, 1),
        ("in_thread", lambda: None, 0),
        ("in_thread", lambda: sys.exit(3), 3),
        ("in_thread", fails, 1),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_a_child_that_leaves_its_handler_ends_and_takes_nothing_along(
    broker, where, leave, code
):
    """It shares the connections: it would write an outcome for the parent's event, and read the parent's answers."""
    forking = Forking(leave)
    handler = getattr(forking, where)
    async with consuming(
        broker, Route(handler, retry=Retry(max_retries=0))
    ) as consumer:
        await Producer(broker, "s").publish_many(range(20), type="t")
        await eventually(
            lambda: consumer.stats.done == 20, what="every event to be done"
        )
    assert forking.codes == [code]
    assert sorted(forking.done) == list(range(20))
    assert consumer.stats.lost == consumer.stats.dead == 0

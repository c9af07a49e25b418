"""The books of a run in which servers were lost: what may be missing, and what may not."""

from __future__ import annotations

import time

from streams import Broker, Producer
from tests.conftest import eventually
from tests.process.books import dead_letters, unfinished
from tests.process.live import Live
from tests.process.load import Load
from tests.process.worker_app import STREAM
from tests.topologies import Topology

UNCERTAIN = 1.0
"""Seconds before the loss of a primary in which a replica may not have had everything yet."""


class TimedLoad(Load):
    """A load that keeps when each event was acknowledged.

    Attributes:
        at: event id to the monotonic time of its receipt.
        losses: when primaries were lost.
    """

    def __init__(self, producer: Producer, pause: float = 0.004) -> None:
        super().__init__(producer, pause)
        self.at: dict[str, float] = {}
        self.losses: list[float] = []

    def acknowledged(self, ident: str) -> None:
        super().acknowledged(ident)
        self.at[ident] = time.monotonic()

    def may_lose(self, when: float) -> None:
        """A primary is lost at this time; what it acknowledged just before may be lost with it."""
        self.losses.append(when)

    def uncertain(self) -> set[str]:
        """What may be lost: acknowledged just before a primary was lost, or by it afterwards."""
        since = [(lost - UNCERTAIN, lost + 2 * UNCERTAIN) for lost in self.losses]
        return {
            ident
            for ident, at in self.at.items()
            if any(first < at < last for first, last in since)
        }


async def books(
    topology: Topology, broker: Broker, live: Live, load: Load, seconds: float = 20.0
) -> int:
    """Wait until nothing is unfinished; then nothing is missing but what may be. Returns how many are."""
    left: dict[str, int] = {}

    def empty() -> bool:
        nonlocal left
        with topology.client() as client:
            left = unfinished(client, broker.keys(STREAM))
        return not left

    try:
        await eventually(empty, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"not drained after {seconds} s: {left}") from None
    with topology.client() as client:
        dead = set(dead_letters(client, broker.keys(STREAM)))
    finished = set(live.done) | dead
    missing = load.stored - finished
    may_be = load.uncertain() if isinstance(load, TimedLoad) else set()
    assert missing <= may_be, f"lost without a reason: {sorted(missing - may_be)[:10]}"
    assert finished <= load.stored | load.unknown, (
        f"made up: {sorted(finished - load.stored - load.unknown)[:10]}"
    )
    both = set(live.done) & dead
    assert both <= may_be, f"done and dead: {sorted(both)[:10]}"
    return len(missing)

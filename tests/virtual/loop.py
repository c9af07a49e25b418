"""An event loop whose clock is virtual and whose order is drawn by lot."""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections import deque
from typing import Any


class DeadlockError(AssertionError):
    """Nothing is ready and nothing is scheduled: everybody waits for somebody else."""


class _Jump(selectors.SelectSelector):
    """Instead of waiting for the time to pass, lets it have passed."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        return self.loop.jump(timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs as fast as it can. What is ready at the same moment runs in an order that ``seed`` decides."""

    def __init__(self, seed: int) -> None:
        self.moment = 1000.0
        self._lot = random.Random(f"order {seed}")
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.moment

    def jump(self, timeout: float | None) -> list[Any]:
        """Called once per turn of the loop, before what is due is added to what is ready."""
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            mixed = list(ready)
            self._lot.shuffle(mixed)
            ready.clear()
            ready.extend(mixed)
        if timeout is None:
            waiting = "\n".join(sorted(repr(task) for task in asyncio.all_tasks(self)))
            raise DeadlockError(f"nobody can go on:\n{waiting}")
        # Each turn takes a moment: what is due in less than can be told apart would be waited for for ever.
        self.moment = max(self.moment + timeout, math.nextafter(self.moment, math.inf))
        return []

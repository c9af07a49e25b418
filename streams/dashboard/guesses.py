"""Waits after wrong passwords: by name, by address, and by browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

_MOST = 10_000
_FORGOTTEN = 60.0
"""Seconds after which one wrong password is forgotten."""
_FIRST = 2.0


class Allowance(NamedTuple):
    """How many wrong passwords one key has free, and how long it waits then.

    The wait doubles with each further one, up to ``longest`` seconds.
    """

    free: int
    longest: float


NAME = Allowance(5, 300.0)
BROWSER = Allowance(5, 300.0)
PLACE = Allowance(20, 60.0)
"""An address is often a proxy's, or that of a whole office.

So it is slowed down later, and never for long.
"""


class Key(NamedTuple):
    """A text that guesses are counted by, with its limit."""

    text: str
    limit: Allowance


class Guesses:
    """Counts wrong passwords, and forgets one a minute, so old ones keep no person out.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: dict[str, tuple[float, float]] = {}

    def wait(self, keys: Iterable[Key]) -> float:
        """Seconds until the next guess is listened to; 0.0: now."""
        return max((self._wait_of(key) for key in keys), default=0.0)

    def wrong(self, keys: Iterable[Key]) -> None:
        """Count a wrong password."""
        for key in keys:
            count = self._left(key.text) + 1.0
            self._wrong.pop(key.text, None)  # So that the latest stand last.
            self._wrong[key.text] = (count, self._clock())

        while len(self._wrong) > _MOST:
            del self._wrong[next(iter(self._wrong))]

    def forget(self, key: Key) -> None:
        """Count from 0 again: the password was right."""
        self._wrong.pop(key.text, None)

    def _left(self, text: str) -> float:
        count, at = self._wrong.get(text, (0.0, 0.0))
        return max(0.0, count - (self._clock() - at) / _FORGOTTEN)

    def _wait_of(self, key: Key) -> float:
        count, at = self._wrong.get(key.text, (0.0, 0.0))
        # By what was counted at the last guess: a wait does not shrink while it runs.
        over = int(count) - key.limit.free
        if over < 0:
            return 0.0

        span = min(key.limit.longest, _FIRST * 2.0 ** min(20, over))

        return max(0.0, at + span - self._clock())

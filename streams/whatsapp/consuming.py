"""Keeps something open for as long as a consumer runs, in a worker or a ``Harness``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from streams.middleware import Middleware, Place


class WhileConsuming(Middleware):
    """Enters a context with the first consumer, and leaves it after the last one.

    ``Pipeline.lifespans`` are not enough: a ``Harness`` enters none.

    Args:
        opens: makes the context; called again if consumers start again.
    """

    def __init__(self, opens: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        self._opens = opens
        self._places: set[Place] = set()
        self._open: AbstractAsyncContextManager[None] | None = None

    async def start(self, place: Place) -> None:
        """Enter with the first consumer."""
        self._places.add(place)

        if self._open is None:
            self._open = self._opens()
            await self._open.__aenter__()

    async def stop(self, place: Place) -> None:
        """Leave after the last one."""
        self._places.discard(place)

        if not self._places and self._open is not None:
            context, self._open = self._open, None
            await context.__aexit__(
                None,
                None,
                None,
            )

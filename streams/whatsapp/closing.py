"""Closes the connections to providers and endpoints when the last consumer of a worker has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streams.middleware import Middleware, Place


class Closing(Middleware):
    """Calls functions after the last consumer stopped; what they close is opened again when it is needed.

    Args:
        closers: called one after the other.
    """

    def __init__(self, *closers: Callable[[], Awaitable[None]]) -> None:
        self._closers = closers
        self._places: set[Place] = set()

    def start(self, place: Place) -> None:
        """One more consumer."""
        self._places.add(place)

    async def stop(self, place: Place) -> None:
        """One less."""
        self._places.discard(place)
        if not self._places:
            for close in self._closers:
                await close()

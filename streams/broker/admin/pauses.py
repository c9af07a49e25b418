"""Pause and resume scopes of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streams.broker.entries.holding import bring_back, held_by_scope
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script
from streams.broker.server.stored import pairs

_PAUSE = Script("pause")
_RESUME = Script("resume")

StoredPause = tuple[str, bytes]
"""Scope and JSON of one pause."""


class PauseStore:
    """The pauses of one stream. Consumers see a change when they next look for due retries."""

    def __init__(self, broker: Broker, keys: Keys) -> None:
        self._link = broker.control
        self._keys = keys
        self._places = (keys.paused(), keys.audit())

    async def pause(self, scope: str, by: str, reason: str) -> tuple[bool, bytes]:
        """Write a pause down; False and the older one if the scope is paused already."""
        new, value = await self._link.run(
            _PAUSE,
            self._places,
            scope,
            by,
            reason,
        )

        return bool(new), value

    async def resume(
        self, scopes: Iterable[str], by: str
    ) -> tuple[list[StoredPause], list[StoredPause]]:
        """End the pauses of these scopes, of all if none is given.

        Returns those that ended, and those that go on.
        """
        ended, others = await self._link.run(
            _RESUME,
            self._places,
            by,
            *scopes,
        )

        return stored_pauses(ended), stored_pauses(others)

    async def all(self) -> list[StoredPause]:
        """Every pause of the stream. One command."""
        return stored_pauses(await self._link.call("HGETALL", self._keys.paused()))

    async def bring_back(self, group: str, scopes: set[str]) -> int:
        """Make the entries due that wait for these scopes; returns how many."""
        return await bring_back(
            self._link, self._keys, group, lambda admission: admission.scope in scopes
        )

    async def held(self, group: str) -> dict[str, int]:
        """How many entries wait for each scope."""
        return await held_by_scope(self._link, self._keys, group)


def stored_pauses(reply: Sequence[bytes]) -> list[StoredPause]:
    """A reply to ``HGETALL`` as pairs in the order of their scopes."""
    return sorted(pairs(reply).items())

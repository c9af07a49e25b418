"""pause and resume: which scopes of a stream are held back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streams.broker.entries.holding import bring_back, held_by_scope
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Script

_PAUSE = Script("pause")
_RESUME = Script("resume")

Stored = tuple[str, bytes]
"""Scope and JSON of one pause."""


class PauseStore:
    """The pauses of one stream. The consumers learn of them when they look for due retries."""

    def __init__(self, broker: Broker, keys: Keys) -> None:
        self._link = broker.control
        self._keys = keys

    async def pause(self, scope: str, by: str, reason: str) -> tuple[bool, bytes]:
        """Write a pause down; False and the older one if the scope is paused already."""
        new, value = await self._link.call(
            *_PAUSE.command(self._places(), scope, by, reason)
        )
        return bool(new), value

    async def resume(
        self, scopes: Iterable[str], by: str
    ) -> tuple[list[Stored], list[Stored]]:
        """End the pauses of these scopes, of all if none is given; returns those ended, and those that go on."""
        ended, others = await self._link.call(
            *_RESUME.command(self._places(), by, *scopes)
        )
        return stored_pauses(ended), stored_pauses(others)

    async def all(self) -> list[Stored]:
        """Every pause of the stream. One command."""
        return stored_pauses(await self._link.call("HGETALL", self._keys.paused()))

    async def bring_back(self, group: str, scopes: set[str]) -> int:
        """Let what waits for these scopes be looked at now."""
        return await bring_back(
            self._link, self._keys, group, lambda admission: admission.scope in scopes
        )

    async def held(self, group: str) -> dict[str, int]:
        """How many entries wait for which scope."""
        return await held_by_scope(self._link, self._keys, group)

    def _places(self) -> tuple[str, str]:
        return self._keys.paused(), self._keys.audit()


def stored_pauses(reply: list[Any]) -> list[Stored]:
    """What HGETALL answers (name, value, name, value), as pairs in the order of their scopes."""
    return sorted(
        (reply[i].decode(errors="replace"), reply[i + 1])
        for i in range(0, len(reply), 2)
    )

"""replay and discard, and reading the dead letters of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.errors import GroupDropped, GroupMissing

_REPLAY = Script("replay")
_EDITED = Script("replay_edited")
_DISCARD = Script("discard")


@dataclass(slots=True)
class StoredLetter:
    """A dead letter as stored: our facts, and the entry's own fields untouched."""

    letter_id: str
    reason: str
    level: int
    entry_id: str
    at: float
    consumer: str
    record: bytes
    fields: list[bytes]
    fields_in_all: int


@dataclass(slots=True)
class LetterDeed:
    """A replay or discard, step by step: one row of the audit stream, however many steps it takes.

    Attributes:
        by: who does it.
        where: the filter, in words; '' for letters that were named.
        rate: letters per second; None: as fast as it goes.
        row: id of its row in the audit stream; '' before the first step.
    """

    by: str
    where: str = ""
    rate: float | None = None
    row: str = ""


class DeadLetterStore:
    """The dead-letter stream of one group."""

    def __init__(self, broker: Broker, keys: Keys, group: str) -> None:
        self._link = broker.control
        self._keys = keys
        self._group = group

    async def count(self) -> int:
        """How many dead letters there are."""
        return int(await self._link.call("XLEN", self._keys.dead(self._group)))

    async def page(self, after: str, most: int) -> list[StoredLetter]:
        """At most ``most`` letters with ids above ``after`` ('' for the beginning), oldest first."""
        start = f"({after}" if after else "-"
        return [
            _letter(i, f)
            for i, f in await self._link.call(
                "XRANGE", self._keys.dead(self._group), start, "+", "COUNT", most
            )
        ]

    async def back(self, before: str, most: int) -> list[StoredLetter]:
        """At most ``most`` letters with ids below ``before`` ('' for the end), newest first."""
        last = f"({before}" if before else "+"
        rows = await self._link.call(
            "XREVRANGE", self._keys.dead(self._group), last, "-", "COUNT", most
        )
        return [_letter(i, f) for i, f in rows]

    async def newest(self) -> str:
        """The id of the newest letter; '' if there is none."""
        return next((letter.letter_id for letter in await self.back("", 1)), "")

    async def get(self, letter_id: str) -> StoredLetter | None:
        """One letter by its id."""
        rows = await self._link.call(
            "XRANGE", self._keys.dead(self._group), letter_id, letter_id
        )
        return _letter(*rows[0]) if rows else None

    async def replay(
        self, letters: Sequence[StoredLetter], deed: LetterDeed
    ) -> list[str]:
        """One step of a replay; per letter ``level|entry id`` of the new entry, '' if it was gone already.

        Raises:
            GroupDropped: nothing would take them.
        """
        levels = sorted({letter.level for letter in letters})
        keys = (
            self._keys.dead(self._group),
            self._keys.audit(),
            self._keys.config(),
            *(self._keys.level(level) for level in levels),
        )
        ids = [letter.letter_id for letter in letters]
        rate = "" if deed.rate is None else f"{deed.rate:g}"
        asked = (deed.by, deed.where, rate, deed.row)
        command = _REPLAY.command(keys, self._group, *asked, len(levels), *levels, *ids)
        row, *places = await self._replayed(command)
        deed.row = row.decode()
        return [place.decode() for place in places]

    async def replay_edited(self, letter: StoredLetter, body: bytes, by: str) -> str:
        """Put one letter back with another body; ``level|entry id`` of the new entry, '' if it was gone already.

        Raises:
            GroupDropped: as ``replay``.
        """
        keys = (
            self._keys.dead(self._group),
            self._keys.audit(),
            self._keys.config(),
            self._keys.level(letter.level),
        )
        command = _EDITED.command(
            keys, self._group, by, letter.level, letter.letter_id, body
        )
        place: bytes = await self._replayed(command)
        return place.decode()

    async def _replayed(self, command: Command) -> Any:
        try:
            return await self._link.call(*command)
        except GroupMissing as error:
            raise GroupDropped(
                f"group {self._group!r} of stream {self._keys.stream!r} was dropped: nothing would take what is "
                "replayed for it, so nothing was moved. Start a worker that declares the group, then replay again; or "
                f"export the letters ('streams dead export {self._keys.stream} {self._group}') and discard them"
            ) from error

    async def discard(self, letter_ids: Sequence[str], deed: LetterDeed) -> int:
        """One step of a discard: delete letters (at most 1,000); returns how many there were."""
        keys = (self._keys.dead(self._group), self._keys.audit())
        asked = (self._group, deed.by, deed.where, deed.row)
        count, row = await self._link.call(*_DISCARD.command(keys, *asked, *letter_ids))
        deed.row = row.decode()
        return int(count)


def _letter(letter_id: bytes, stored: Sequence[bytes]) -> StoredLetter:
    own: dict[bytes, bytes] = {}
    at = 0
    while at < len(stored):
        own[stored[at]] = stored[at + 1]
        at += 2
        if stored[at - 2] == b"raw":
            break
    fields: list[Any] = list(stored[at:])
    return StoredLetter(
        letter_id=letter_id.decode(),
        reason=own.get(b"reason", b"unknown").decode(errors="replace"),
        level=int(own.get(b"level", b"0")),
        entry_id=own.get(b"entry", b"").decode(),
        at=float(own.get(b"at", b"0")),
        consumer=own.get(b"consumer", b"").decode(errors="replace"),
        record=own.get(b"record", b""),
        fields=fields,
        fields_in_all=int(own.get(b"raw", b"0").partition(b".")[0]),
    )

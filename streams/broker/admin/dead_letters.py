"""Read, replay and discard the dead letters of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streams.broker.admin.replies import after_id, before_id
from streams.broker.keys import Keys
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.broker.server.stored import pairs
from streams.errors import GroupDropped, GroupMissing

_REPLAY = Script("replay")
_EDITED = Script("replay_edited")
_DISCARD = Script("discard")


@dataclass(slots=True)
class StoredLetter:
    """A dead letter as stored.

    Attributes:
        letter_id: its id in the dead-letter stream.
        reason: why the entry died.
        level, entry_id: where the entry was.
        at: Unix time (s) of its death.
        consumer: that handled it last.
        record: its attempt record.
        fields: names and values of the entry, untouched.
    """

    letter_id: str
    reason: str
    level: int
    entry_id: str
    at: float
    consumer: str
    record: bytes
    fields: list[bytes]


@dataclass(slots=True)
class LetterAction:
    """A replay or discard, which has one row in the audit stream however many steps it takes.

    Attributes:
        by: the operator.
        where: the filter, in words; '' for dead letters that were named.
        rate: dead letters per second; None for no limit.
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
        self._dead = keys.dead(group)
        self._places = (self._dead, keys.audit(), keys.config())

    async def count(self) -> int:
        """How many dead letters there are."""
        return int(await self._link.call("XLEN", self._dead))

    async def page(self, after: str, most: int) -> list[StoredLetter]:
        """A page of dead letters with ids above ``after`` ('' for the beginning), oldest first."""
        span = (after_id(after), "+", "COUNT", most)
        rows = await self._link.call("XRANGE", self._dead, *span)

        return [_letter(*row) for row in rows]

    async def back(self, before: str, most: int) -> list[StoredLetter]:
        """A page of dead letters with ids below ``before`` ('' for the end), newest first."""
        span = (before_id(before), "-", "COUNT", most)
        rows = await self._link.call("XREVRANGE", self._dead, *span)

        return [_letter(*row) for row in rows]

    async def newest(self) -> str:
        """The id of the newest dead letter; '' if there is none."""
        return next((letter.letter_id for letter in await self.back("", 1)), "")

    async def get(self, letter_id: str) -> StoredLetter | None:
        """One dead letter by its id."""
        rows = await self._link.call(
            "XRANGE",
            self._dead,
            letter_id,
            letter_id,
        )

        return _letter(*rows[0]) if rows else None

    async def replay(
        self, letters: Sequence[StoredLetter], action: LetterAction
    ) -> list[str]:
        """One step of a replay.

        Returns ``level|entry id`` of each new entry, '' for a dead letter that was gone already.

        Raises:
            GroupDropped: no consumer would take them.
        """
        levels = sorted({letter.level for letter in letters})
        keys = (*self._places, *map(self._keys.level, levels))
        ids = [letter.letter_id for letter in letters]
        rate = "" if action.rate is None else f"{action.rate:g}"
        asked = (action.by, action.where, rate, action.row)
        command = _REPLAY.command(
            keys,
            self._group,
            *asked,
            len(levels),
            *levels,
            *ids,
        )
        row, *places = await self._replayed(command)
        action.row = row.decode()

        return [place.decode() for place in places]

    async def replay_edited(self, letter: StoredLetter, body: bytes, by: str) -> str:
        """Replay one dead letter with another body.

        Returns ``level|entry id`` of the new entry, '' if it was gone already.

        Raises:
            GroupDropped: as ``replay``.
        """
        keys = (*self._places, self._keys.level(letter.level))
        asked = (by, letter.level, letter.letter_id, body)
        command = _EDITED.command(keys, self._group, *asked)
        place: bytes = await self._replayed(command)

        return place.decode()

    async def _replayed(self, command: Command) -> Any:
        try:
            return await self._link.call(*command)
        except GroupMissing as error:
            stream, group = self._keys.stream, self._group
            raise GroupDropped(
                f"group {group!r} of stream {stream!r} was dropped: nothing would take what is"
                " replayed for it, so nothing was moved. Start a worker that declares the group,"
                " then replay again; or export the letters"
                f" ('streams dead export {stream} {group}') and discard them"
            ) from error

    async def discard(self, letter_ids: Sequence[str], action: LetterAction) -> int:
        """One step of a discard: delete dead letters, at most 1,000.

        Returns how many there were.
        """
        keys = (self._dead, self._keys.audit())
        asked = (self._group, action.by, action.where, action.row)
        count, row = await self._link.run(
            _DISCARD,
            keys,
            *asked,
            *letter_ids,
        )
        action.row = row.decode()

        return int(count)


def _letter(letter_id: bytes, stored: Sequence[bytes]) -> StoredLetter:
    # The entry's own fields follow ours, of which ``raw`` is the last.
    names = stored[::2]
    count = names.index(b"raw") + 1 if b"raw" in names else len(names)
    own = pairs(stored[: 2 * count])

    return StoredLetter(
        letter_id=letter_id.decode(),
        reason=own.get("reason", b"unknown").decode(errors="replace"),
        level=int(own.get("level", b"0")),
        entry_id=own.get("entry", b"").decode(),
        at=float(own.get("at", b"0")),
        consumer=own.get("consumer", b"").decode(errors="replace"),
        record=own.get("record", b""),
        fields=list(stored[2 * count :]),
    )

"""Delivery: an entry in the hands of a consumer, made here from whatever the server answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streams.events.event import Event
from streams.policy.limit import Limit
from streams.policy.retry import AttemptRecord

SUSPECT = b'"suspect":true'
"""In the attempt record of a suspect; the scripts look for it, too."""
_NO_KEYS: Mapping[str, str] = {}


class Delivery:
    """An entry in the hands of a consumer.

    Attributes:
        level: of its stream.
        entry_id: its entry id.
        place: both: the entry's name within its stream.
        fields: names and values, as they are stored.
        count: the server's delivery count, the token that fences it.
        record: its attempt record (JSON); empty before the first failure.
        limit_keys: its key under each limit of its handler, by the limit's name.
        slots: limits with a concurrency, with its key under each. Other entries may
            have these slots when this one has ended.
        event: the event in the fields, once they are decoded.
        probing: scope of the pause of a circuit breaker that lets it through; ''
            otherwise.
        renew_until: monotonic time after which the lease is not renewed: the handler
            outlived its timeout by far.
    """

    __slots__ = (
        "count",
        "entry_id",
        "event",
        "fields",
        "level",
        "limit_keys",
        "place",
        "probing",
        "record",
        "renew_until",
        "slots",
    )

    def __init__(
        self,
        level: int,
        entry_id: str,
        fields: Sequence[bytes],
        count: int = 1,
        record: bytes = b"",
    ) -> None:
        self.level = level
        self.entry_id = entry_id
        self.place = (level, entry_id)
        self.fields = fields
        self.count = count
        self.record = record
        self.renew_until = math.inf
        self.event: Event[Any] | None = None
        self.limit_keys: Mapping[str, str] = _NO_KEYS
        self.slots: tuple[tuple[Limit, str], ...] = ()
        self.probing = ""

    @property
    def is_suspect(self) -> bool:
        """Its next stall would be its last, so it runs alone."""
        return SUSPECT in self.record

    def history(self) -> AttemptRecord:
        """Its attempt record, read anew: a failure may be counted in what is given."""
        return AttemptRecord.from_json(self.record)


def read_new(
    level: int, entries: Iterable[tuple[bytes, Sequence[bytes] | None]]
) -> list[Delivery]:
    """Entries of one level that were never delivered before, as a read answers them.

    An entry that was deleted between being added and being read has no fields. It is
    left out.
    """
    return [
        Delivery(level, entry_id.decode(), fields)
        for entry_id, fields in entries
        if fields is not None
    ]


def read_rows(rows: Iterable[Sequence[Any]]) -> list[Delivery]:
    """Entries as the scripts answer them.

    Each row is level, entry id, delivery count, attempt record and fields.
    """
    return [
        Delivery(int(level), entry_id.decode(), fields, count, record)
        for level, entry_id, count, record, fields in rows
    ]

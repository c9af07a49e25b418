"""The decision on a fetched entry: it may start, or waits for something. Pure.

Every fetched entry gets one decision. The consumer acts on it, scripts release the
reservations of the entry by it, and ``streams why`` explains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from streams.policy.retry import UNREADABLE, AttemptRecord


class Kind(StrEnum):
    """The kind of a decision."""

    START = "start"
    """It may start now, and has acquired its share of every limit."""
    EXPIRED = "expired"
    """It has expired and becomes a dead letter."""
    PAUSED = "paused"
    """A pause by attribute defers it until the pause ends."""
    BREAKER = "breaker"
    """An open circuit breaker defers it until the next probe, or until it closes."""
    RATE = "rate"
    """The rate of a limit defers it until its start time."""
    SLOT = "slot"
    """Every slot of a limit is taken, and it waits in the queue of its key."""
    SUSPECT = "suspect"
    """It may kill workers, so that it is given back to run alone later."""
    BUSY = "busy"
    """There is no free handler, so that it is given back."""
    LOST = "lost"
    """Another consumer has it by now."""
    GONE = "gone"
    """It was deleted meanwhile."""


WAITS = frozenset({Kind.PAUSED, Kind.BREAKER, Kind.RATE, Kind.SLOT})
"""Decisions that defer an entry. A row of the admissions hash records them."""
_KEPT = {kind.value: kind for kind in (Kind.START, *WAITS)}


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision on one entry.

    Attributes:
        kind: the kind of the decision.
        by: the target of the pause, or the limit as ``name=key`` (``name`` from older
            versions), that it waits for; '' if it does not wait.
        wait: seconds from the decision to the next one; 0.0 if it does not wait, or if
            the time is not known.
        probing: the target of an open circuit breaker's pause, for a probe; else ''.
        places: the reservation under each limit, named as in ``by``: 1 is a start time, 2
            is a start time given after it missed its first one.
        slots: limits, as ``name=key``, where it may have a slot or a queue position.
    """

    kind: Kind
    by: str = ""
    wait: float = 0.0
    probing: str = ""
    places: Mapping[str, int] = field(default_factory=dict)
    slots: tuple[str, ...] = ()

    @property
    def limits(self) -> frozenset[str]:
        """The names of the limits with a reservation for it."""
        return frozenset(name.partition("=")[0] for name in self.places)

    @property
    def scope(self) -> str:
        """The target of the pause that it waits for; '' if there is none."""
        return self.by if self.kind in (Kind.PAUSED, Kind.BREAKER) else ""

    @classmethod
    def stored(
        cls,
        row: bytes | None,
        record: bytes | None = None,
        deliveries: int | None = None,
    ) -> Admission | None:
        """The latest decision on an entry, from its stored form.

        Args:
            row: its row of the admissions hash.
            record: its attempt record, where older versions stored the decision.
            deliveries: its present delivery count. A row with another count is outdated.
                None: the count is not known.
        """
        return _of_row(row, deliveries) or _of_record(record)


START = Admission(Kind.START)
EXPIRED = Admission(Kind.EXPIRED)
SUSPECT = Admission(Kind.SUSPECT)
BUSY = Admission(Kind.BUSY)


def _of_row(row: bytes | None, deliveries: int | None) -> Admission | None:
    try:
        said: Any = orjson.loads(row or b"null")
        if said is None:
            return None
        if deliveries is not None and said.get("count", deliveries) != deliveries:
            return None

        places = said.get("places") or {}
        return Admission(
            _KEPT[said["kind"]],
            str(said.get("by", "")),
            places={str(name): int(kind) for name, kind in places.items()},
            slots=tuple(map(str, said.get("slots") or ())),
        )
    except UNREADABLE:
        return None


def _of_record(record: bytes | None) -> Admission | None:
    before = AttemptRecord.from_json(record)
    if before.held:
        return Admission(Kind.PAUSED, before.held, places=before.reserved)

    if before.reserved:
        latest = next(reversed(before.reserved))
        return Admission(Kind.RATE, latest, places=before.reserved)

    return None

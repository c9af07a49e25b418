"""What is decided on an entry that was fetched: it may start, or what it waits for. Pure.

Asked once for each entry that was fetched, and read by everybody who has to do with the answer: the consumer that acts
on it, the scripts that give back what an entry has, and those who say why it waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from streams.policy.retry import AttemptRecord


class Kind(StrEnum):
    """What was decided."""

    START = "start"
    """It may start now, and has taken its part of every limit."""
    EXPIRED = "expired"
    """Its time is over: it becomes a dead letter."""
    PAUSED = "paused"
    """A pause by attribute covers it; it is put aside until that ends."""
    BREAKER = "breaker"
    """A circuit breaker is open for it; it is put aside until the next probe, or until that closes."""
    RATE = "rate"
    """The rate of a limit lets it start later; it is put aside until then."""
    SLOT = "slot"
    """Every slot of a limit is taken; it is put aside in the queue of its key."""
    SUSPECT = "suspect"
    """It may be what kills workers, and something else is in hand: it is given back, to run alone."""
    BUSY = "busy"
    """There is no handler for it: it is given back."""
    LOST = "lost"
    """Another consumer has it by now."""
    GONE = "gone"
    """It was deleted meanwhile."""


WAITS = frozenset({Kind.PAUSED, Kind.BREAKER, Kind.RATE, Kind.SLOT})
"""What an entry is put aside for, with a row that says so."""
_KEPT = {kind.value: kind for kind in (Kind.START, *WAITS)}


@dataclass(frozen=True, slots=True)
class Admission:
    """What was decided on one entry.

    Attributes:
        kind: what.
        by: the scope of the pause, or the limit as ``name=key`` (``name`` where an older version wrote it), that it
            waits for; '' for the others.
        wait: seconds from the decision until it is looked at again; 0.0 for what does not wait, and where it is not
            known.
        probing: scope of the pause of a circuit breaker that lets it through; '' otherwise.
        places: limits, named as in ``by``, to what is reserved there: 1 a place, 2 one of those who came late.
        slots: limits, as ``name=key``, where it may have a slot or stand in the queue.
    """

    kind: Kind
    by: str = ""
    wait: float = 0.0
    probing: str = ""
    places: Mapping[str, int] = field(default_factory=dict)
    slots: tuple[str, ...] = ()

    @property
    def limits(self) -> frozenset[str]:
        """Names of the limits where a place is reserved for it."""
        return frozenset(name.partition("=")[0] for name in self.places)

    @property
    def scope(self) -> str:
        """Scope of the pause that it waits for; '' if it waits for none."""
        return self.by if self.kind in (Kind.PAUSED, Kind.BREAKER) else ""

    @classmethod
    def stored(
        cls,
        row: bytes | None,
        record: bytes | None = None,
        deliveries: int | None = None,
    ) -> Admission | None:
        """What was decided on an entry last, as the server has it.

        Args:
            row: of the admissions hash.
            record: its attempt record, in which older versions wrote what it waits for.
            deliveries: its delivery count now; a row of another one is out of date. None: it is not known.
        """
        return _of_row(row, deliveries) or _of_record(record)


START = Admission(Kind.START)
EXPIRED = Admission(Kind.EXPIRED)
SUSPECT = Admission(Kind.SUSPECT)
BUSY = Admission(Kind.BUSY)


def _of_row(row: bytes | None, deliveries: int | None) -> Admission | None:
    try:
        said: Any = orjson.loads(row or b"null")
        if said is None or (
            deliveries is not None and said.get("count", deliveries) != deliveries
        ):
            return None
        places = said.get("places") or {}
        return Admission(
            _KEPT[said["kind"]],
            str(said.get("by", "")),
            places={str(name): int(kind) for name, kind in places.items()},
            slots=tuple(map(str, said.get("slots") or ())),
        )
    except (
        orjson.JSONDecodeError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
    ):
        return None


def _of_record(record: bytes | None) -> Admission | None:
    before = AttemptRecord.from_json(record)
    if before.held:
        return Admission(Kind.PAUSED, before.held, places=before.reserved)
    if before.reserved:
        return Admission(
            Kind.RATE, next(reversed(before.reserved)), places=before.reserved
        )
    return None

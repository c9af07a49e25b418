"""What publishing tells: a receipt per event, and of a call that failed what became of each of its items. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.common.hints import RECEIPT, missing


class Receipt(NamedTuple):
    """What publishing an event returned.

    Attributes:
        event_id: the event's id; of the first event, if this one is a duplicate.
        level: the level that it went to; of the first event, if this one is a duplicate.
        entry_id: its entry id; '' while it is scheduled.
        duplicate: an event with the same dedup id was stored before inside the window; this one was not.
        partition: the number of the partition that has it; 0 where the stream is not spread.
    """

    event_id: str
    level: int
    entry_id: str
    duplicate: bool = False
    partition: int = 0


# For a type checker, a name that is missing is missing. Its own body takes no condition.
if not TYPE_CHECKING:

    def _missing(_: Receipt, name: str) -> Any:
        raise missing("Receipt", name, RECEIPT)

    Receipt.__getattr__ = _missing


@dataclass(slots=True)
class BatchOutcome:
    """What became of the items of a ``publish_many`` that ended with an error; items are counted from 0.

    Attributes:
        receipts: item to receipt, of those that are surely stored.
        not_stored: items that are surely not stored: publish these again.
        unknown: items that may be stored or not: the answer was lost.
        first: the first item that this tells of. All before it are stored, and ``publish_batches`` gave their receipts.

    Of an iterator, what was not taken from it is in none of them, and still there to be taken.
    """

    receipts: dict[int, Receipt] = field(default_factory=dict)
    not_stored: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    first: int = 0

    @classmethod
    def of(
        cls, receipts: Iterable[Receipt | None], *, is_sure: bool = True
    ) -> BatchOutcome:
        """That of a request: a receipt for each item that is stored; of the others it is sure that they are not."""
        made = cls()
        for item, receipt in enumerate(receipts):
            if receipt is not None:
                made.receipts[item] = receipt
            else:
                (made.not_stored if is_sure else made.unknown).append(item)
        return made

    @property
    def stored(self) -> int:
        """How many items of the call are surely stored."""
        return self.first + len(self.receipts)

    @property
    def told(self) -> int:
        """How many items are told of."""
        return len(self.receipts) + len(self.not_stored) + len(self.unknown)

    def include(self, other: BatchOutcome, items: Sequence[int]) -> None:
        """Take over what another one says; ``items``: what its items are called here."""
        self.receipts |= {
            items[item]: receipt for item, receipt in other.receipts.items()
        }
        self.not_stored = sorted(
            [*self.not_stored, *(items[item] for item in other.not_stored)]
        )
        self.unknown = sorted([*self.unknown, *(items[item] for item in other.unknown)])

    def behind(self, count: int) -> BatchOutcome:
        """The same, with ``count`` items before it that are stored."""
        made = BatchOutcome(first=self.first + count)
        made.include(self, range(count, count + self.told + self.first))
        return made

    def complete(self, receipts: Sequence[Receipt], items: object) -> None:
        """Take over the receipts that were given before, and of a list the items that were not taken from it."""
        self.receipts = dict(enumerate(receipts[: self.first])) | self.receipts
        self.first = 0
        if isinstance(items, Sequence):
            self.extend(len(items))

    def extend(self, count: int) -> None:
        """The first ``count`` items were taken from their source, and what was not told of yet was not sent."""
        self.not_stored += range(self.first + self.told, count)

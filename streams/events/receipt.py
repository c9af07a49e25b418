"""Results of publishing: a receipt per event, and the state of a failed batch. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.common.hints import RECEIPT, missing


class Receipt(NamedTuple):
    """The result of publishing an event.

    If the event is a duplicate, its first event is described.

    Attributes:
        event_id: the event's id.
        level: the level of the event.
        entry_id: its entry id; '' while it is scheduled.
        duplicate: whether the event was not stored, because an event with the same dedup
            id was stored inside the window.
        partition: the number of its partition; 0 for a stream without partitions.
    """

    event_id: str
    level: int
    entry_id: str
    duplicate: bool = False
    partition: int = 0


# A type checker would accept every name. The body of a NamedTuple takes no condition.
if not TYPE_CHECKING:

    def _missing(_: Receipt, name: str) -> Any:
        raise missing("Receipt", name, RECEIPT)

    Receipt.__getattr__ = _missing


@dataclass(slots=True)
class BatchOutcome:
    """The state of each item of a failed ``publish_many``. Items are counted from 0.

    Items that were not taken from an iterator are in none of the lists, and can still be
    taken from it.

    Attributes:
        receipts: the receipt of each item that is stored.
        not_stored: items that are not stored: publish these again.
        unknown: items that may be stored or not, because the answer was lost.
        first: the first described item. All items before it are stored, and
            ``publish_batches`` returned their receipts.
    """

    receipts: dict[int, Receipt] = field(default_factory=dict)
    not_stored: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    first: int = 0

    @classmethod
    def of(
        cls, receipts: Iterable[Receipt | None], *, is_sure: bool = True
    ) -> BatchOutcome:
        """The outcome of a request with a receipt for each stored item.

        ``is_sure`` tells whether the other items are surely not stored.
        """
        made = cls()
        others = made.not_stored if is_sure else made.unknown
        for item, receipt in enumerate(receipts):
            if receipt is None:
                others.append(item)
            else:
                made.receipts[item] = receipt

        return made

    @property
    def stored(self) -> int:
        """The number of items of the call that are stored."""
        return self.first + len(self.receipts)

    @property
    def told(self) -> int:
        """The number of described items."""
        return len(self.receipts) + len(self.not_stored) + len(self.unknown)

    def include(self, other: BatchOutcome, items: Sequence[int]) -> None:
        """Add another outcome; ``items`` has the number here of each of its items."""
        for item, receipt in other.receipts.items():
            self.receipts[items[item]] = receipt

        for mine, others in (
            (self.not_stored, other.not_stored),
            (self.unknown, other.unknown),
        ):
            mine += [items[item] for item in others]
            mine.sort()

    def behind(self, count: int) -> BatchOutcome:
        """The same outcome behind ``count`` stored items."""
        made = BatchOutcome(first=self.first + count)
        made.include(self, range(count, count + self.told + self.first))
        return made

    def complete(self, receipts: Sequence[Receipt], items: object) -> None:
        """Add the receipts of earlier batches, and the unsent items of a sequence."""
        self.receipts = dict(enumerate(receipts[: self.first])) | self.receipts
        self.first = 0
        if isinstance(items, Sequence):
            self.extend(len(items))

    def extend(self, count: int) -> None:
        """Add the undescribed ones of the first ``count`` items as not stored."""
        self.not_stored += range(self.first + self.told, count)

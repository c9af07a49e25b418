"""Publishing JSON lines: what was stored, line by line, also when it ends half-way."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson

from streams.cli.common import remark
from streams.cli.lines import Line, LineRefused, Parser
from streams.errors import StreamsError
from streams.events.event import Event
from streams.events.receipt import BatchOutcome, Receipt
from streams.producer import Producer


@dataclass
class PublishedLines:
    """The outcome of publishing lines.

    ``resume_line``: the first one not surely stored, if publishing ended early.
    ``not_stored`` and ``unknown``: the lines that were read and are surely not stored,
    or may be stored or not. ``is_mixed``: lines behind the first of these are stored.
    """

    lines: int = 0
    published: int = 0
    duplicates: int = 0
    refused: int = 0
    in_doubt: tuple[int, int] | None = None
    resume_line: int | None = None
    not_stored: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    is_mixed: bool = False
    seconds: float = 0.0
    error: StreamsError | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        plain: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("lines", "published", "duplicates", "refused", "in_doubt")
        }
        plain |= {"resume_line": self.resume_line, "seconds": round(self.seconds, 3)}
        return plain | {
            "not_stored": ranges(self.not_stored),
            "unknown": ranges(self.unknown),
        }


@dataclass
class Publisher:
    """Publishes lines and keeps count.

    Attributes:
        producer: where to.
        parser: makes events of lines.
        strict: end at the first line that is refused.
        receipts: where one JSON line per input line is written, if anywhere.
        progress: called now and then with how many lines are through.
    """

    producer: Producer
    parser: Parser
    strict: bool = False
    receipts: BinaryIO | None = None
    progress: Callable[[int], None] = lambda lines: None
    outcome: PublishedLines = field(default_factory=PublishedLines)
    _open: deque[tuple[int, LineRefused | None]] = field(default_factory=deque)
    """Lines that the producer has not answered yet, and refused ones between them."""
    _last: int = 0

    async def publish(self, batches: Iterator[list[Line]]) -> PublishedLines:
        """Publish until the lines end, or the server or ``strict`` ends it.

        ``outcome.error`` then says why.
        """
        began = time.monotonic()
        outcome = self.outcome
        try:
            for batch in batches:
                self._last = batch[0].number - 1
                before = outcome.published + outcome.duplicates
                try:
                    # Parsed while it is sent: the producer takes from the iterator what
                    # one trip carries.
                    async for receipts in self.producer.publish_batches(
                        self._events(batch)
                    ):
                        self._stored(receipts)
                except StreamsError as error:
                    self._interrupted(
                        error, outcome.published + outcome.duplicates - before
                    )
                    break
                self._settle()
                if outcome.resume_line is not None:
                    break
        finally:
            outcome.seconds = time.monotonic() - began
            if self.receipts is not None:
                self.receipts.flush()

        return outcome

    def _events(self, batch: list[Line]) -> Iterator[Event[Any]]:
        for line in batch:
            self._last = line.number
            try:
                event = self.parser.parse(line.text)
            except LineRefused as refused:
                self._open.append((line.number, refused))
                if self.strict:
                    self.outcome.resume_line = line.number
                    return
                continue

            self._open.append((line.number, None))
            yield event

    def _stored(self, receipts: list[Receipt]) -> None:
        outcome = self.outcome
        for receipt in receipts:
            number = self._next_event()
            if receipt.duplicate:
                outcome.duplicates += 1
                self._receipt(number, "duplicate", event_id=receipt.event_id)
            else:
                outcome.published += 1
                self._receipt(number, "published", **_facts(receipt))

        if self.receipts is not None:
            self.receipts.flush()

        self.progress(outcome.lines)

    def _interrupted(self, error: StreamsError, through: int) -> None:
        """Count the events of the call that failed, and find the line to go on with."""
        outcome = self.outcome
        outcome.error = error
        told = error.outcome or BatchOutcome()
        events = [number for number, refused in self._open if refused is None]
        for at, number in enumerate(events, through):
            if at in told.receipts:
                outcome.published += 1
                outcome.is_mixed |= bool(outcome.unknown or outcome.not_stored)
                self._receipt(number, "published", **_facts(told.receipts[at]))
            elif at in told.unknown:
                outcome.unknown.append(number)
                self._receipt(number, "unknown")
            else:
                outcome.not_stored.append(number)
                self._receipt(number, "not stored")

        # Lines before the first that is not surely stored need not be read again.
        outcome.resume_line = min(
            [*outcome.unknown, *outcome.not_stored], default=self._last + 1
        )
        self._settle(outcome.resume_line)
        if outcome.unknown:
            outcome.in_doubt = (outcome.unknown[0], outcome.unknown[-1])

    def _next_event(self) -> int:
        """Take the next event's line; refused lines before it are settled with it."""
        self._settle(next(number for number, refused in self._open if refused is None))
        self.outcome.lines += 1
        return self._open.popleft()[0]

    def _settle(self, end: float = math.inf) -> None:
        """Count the lines before ``end``, and report those of them that were refused."""
        while self._open and self._open[0][0] < end:
            number, refused = self._open.popleft()
            self.outcome.lines += 1
            if refused is not None:
                self._refuse(number, refused)

    def _refuse(self, number: int, refused: LineRefused) -> None:
        self.outcome.refused += 1
        remark(f"line {number}: {refused}")
        self._receipt(number, "refused", reason=refused.reason)

    def _receipt(self, number: int, outcome: str, **facts: Any) -> None:
        if self.receipts is not None:
            self.receipts.write(
                orjson.dumps({"line": number, "outcome": outcome, **facts}) + b"\n"
            )


def _facts(receipt: Receipt) -> dict[str, Any]:
    facts = {
        "event_id": receipt.event_id,
        "level": receipt.level,
        "entry_id": receipt.entry_id,
    }

    return facts | ({"partition": receipt.partition} if receipt.partition else {})


def ranges(lines: Sequence[int]) -> list[list[int]]:
    """Ascending lines as pairs of first and last."""
    found: list[list[int]] = []
    for line in lines:
        if found and line == found[-1][1] + 1:
            found[-1][1] = line
        else:
            found.append([line, line])

    return found

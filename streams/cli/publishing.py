"""Publishing JSON lines: what was stored, line by line, also when it ends half-way."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson

from streams.cli.common import remark
from streams.cli.lines import Line, LineRefused, Parser
from streams.errors import PublishUnknown, StreamFull, StreamsError
from streams.event import Event
from streams.producer import Producer, Receipt


@dataclass
class Outcome:
    """What became of the lines. ``resume_line``: the first one not surely stored, if publishing ended early."""

    lines: int = 0
    published: int = 0
    duplicates: int = 0
    refused: int = 0
    in_doubt: tuple[int, int] | None = None
    resume_line: int | None = None
    seconds: float = 0.0
    error: StreamsError | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        plain: dict[str, Any] = {
            name: getattr(self, name) for name in ("lines", "published", "duplicates", "refused", "in_doubt")
        }
        return plain | {"resume_line": self.resume_line, "seconds": round(self.seconds, 3)}


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
    outcome: Outcome = field(default_factory=Outcome)
    _open: deque[tuple[int, LineRefused | None]] = field(default_factory=deque)
    """Lines that the producer has taken and not answered yet, and refused lines between them, in order."""
    _last: int = 0

    async def publish(self, batches: Iterator[list[Line]]) -> Outcome:
        """Publish until the lines end, or the server or ``strict`` ends it; ``outcome.error`` then says why."""
        began = time.monotonic()
        outcome = self.outcome
        try:
            for batch in batches:
                self._last = batch[0].number - 1
                before = outcome.published + outcome.duplicates
                try:
                    # Parsed while it is sent: the producer takes from the iterator what one trip carries.
                    async for receipts in self.producer.publish_batches(self._events(batch)):
                        self._stored(receipts)
                except StreamsError as error:
                    self._interrupted(error, outcome.published + outcome.duplicates - before)
                    break
                self._book_refused()
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
                facts = {"event_id": receipt.event_id, "level": receipt.level, "entry_id": receipt.entry_id}
                self._receipt(number, "published", **facts)
        if self.receipts is not None:
            self.receipts.flush()
        self.progress(outcome.lines)

    def _interrupted(self, error: StreamsError, through: int) -> None:
        """Count what is surely stored of the call that failed, and find the line to go on with."""
        outcome = self.outcome
        outcome.error = error
        sure = max(0, error.accepted - through) if isinstance(error, (StreamFull, PublishUnknown)) else 0
        for _ in range(sure):
            self._receipt(self._next_event(), "published")
            outcome.published += 1
        self._book_refused()
        events = [number for number, refused in self._open if refused is None]
        outcome.resume_line = events[0] if events else self._last + 1
        if events and isinstance(error, PublishUnknown):
            outcome.in_doubt = (events[0], events[min(len(error.event_ids), len(events)) - 1])

    def _next_event(self) -> int:
        """Take the next event's line; refused lines before it are settled with it."""
        self._book_refused()
        self.outcome.lines += 1
        return self._open.popleft()[0]

    def _book_refused(self) -> None:
        """Report and count the refused lines that no event stands before: these need not be read again."""
        while self._open and (refused := self._open[0][1]) is not None:
            number, _ = self._open.popleft()
            self.outcome.lines += 1
            self.outcome.refused += 1
            remark(f"line {number}: {refused}")
            self._receipt(number, "refused", reason=refused.reason)

    def _receipt(self, number: int, outcome: str, **facts: Any) -> None:
        if self.receipts is not None:
            self.receipts.write(orjson.dumps({"line": number, "outcome": outcome, **facts}) + b"\n")

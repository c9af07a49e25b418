"""The books: each input line against what became of it. Pure; nothing here asks the pipeline whether all went well."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class DeadEnd:
    """A dead letter, as far as the books need it. ``entry`` is ``LEVEL|ENTRY-ID``."""

    event_id: str
    entry: str
    reason: str
    error: str = ""
    attempts: int = 0


@dataclass(slots=True)
class LevelSums:
    """One level's part of the books."""

    published: int = 0
    handled: int = 0
    dead: int = 0
    retried: int = 0
    again: int = 0


@dataclass(slots=True)
class Books:
    """Where every line ended.

    Attributes:
        lines: input lines.
        refused: lines that are no event, by reason: their numbers.
        duplicates: lines whose dedup id was used before.
        published: lines that became an event.
        handled: events whose effect is in the ledger.
        dead: dead letters by reason, with the numbers of their lines.
        errors: an example error for each of these reasons.
        retried: events that took more than one attempt.
        again: events whose effect is in the ledger more than once.
        levels: the same, level by level.
        missing: lines without an end.
        ambiguous: lines with more than one end.
        strangers: events in the ledger or among the dead letters that belong to no line.
    """

    lines: int = 0
    refused: dict[str, list[int]] = field(default_factory=dict)
    duplicates: int = 0
    published: int = 0
    handled: int = 0
    dead: dict[str, list[int]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    retried: int = 0
    again: int = 0
    levels: dict[int, LevelSums] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)
    ambiguous: list[int] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    @property
    def refused_in_all(self) -> int:
        """How many lines were refused."""
        return sum(map(len, self.refused.values()))

    @property
    def dead_in_all(self) -> int:
        """How many events died."""
        return sum(map(len, self.dead.values()))

    @property
    def balanced(self) -> bool:
        """Whether every line has exactly one end."""
        return (
            not self.missing
            and not self.ambiguous
            and not self.strangers
            and self.lines == self.refused_in_all + self.duplicates + self.published
            and self.published == self.handled + self.dead_in_all
        )

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        sums = {
            level: {name: getattr(found, name) for name in LevelSums.__slots__}
            for level, found in self.levels.items()
        }
        return {
            "balanced": self.balanced,
            "lines": self.lines,
            "refused": {
                reason: len(numbers) for reason, numbers in self.refused.items()
            },
            "duplicates": self.duplicates,
            "published": self.published,
            "handled": self.handled,
            "dead": {reason: len(numbers) for reason, numbers in self.dead.items()},
            "retried": self.retried,
            "handled_more_than_once": self.again,
            "levels": sums,
            "missing_lines": self.missing,
            "ambiguous_lines": self.ambiguous,
            "strangers": self.strangers,
        }


class _Ends:
    """What the ledger and the dead letters say of one event."""

    def __init__(self) -> None:
        self.handled: Counter[str] = Counter()
        self.dead: dict[str, DeadEnd] = {}
        self.attempts = 0


def balance(
    lines: Iterable[int],
    receipts: Iterable[Mapping[str, Any]],
    ledger: Iterable[Mapping[str, Any]],
    dead: Iterable[DeadEnd],
) -> Books:
    """Find the end of every line.

    Args:
        lines: numbers of the input lines.
        receipts: what the producers wrote about each line.
        ledger: what the handlers wrote about each event.
        dead: the dead letters.
    """
    books = Books()
    ends = _read_ends(ledger, dead)
    by_line: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for receipt in receipts:
        by_line[int(receipt["line"])].append(receipt)
    events: dict[str, list[tuple[int, int]]] = defaultdict(list)
    repeats: list[tuple[int, str]] = []
    for line in lines:
        books.lines += 1
        found = by_line.pop(line, [])
        if len(found) != 1:
            (books.ambiguous if found else books.missing).append(line)
        elif found[0]["outcome"] == "refused":
            books.refused.setdefault(str(found[0].get("reason", "")), []).append(line)
        elif found[0]["outcome"] == "duplicate":
            books.duplicates += 1
            repeats.append((line, str(found[0].get("event_id", ""))))
        else:
            books.published += 1
            events[str(found[0].get("event_id", ""))].append(
                (line, int(found[0].get("level", 0)))
            )
    books.strangers += [f"line {line}" for line in by_line]
    # A line that counts as a repeat must repeat something.
    books.missing += [line for line, event_id in repeats if event_id not in events]
    for event_id, places in events.items():
        _close(books, places, ends.pop(event_id, _Ends()))
    books.strangers += list(ends)
    books.missing.sort()
    books.levels = dict(sorted(books.levels.items(), reverse=True))
    return books


def _read_ends(
    ledger: Iterable[Mapping[str, Any]], dead: Iterable[DeadEnd]
) -> dict[str, _Ends]:
    ends: dict[str, _Ends] = defaultdict(_Ends)
    for row in ledger:
        end = ends[str(row["event_id"])]
        end.handled[str(row["entry"])] += 1
        end.attempts = max(end.attempts, int(row["attempt"]))
    for letter in dead:
        ends[letter.event_id].dead[letter.entry] = letter
    return ends


def _close(books: Books, places: list[tuple[int, int]], end: _Ends) -> None:
    """Book the ends of one event id; ``places`` are the lines that published it, usually one, and their levels."""
    both = end.handled.keys() & end.dead.keys()
    entries = [*end.handled, *(entry for entry in end.dead if entry not in both)]
    if both or len(entries) > len(places):
        books.ambiguous += [line for line, _ in places]
    for at, (line, level) in enumerate(places):
        sums = books.levels.setdefault(level, LevelSums())
        sums.published += 1
        if at >= len(entries):
            books.missing.append(line)
        elif entries[at] in end.handled:
            retried, again = end.attempts > 1, end.handled[entries[at]] > 1
            _add(books, sums, handled=1, retried=int(retried), again=int(again))
        else:
            letter = end.dead[entries[at]]
            books.dead.setdefault(letter.reason, []).append(line)
            books.errors.setdefault(letter.reason, letter.error)
            sums.dead += 1
            _add(books, sums, handled=0, retried=int(letter.attempts > 1), again=0)


def _add(
    books: Books, sums: LevelSums, *, handled: int, retried: int, again: int
) -> None:
    for target in (books, sums):
        target.handled += handled
        target.retried += retried
        target.again += again

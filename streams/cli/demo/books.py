"""The books: the end of each input line, by what producers and handlers wrote. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Row = Mapping[str, Any]
Kind = Literal["handled", "dead", "duplicate", "refused", "missing", "ambiguous"]


@dataclass(frozen=True, slots=True)
class DeadEnd:
    """A dead letter, as far as the books need it. ``entry`` is ``LEVEL|ENTRY-ID``."""

    event_id: str
    entry: str
    reason: str
    error: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEnd:
    """The end of one line.

    Attributes:
        line: its number.
        kind: ``missing`` is a line without an end, ``ambiguous`` one with several.
        level: of its event; None where the line became none.
        reason: why the line was refused, or why its event died.
        error: the latest error of an event that died.
        retried: the event took more than one attempt.
        again: its effect is in the ledger more than once.
    """

    line: int
    kind: Kind
    level: int | None = None
    reason: str = ""
    error: str = ""
    retried: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Sums:
    """Counts of events."""

    published: int
    handled: int
    dead: int
    retried: int
    again: int


@dataclass(frozen=True, slots=True)
class Books:
    """The end of every line.

    Attributes:
        ends: one for each input line.
        strangers: receipts and events that belong to no line.
    """

    ends: Sequence[LineEnd]
    strangers: Sequence[str]

    @property
    def balanced(self) -> bool:
        """Whether every line has exactly one end."""
        return not (self.strangers or self.lines("missing") or self.lines("ambiguous"))

    def lines(self, kind: Kind) -> list[int]:
        """The numbers of the lines that ended in this way."""
        return sorted(end.line for end in self.ends if end.kind == kind)

    def by_reason(self, kind: Kind) -> dict[str, list[LineEnd]]:
        """The ends of one kind by their reasons, the most frequent first."""
        found: dict[str, list[LineEnd]] = defaultdict(list)
        for end in self.ends:
            if end.kind == kind:
                found[end.reason].append(end)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))

    def sums(self, level: int | None = None) -> Sums:
        """The sums of one level, or of all."""
        events = [
            end
            for end in self.ends
            if end.level is not None and level in (None, end.level)
        ]
        kinds = Counter(end.kind for end in events)
        return Sums(
            published=len(events),
            handled=kinds["handled"],
            dead=kinds["dead"],
            retried=sum(end.retried for end in events),
            again=sum(end.again for end in events),
        )

    @property
    def levels(self) -> dict[int, Sums]:
        """The sums of each level, the highest first."""
        found = {end.level for end in self.ends if end.level is not None}
        return {level: self.sums(level) for level in sorted(found, reverse=True)}

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        sums = self.sums()
        counts = {
            kind: {reason: len(ends) for reason, ends in self.by_reason(kind).items()}
            for kind in ("refused", "dead")
        }
        return {
            "balanced": self.balanced,
            "lines": len(self.ends),
            "refused": counts["refused"],
            "duplicates": len(self.lines("duplicate")),
            "published": sums.published,
            "handled": sums.handled,
            "dead": counts["dead"],
            "retried": sums.retried,
            "handled_more_than_once": sums.again,
            "levels": {level: asdict(found) for level, found in self.levels.items()},
            "missing_lines": self.lines("missing"),
            "ambiguous_lines": self.lines("ambiguous"),
            "strangers": self.strangers,
        }


@dataclass(slots=True)
class _Fate:
    """The fate of one entry, by the ledger and the dead letters."""

    handled: int = 0
    attempts: int = 0
    reason: str = ""
    error: str = ""


def balance(
    lines: Iterable[int],
    receipts: Iterable[Row],
    ledger: Iterable[Row],
    dead: Iterable[DeadEnd],
) -> Books:
    """Find the end of every line.

    Args:
        lines: numbers of the input lines.
        receipts: the producers' rows, one for each line.
        ledger: the handlers' rows, one for each attempt that succeeded.
        dead: the dead letters.
    """
    by_line: dict[int, list[Row]] = defaultdict(list)
    for receipt in receipts:
        by_line[receipt["line"]].append(receipt)

    ends: list[LineEnd] = []
    by_event: dict[str, list[Row]] = defaultdict(list)
    for line in lines:
        found = by_line.pop(line, [])
        if len(found) != 1:
            ends.append(LineEnd(line=line, kind="ambiguous" if found else "missing"))
        elif found[0]["outcome"] == "refused":
            ends.append(LineEnd(line=line, kind="refused", reason=found[0]["reason"]))
        else:
            by_event[found[0].get("event_id", "")].append(found[0])

    fates = _fates(ledger, dead)
    for event_id, rows in by_event.items():
        ends += _ends(rows, list(fates.pop(event_id, {}).values()))
    return Books(ends, [*(f"line {line}" for line in by_line), *fates])


def _fates(
    ledger: Iterable[Row], dead: Iterable[DeadEnd]
) -> dict[str, dict[str, _Fate]]:
    """The fate of each entry, by the id of its event."""
    fates: dict[str, dict[str, _Fate]] = defaultdict(lambda: defaultdict(_Fate))
    for row in ledger:
        fate = fates[row["event_id"]][row["entry"]]
        fate.handled += 1
        fate.attempts = max(fate.attempts, row["attempt"])
    for letter in dead:
        fate = fates[letter.event_id][letter.entry]
        fate.reason, fate.error = letter.reason, letter.error
        fate.attempts = letter.attempts
    return fates


def _ends(rows: Sequence[Row], fates: list[_Fate]) -> Iterator[LineEnd]:
    """The ends of the lines with one event id: mostly one line with one entry."""
    events = [row for row in rows if row["outcome"] != "duplicate"]
    is_ambiguous = len(fates) > len(events) or any(
        fate.handled and fate.reason for fate in fates
    )
    fates += [_Fate()] * len(events)
    for row, fate in zip(events, fates, strict=False):
        yield LineEnd(
            line=row["line"],
            kind="ambiguous" if is_ambiguous else _kind(fate),
            level=row.get("level", 0),
            reason=fate.reason,
            error=fate.error,
            retried=fate.attempts > 1,
            again=fate.handled > 1,
        )

    # A line that counts as a repeat must repeat something.
    kind: Kind = "duplicate" if events else "missing"
    for row in rows:
        if row["outcome"] == "duplicate":
            yield LineEnd(line=row["line"], kind=kind)


def _kind(fate: _Fate) -> Kind:
    if fate.handled:
        return "handled"
    return "dead" if fate.reason else "missing"

"""A reason for which an event waits: what it is judged from, and its words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from streams.broker.admin.inspect import FoundEntry
from streams.broker.admin.wait_facts import MOST_COUNTED, GroupState, Wait
from streams.broker.admin.workers import WorkerFacts
from streams.common.masking import one_line
from streams.policy.admission import Admission
from streams.policy.retry import AttemptRecord

PATIENCE = 5.0
"""Seconds for which an event that could run may wait without anything being wrong."""
STATES = (
    "scheduled",
    "retry",
    "snoozed",
    "turn",
    "paused",
    "limit",
    "rate",
    "throttled",
    "key-held",
    "key-busy",
    "no-worker",
    "level-unserved",
    "suspect",
    "isolated",
    "busy",
    "running",
    "reserved",
    "starting",
    "lost-lease",
    "unreadable",
    "orphaned",
    "done",
    "dead",
    "unknown",
    "none",
)
"""Every state there is; the page docs/why.md explains each."""
_LONGEST_ID = 500


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one event waits in one group.

    Attributes:
        state: a stable word, one of ``STATES``. ``none``: nothing holds it, and still
            it waits.
        sentence: the same in plain English; keys, tenants and what people wrote are
            masked.
        stream, group: names; the group is '' for a scheduled event, and where there is
            none yet.
        level, entry_id: where it is.
        event_id: its id; '' where it cannot be read.
        facts: until, since (Unix seconds), behind, by, holders, worker, and so on, by
            the state; masked as well.
        because: why the event waits that this one waits for; None for the others.
    """

    state: str
    sentence: str
    stream: str = ""
    group: str = ""
    level: int | None = None
    entry_id: str = ""
    event_id: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    because: Reason | None = None

    def as_plain(self) -> dict[str, Any]:
        """The reason as plain JSON types."""
        names = (
            "state",
            "sentence",
            "stream",
            "group",
            "level",
            "entry_id",
            "event_id",
        )
        plain: dict[str, Any] = {name: getattr(self, name) for name in names}
        plain["facts"] = dict(self.facts)
        plain["because"] = self.because.as_plain() if self.because else None
        return plain


@dataclass(frozen=True, slots=True)
class Case:
    """One entry in one group, with all that is known.

    Attributes:
        scene: of the group.
        wait: of the entry.
        patience: seconds from which on it is a defect that it waits for nothing.
        namespace: first part of every key, for commands to repair.
    """

    scene: GroupState
    wait: Wait
    patience: float = PATIENCE
    namespace: str = "streams"

    @property
    def found(self) -> FoundEntry:
        """Where it stands."""
        return self.wait.found

    @property
    def record(self) -> AttemptRecord:
        """Its attempts so far."""
        return AttemptRecord.from_json(self.found.record)

    @property
    def admission(self) -> Admission | None:
        """What the last admission decided that the event waits for.

        None if nothing is kept of that.
        """
        return self.found.admission

    @property
    def is_due(self) -> bool:
        """Its time has come, or it has none."""
        return self.found.due is None or self.found.due <= self.scene.now

    @property
    def serving(self) -> list[WorkerFacts]:
        """The living workers that read its level."""
        return [
            worker
            for worker in self.scene.workers
            if worker.is_alive and self.found.level in worker.levels
        ]


def event_id(found: FoundEntry) -> str:
    """The id of what was found; '' where it has none that can be read."""
    named = dict(zip(found.fields[::2], found.fields[1::2], strict=False))
    return named.get(b"id", b"").decode("utf-8", "replace")


def ident(text: str) -> str:
    """An id as it may be shown: as it is, in one printable line."""
    return one_line(text, _LONGEST_ID)


def since_when(found: FoundEntry) -> float:
    """Since when it could run: its due time, or when it was published."""
    if found.due is not None:
        return found.due
    milliseconds = found.entry_id.partition("-")[0]
    return int(milliseconds) / 1000 if milliseconds.isdigit() else 0.0


def moment(at: float) -> str:
    """A Unix time, to the second."""
    try:
        return (
            datetime.fromtimestamp(at, UTC)
            .isoformat(timespec="seconds")
            .replace("+00:00", "Z")
        )
    except (OverflowError, OSError, ValueError):
        return "a time that cannot be told"


def span(seconds: float) -> str:
    """Seconds, as a person says them."""
    whole = max(0.0, seconds)
    if whole < 10:
        return f"{whole:.1f} s"
    return f"{whole:.0f} s" if whole < 120 else f"{whole / 60:.0f} min"


def most(number: int) -> str:
    """A number that was counted up to a bound."""
    return f"{number} or more" if number >= MOST_COUNTED else str(number)

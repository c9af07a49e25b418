"""A reason for which an event waits: what it is judged from, and its words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from string import Formatter
from typing import Any

from streams.broker.admin.inspect import FoundEntry
from streams.broker.admin.wait_facts import MOST_COUNTED, GroupState, Wait
from streams.broker.admin.workers import WorkerFacts
from streams.broker.server.stored import texts, whole
from streams.common.masking import one_line
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
        sentence: the same in plain English; keys, tenants and texts of people are
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
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Case:
    """One entry in one group, with all that is known.

    Attributes:
        scene: of the group.
        wait: of the entry.
        patience: seconds from which on it is a defect that it waits for nothing.
    """

    scene: GroupState
    wait: Wait
    patience: float = PATIENCE

    def say(
        self,
        state: str,
        sentence: str,
        words: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> Reason:
        """The reason of this entry.

        Args:
            state: one of ``STATES``.
            sentence: a template: ``{since:moment}`` stands for a fact or a word.
            words: values of the sentence beside the facts.
            facts: of the reason.
        """
        found, scene = self.found, self.scene
        values = {
            "stream": scene.stream,
            "group": scene.group,
            **facts,
            **(words or {}),
        }

        return Reason(
            state,
            _WORDS.vformat(sentence, (), values),
            stream=scene.stream,
            group=scene.group,
            level=found.level,
            entry_id=found.entry_id,
            event_id=ident(event_id(found)),
            facts=facts,
        )

    @property
    def found(self) -> FoundEntry:
        """Where it stands."""
        return self.wait.found

    @property
    def record(self) -> AttemptRecord:
        """Its attempts so far."""
        return AttemptRecord.from_json(self.found.record)

    @property
    def is_due(self) -> bool:
        """Its time has come, or it has none."""
        return self.found.due is None or self.found.due <= self.scene.now

    @property
    def since(self) -> float:
        """Unix seconds from which on it could run: its due time, or when it was published."""
        if self.found.due is not None:
            return self.found.due

        return whole(self.found.entry_id.partition("-")[0]) / 1000

    @property
    def holder(self) -> WorkerFacts | None:
        """The worker that it is with."""
        workers = self.scene.workers

        return next((one for one in workers if one.name == self.found.consumer), None)

    @property
    def alive(self) -> list[WorkerFacts]:
        """The living workers of the group."""
        return [worker for worker in self.scene.workers if worker.is_alive]

    @property
    def serving(self) -> list[WorkerFacts]:
        """The living workers that read its level."""
        return [worker for worker in self.alive if self.found.level in worker.levels]

    @property
    def is_full(self) -> bool:
        """No worker that reads its level can start anything."""
        return bool(self.serving) and all(worker.is_full for worker in self.serving)


class _Words(Formatter):
    """Fills sentences in; behind the colon stands how a value is said."""

    def format_field(self, value: Any, format_spec: str) -> str:
        """A value in words."""
        return _FORMS[format_spec](value)


def event_id(found: FoundEntry) -> str:
    """The id of what was found; '' where it has none that can be read."""
    return texts(found.fields).get("id", "")


def ident(text: str) -> str:
    """An id as it may be shown: as it is, in one printable line."""
    return one_line(text, _LONGEST_ID)


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


_FORMS: Mapping[str, Callable[[Any], str]] = {
    "": str,
    "moment": moment,
    "span": span,
    "most": most,
}
_WORDS = _Words()

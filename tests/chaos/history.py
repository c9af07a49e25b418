"""What happened in a run: what was published, what handlers did, what was broken when; and the judge of it."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MAX_RETRIES = 3
SECOND = 1_000_000_000
TAIL, SOON = SECOND, SECOND // 5
"""Before the loss of a primary: what it may not have replicated. After it: receipts that were on their way."""


@dataclass(slots=True)
class Fault:
    """Something that was broken, from when to when (monotonic ns), and what that excuses.

    Attributes:
        loses: acknowledged events may be lost with it: replication is asynchronous.
        repeats: handlers may run twice for it: a worker, its leases or its acknowledgements were lost.
    """

    kind: str
    began: int
    ended: int = 0
    loses: bool = False
    repeats: bool = True

    def covers(self, first: int, last: int, slack: int = 3 * SECOND) -> bool:
        """Whether it may have had to do with something between these times."""
        return (
            self.began - SECOND <= last and first <= (self.ended or self.began) + slack
        )


@dataclass(slots=True)
class Run:
    """One handling of an event: its start, and its end if there was one."""

    event: str
    entry: str
    pid: int
    began: int
    attempt: int
    ended: int = 0
    how: str = ""


@dataclass(slots=True)
class History:
    """Everything that is known of a run.

    Attributes:
        acknowledged: event id to when its receipt came.
        unknown: events whose answer was lost.
        dead: event id to why it died.
        left: what the server kept at the end.
        missed: what workers said that the server had lost.
        seconds_to_drain: from the end of the faults until nothing was unfinished.
    """

    acknowledged: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    faults: list[Fault] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    dead: dict[str, str] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    missed: dict[str, str] = field(default_factory=dict)
    seconds_to_drain: float = 0.0
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))

    def read(self, lines: Iterable[dict[str, Any]]) -> None:
        """Take over what the handlers wrote down."""
        self.lines = sorted(lines, key=lambda line: line["at"])
        open_runs: dict[tuple[int, str, int], Run] = {}
        for line in self.lines:
            if line["what"] == "start":
                run = Run(
                    line["event"],
                    line["entry"],
                    line["pid"],
                    line["at"],
                    line["attempt"],
                )
                self.runs[run.event].append(run)
                open_runs[run.pid, run.event, run.attempt] = run
            elif line["what"] == "end":
                run = open_runs.pop((line["pid"], line["event"], line["attempt"]))
                run.ended, run.how = line["at"], line["how"]

    @property
    def done(self) -> dict[str, int]:
        """How often each event's handler came to its good end."""
        counts = {
            event: sum(run.how == "ok" for run in runs)
            for event, runs in self.runs.items()
        }
        return {event: count for event, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and for which event."""

    invariant: str
    event: str
    what: str


class Judge:
    """Holds a history against the invariants. Each method is one of them; its docstring says which.

    Args:
        history: a run that has ended and drained.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._faults = sorted(history.faults, key=lambda fault: fault.began)

    def violations(self) -> list[Violation]:
        """Whatever does not hold."""
        rules = (
            self._lost,
            self._made_up,
            self._both,
            self._left,
            self._too_often,
            self._twice,
            self._overlap,
            self._alarm,
        )
        return [found for rule in rules for found in rule()]

    def _excuse(self, first: int, last: int, what: str) -> bool:
        return any(
            getattr(fault, what) and fault.covers(first, last) for fault in self._faults
        )

    def _lost(self) -> Iterable[Violation]:
        """Every acknowledged event is done or dead, but for the tail that a lost primary had not replicated."""
        finished = self._history.done.keys() | self._history.dead.keys()
        for event, at in self._history.acknowledged.items():
            if event not in finished and not any(
                f.loses and -TAIL < at - f.began < SOON for f in self._faults
            ):
                yield Violation(
                    "nothing is lost", event, "acknowledged, and neither done nor dead"
                )

    def _made_up(self) -> Iterable[Violation]:
        """Nothing is handled that was not published."""
        for event in (
            self._history.runs.keys()
            - self._history.acknowledged.keys()
            - self._history.unknown.keys()
        ):
            yield Violation(
                "nothing is made up",
                event,
                "handled, and neither acknowledged nor in doubt",
            )

    def _both(self) -> Iterable[Violation]:
        """No event is done and dead, unless a worker was lost between its work and its acknowledgement."""
        for event in self._history.done.keys() & self._history.dead.keys():
            runs = self._history.runs[event]
            if not self._excuse(
                runs[0].began, max(run.ended for run in runs), "repeats"
            ):
                yield Violation(
                    "one end", event, f"done, and dead: {self._history.dead[event]}"
                )

    def _left(self) -> Iterable[Violation]:
        """After the faults, everything drains, and nothing is left of what is finished."""
        if self._history.left:
            yield Violation("everything drains", "", str(self._history.left))

    def _alarm(self) -> Iterable[Violation]:
        """Nothing is called lost while no server was lost that may have had more than the others."""
        if self._history.missed and not any(fault.loses for fault in self._faults):
            yield Violation("no false alarm", "", str(self._history.missed))

    def _too_often(self) -> Iterable[Violation]:
        """Attempts are at most max_retries and one, plus one for each that was interrupted or snoozed."""
        for event, runs in self._history.runs.items():
            free = sum(run.how in ("", "cancelled") for run in runs)
            first, last = runs[0].began, runs[-1].began
            if len(runs) > MAX_RETRIES + 1 + free + 1 and not self._excuse(
                first, last, "repeats"
            ):
                yield Violation(
                    "attempts are bounded",
                    event,
                    f"{len(runs)} starts, {free} of them interrupted",
                )

    def _twice(self) -> Iterable[Violation]:
        """Nothing is done twice without a fault that explains it."""
        for event, count in self._history.done.items():
            runs = [run for run in self._history.runs[event] if run.how == "ok"]
            if count > 1 and not self._excuse(runs[0].ended, runs[-1].ended, "repeats"):
                yield Violation(
                    "once, unless something broke", event, f"done {count} times"
                )

    def _overlap(self) -> Iterable[Violation]:
        """No two handlers have an entry at the same time, while its lease is kept."""
        for event, runs in self._history.runs.items():
            ends = [run for run in runs if run.ended]
            for one, other in itertools.pairwise(ends):
                same = one.entry == other.entry and other.began < one.ended
                if same and not self._excuse(one.began, other.ended, "repeats"):
                    yield Violation(
                        "one handler at a time",
                        event,
                        f"{one.pid} and {other.pid} at once",
                    )


def slice_of(history: History, violation: Violation) -> list[str]:
    """The shortest story that shows it: what happened to the event, and what was broken meanwhile; a line each."""
    story: list[tuple[int, str]] = []
    event = violation.event
    if event in history.acknowledged:
        story.append((history.acknowledged[event], f"published {event}"))
    if event in history.unknown:
        story.append((history.unknown[event], f"published {event}, answer lost"))
    for run in history.runs.get(event, []):
        story.append(
            (
                run.began,
                f"start of attempt {run.attempt} of {run.entry} in process {run.pid}",
            )
        )
        if run.ended:
            story.append(
                (
                    run.ended,
                    f"end of attempt {run.attempt} in process {run.pid}: {run.how}",
                )
            )
    story.sort()
    first, last = (story[0][0], story[-1][0]) if story else (0, 1 << 62)
    for fault in history.faults:
        if fault.covers(first, last):
            bisect.insort(story, (fault.began, f"fault begins: {fault.kind}"))
            bisect.insort(
                story, (fault.ended or fault.began, f"fault ends: {fault.kind}")
            )
    zero = story[0][0] if story else 0
    return [f"{(at - zero) / SECOND:+9.3f} s  {what}" for at, what in story]

"""The books of one run: what was published, what runs, what became of it, and what must never be."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streams import Event, Reject, Snooze, Throttle, Unavailable
from tests.composition.declared import WINDOW, Declared, Group

Where = tuple[str, str]
"""Group and event id."""


@dataclass
class Fact:
    """One event that was accepted; ``do`` is what its handler does, attempt by attempt."""

    do: tuple[str, ...]
    attributes: dict[str, Any]
    groups: frozenset[str]


@dataclass
class Running:
    """One handler that has not ended."""

    where: Where
    worker: str
    event: Event[Any]
    rules: Group
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    parked: bool = False


class Books:
    """``wrong`` is what must never be; ``seen`` counts what was reached."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self.running: dict[int, Running] = {}
        self.starts: list[Where] = []
        self.started: Counter[Where] = Counter()
        self.burnt: Counter[Where] = Counter()
        self.done: set[Where] = set()
        self.gone: set[Where] = set()
        """Cancelled, erased, discarded, or of a group that was given up."""
        self.replayed: set[Where] = set()
        self.paused: list[tuple[dict[str, Any], set[str]]] = []
        """What operators paused, and the workers that have looked since."""
        self.orders: dict[str, set[str | None]] = defaultdict(set)
        self.most_retries: Counter[str] = Counter()
        self.limited: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        """Group to the limits that it was declared with."""
        self.concurrency: dict[tuple[str, str], int] = {}
        """Group and limit to the most that any declaration of this run allows."""
        self.stalled: set[Where] = set()
        """Those that were with a worker when that was killed."""
        self.alone: set[Where] = set()
        """Those of which one attempt began while nothing else of its worker ran."""
        self.accepted: dict[tuple[int, str], float] = {}
        """Partition and dedup id to when it was used, by the clock of the run."""
        self.dedupes = False
        self.copies: Counter[str] = Counter()
        """How often an event id was published again."""
        self.done_at: dict[Where, float] = {}
        self.now: Callable[[], float] = float
        """How far the run has travelled."""
        self.crashed: set[str] = set()
        self.dead: set[str] = set()
        self.erased: set[Where] = set()
        self.breaks = False
        """A breaker is declared: what fails while it is open burns no attempt."""
        self.wrong: list[str] = []
        self.seen: Counter[str] = Counter()
        self.story: list[str] = []

    def tell(self, *facts: object) -> None:
        self.story.append(" ".join(map(str, facts)))

    def declare(self, declared: Declared) -> None:
        self.seen.update(declared.features())
        self.breaks |= declared.breaker
        self.dedupes |= declared.dedupe
        for name, group in declared.groups.items():
            self.orders[name].add(group.order_by)
            self.most_retries[name] = max(self.most_retries[name], group.max_retries)
            self.limited[name].add(tuple(limit.name for limit in group.limits))
            for limit in group.limits:
                if limit.concurrency:
                    place = (name, limit.name)
                    self.concurrency[place] = max(
                        self.concurrency.get(place, 0), limit.concurrency
                    )

    def handler(self, worker: str, declared: Declared) -> Any:
        """Makes the handlers of one worker."""

        def of_group(group: str) -> Any:
            async def handle(event: Event[Any]) -> None:
                await self._run(
                    Running((group, event.id), worker, event, declared.groups[group])
                )

            return handle

        return of_group

    def deduped(self, place: tuple[int, str], is_duplicate: bool) -> None:
        """A dedup id is accepted once within its window."""
        since = self.now() - self.accepted.get(place, float("-inf"))
        if is_duplicate and since > WINDOW + 10:
            self.wrong.append(
                f"{place} is a duplicate of what was used {since:.0f} s ago, and may be forgotten"
            )
        if not is_duplicate and since < WINDOW - 10:
            self.wrong.append(
                f"{place} was accepted twice, the first time {since:.0f} s ago"
            )
        if not is_duplicate:
            self.accepted[place] = self.now()

    def looks(self, worker: str) -> None:
        """A worker begins to look: from now on it knows of every pause."""
        for _, known in self.paused:
            known.add(worker)

    def parked(self, worker: str, stream: str, group: str) -> int:
        """How many handlers of a consumer wait for the run to let them go on."""
        place = (worker, stream, group)
        return sum(
            run.parked and (run.worker, run.event.stream, run.where[0]) == place
            for run in self.running.values()
        )

    def killed(self, worker: str, held: set[Where]) -> None:
        """What a worker has stalls, also if it had ended and that was not written; what ran burns an attempt."""
        self.burnt.update(
            run.where for run in self.running.values() if run.worker == worker
        )
        self.stalled |= held

    async def _run(self, run: Running) -> None:
        if run.worker in self.crashed:
            await asyncio.Event().wait()  # Its process is dead.
        fact = self.facts[run.where[1]]
        what = fact.do[min(self.started[run.where], len(fact.do) - 1)]
        self._begin(run, what)
        try:
            await self._do(run, what)
            self.done.add(run.where)
            self.done_at[run.where] = self.now()
        except (ValueError, Reject):
            self.burnt[run.where] += 1
            raise
        # What a breaker takes as its sign burns an attempt, or none: that is not counted here.
        finally:
            del self.running[id(run)]

    def _begin(self, run: Running, what: str) -> None:
        group, _ = run.where
        self.tell(
            "   ", run.worker, "starts", *run.where, what, f"level={run.event.priority}"
        )
        self.seen[f"do-{what}"] += 1
        for other in self.running.values():
            if other.where == run.where:
                self.wrong.append(
                    f"{run.where} runs twice at once: {other.worker} and {run.worker}"
                )
            elif other.where[0] == group and self._same_order(run, other):
                self.wrong.append(
                    f"{run.where} starts beside {other.where} of its order key"
                )
        self._check_once(run)
        facts = {"group": group, "level": run.event.priority} | run.event.meta
        for scope, known in self.paused:
            if run.worker in known and all(
                facts.get(name) == value for name, value in scope.items()
            ):
                self.wrong.append(f"{run.where} starts, and {scope} is paused")
        if all(other.worker != run.worker for other in self.running.values()):
            self.alone.add(run.where)
        self.running[id(run)] = run
        self.starts.append(run.where)
        self.started[run.where] += 1
        self._check_limits(group)

    def _check_once(self, run: Running) -> None:
        """An event id that was handled is not handled again, unless its worker was killed before that was written."""
        if (
            not self.dedupes
            or run.where not in self.done_at
            or run.where in self.stalled
        ):
            return
        if self.now() - self.done_at[run.where] < WINDOW - 10:
            self.wrong.append(f"{run.where} was handled, and is handled again")

    def _same_order(self, run: Running, other: Running) -> bool:
        by = run.rules.order_by
        # An order that changes between deploys is kept by each of the two alone.
        if by is None or self.orders[run.where[0]] != {by}:
            return False
        key = getattr(run.event, by)
        return bool(key) and key == getattr(other.event, by)

    def _check_limits(self, group: str) -> None:
        for (name, limit), most in self.concurrency.items():
            if name != group:
                continue
            under = [
                run
                for run in self.running.values()
                if run.where[0] == name and _has(run.rules, limit)
            ]
            # Who runs on after it was erased has no slot any more: it is cancelled when its lease is renewed.
            under = [
                run
                for run in under
                if run.event.tenant and run.where not in self.erased
            ]
            for tenant, count in Counter(run.event.tenant for run in under).items():
                if count > most:
                    self.wrong.append(
                        f"{count} of {tenant} run in {group}, and {limit} allows {most}"
                    )

    async def _do(self, run: Running, what: str) -> None:
        match what:
            case "fail":
                raise ValueError("no")
            case "reject":
                raise Reject("never")
            case "snooze":
                raise Snooze(10)
            case "unavailable":
                raise Unavailable
            case "throttle" if run.rules.limits:
                raise Throttle(run.rules.limits[0].name, 15.0)
            case "slow" | "crash":
                run.parked = True
                if what == "crash":
                    self.crashed.add(run.worker)
                await run.go_on.wait()
            case _:
                await asyncio.sleep(0)


def _has(rules: Group, limit: str) -> bool:
    return any(known.name == limit for known in rules.limits)

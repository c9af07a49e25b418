"""A model of one stream with one group on the server, as the scripts treat it. ``test_conformance`` holds it to them.

Every method is one script or command: it runs to its end with nothing in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import DueReply
from streams.broker.entries.settle import DONE, LOST, VANISHED, Buried, Postponed
from streams.broker.keys import PARKED
from streams.events.names import parse_member
from streams.policy.levels import LevelTurns
from streams.policy.retry import AttemptRecord, Bury, Retry

Entry = tuple[int, str]


@dataclass(slots=True)
class Held:
    """A row of the pending list."""

    owner: str
    count: int
    since: float


@dataclass(slots=True)
class _Look:
    """One look for due retries: the rows that are left to look at, and what was found."""

    consumer: str
    suspects: int
    rows: list[tuple[Entry, int]]
    found: list[Delivery] = field(default_factory=list)
    vanished: int = 0
    left: list[Entry] = field(default_factory=list)


class Model:
    """``now`` gives the time in seconds; the lists are in the order of the server's."""

    def __init__(self, levels: Sequence[int], now: Callable[[], float]) -> None:
        self.levels = sorted(levels, reverse=True)
        self.now = now
        self.waiting: dict[int, list[str]] = {level: [] for level in levels}
        self.stored: dict[Entry, list[bytes]] = {}
        self.pending: dict[Entry, Held] = {}
        self.retry: dict[Entry, int] = {}
        self.records: dict[Entry, bytes] = {}
        self.dead: dict[Entry, str] = {}
        self.paused: set[int] = set()
        """Levels; whoever reads new entries learns of it with a look for retries."""

    def publish(self, level: int, entry_id: str, fields: list[bytes]) -> None:
        self.stored[level, entry_id] = fields
        self.waiting[level].append(entry_id)

    def delete(self, place: Entry) -> None:
        """XDEL by a stranger."""
        self.stored.pop(place, None)
        if place[1] in self.waiting[place[0]]:
            self.waiting[place[0]].remove(place[1])

    def take(self, levels: Iterable[int], consumer: str, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        for level in levels:
            taken += self.take_level(level, consumer, limit - len(taken))
        return taken

    def take_level(self, level: int, consumer: str, limit: int) -> list[Delivery]:
        ids, self.waiting[level] = (
            self.waiting[level][:limit],
            self.waiting[level][limit:],
        )
        for entry_id in ids:
            self.pending[level, entry_id] = Held(consumer, 1, self.now())
        return [
            Delivery(level, entry_id, self.stored[level, entry_id]) for entry_id in ids
        ]

    def take_due(
        self,
        levels: Iterable[int],
        consumer: str,
        limit: int,
        suspects: int,
        turns: LevelTurns | None = None,
    ) -> DueReply:
        """As the script: strictly by level, and within a level in turn with what is new."""
        paused = frozenset(self.paused & set(levels))
        served = sorted(set(levels) - paused, reverse=True)
        if not served:
            return DueReply([], None, 0, paused)
        look = _Look(
            consumer,
            suspects,
            [
                row
                for row in self._rows()
                if row[0][0] in served and row[1] <= self._ms()
            ],
        )
        fresh: list[Delivery] = []
        mixed = turns is not None and bool(look.rows)
        for level in served:
            room = limit - len(look.found) - len(fresh)
            if turns is None or not mixed:
                self._take_retries(look, level, room)
            else:
                fresh += self._by_turns(look, level, room, turns)
        rest = [
            row
            for row in self._rows()
            if row[0][0] in served and row[0] not in look.left
        ]
        due = rest[0][1] / 1000 if rest else None
        suspect = "{}|{}".format(*look.left[0]) if look.left else ""
        return DueReply(
            look.found + fresh,
            due,
            look.vanished,
            paused,
            more=bool(look.rows),
            fresh=bool(fresh),
            suspect=suspect,
        )

    def take_alone(
        self, levels: Iterable[int], consumer: str, suspect: str
    ) -> list[Delivery]:
        place = parse_member(suspect)
        look = _Look(consumer, 1, [])
        if (
            place[0] in levels
            and place[0] not in self.paused
            and self.retry.get(place, math.inf) <= self._ms()
        ):
            self._take_retry(look, place)
        return look.found

    def _by_turns(
        self, look: _Look, level: int, room: int, turns: LevelTurns
    ) -> list[Delivery]:
        if not any(place[0] == level for place, _ in look.rows):
            return self.take_level(level, look.consumer, room)
        left = room - self._take_retries(look, level, (room + turns.retries) // 2)
        fresh = self.take_level(level, look.consumer, left)
        if left > len(fresh):
            self._take_retries(look, level, left - len(fresh))
        elif room % 2:
            turns.retries = 1 - turns.retries
        return fresh

    def _take_retries(self, look: _Look, level: int, most: int) -> int:
        count = 0
        for row in [row for row in look.rows if row[0][0] == level]:
            if count >= most:
                break
            look.rows.remove(row)
            count += self._take_retry(look, row[0])
        return count

    def _take_retry(self, look: _Look, place: Entry) -> bool:
        held, record = self.pending.get(place), self.records.get(place, b"")
        suspect = bool(record) and AttemptRecord.from_json(record).suspect
        if held is None or held.owner != PARKED:
            del self.retry[place]
            if held is None:
                self.records.pop(place, None)
            return False
        if suspect and look.suspects <= 0:
            look.left.append(place)
            return False
        del self.retry[place]
        if place not in self.stored:
            self._forget(place)
            look.vanished += 1
            return False
        look.suspects -= suspect
        held.owner, held.since = look.consumer, self.now()
        held.count += 1
        look.found.append(Delivery(*place, self.stored[place], held.count, record))
        return True

    def hand_back(
        self, levels: Iterable[int], consumer: str, known: Iterable[Entry]
    ) -> int:
        keep, served, back = set(known), set(levels), 0
        for place, held in list(self.pending.items()):
            if held.owner == consumer and place not in keep and place[0] in served:
                self._park(place, 0)
                back += 1
                # XCLAIM drops it; its row goes with the next look.
                if place not in self.stored:
                    del self.pending[place]
        return back

    def ack(self, places: Iterable[Entry]) -> int:
        """How many were still pending."""
        count = 0
        for place in places:
            count += self._forget(place)
            self.stored.pop(place, None)
        return count

    def postpone(self, consumer: str, row: Postponed) -> int:
        place = row.delivery.place
        if not self._holds(consumer, row.delivery):
            return LOST
        if place not in self.stored:
            self._forget(place)
            return VANISHED
        self._park(place, row.delay_ms)
        if row.record:
            self.records[place] = row.record
        return DONE

    def bury(self, consumer: str, letter: Buried) -> int:
        place = letter.delivery.place
        if not self._holds(consumer, letter.delivery):
            return LOST
        self._forget(place)
        self.retry.pop(place, None)
        if self.stored.pop(place, None) is None:
            return VANISHED
        self.dead[place] = letter.reason
        return DONE

    def renew(self, consumer: str, deliveries: Iterable[Delivery]) -> list[Delivery]:
        lost = []
        for delivery in deliveries:
            if self._holds(consumer, delivery) and delivery.place in self.stored:
                self.pending[delivery.place].since = self.now()
            else:
                if self._holds(consumer, delivery):
                    del self.pending[delivery.place]
                lost.append(delivery)
        return lost

    def sweep(self, lease: float) -> list[Entry]:
        """What a reclaimer does, in one step: stalled entries wait for a retry, and their records say so."""
        found = list(self._stalled(lease))
        for place, _, record in found:
            self._wait(place, record)
        return [place for place, _, _ in found]

    def sweep_by(self, retry: Retry, lease: float) -> list[tuple[Entry, str]]:
        """What the reclaimer of workers does, who know the policy: who stalled, and from whom."""
        found = list(self._stalled(lease))
        for place, _, record in found:
            decision = retry.after_stall(record)
            if isinstance(decision, Bury):
                self._forget(place)
                del self.stored[place]
                self.dead[place] = decision.reason
            else:
                self._wait(place, record)
        return [(place, owner) for place, owner, _ in found]

    def _stalled(self, lease: float) -> Iterator[tuple[Entry, str, AttemptRecord]]:
        """Entries whose lease is over, with whom, and their records with this stall; deleted ones are forgotten."""
        for place, held in list(self.pending.items()):
            if held.owner == PARKED or self.now() - held.since < lease:
                continue
            if place not in self.stored:
                self._forget(place)
                continue
            record = AttemptRecord.from_json(self.records.get(place, b""))
            record.add("stall", {"consumer": held.owner}, at=round(self.now(), 3))
            yield place, held.owner, record

    def _wait(self, place: Entry, record: AttemptRecord) -> None:
        self.records[place] = record.to_json()
        self._park(place, 0)

    def cancel(self, place: Entry) -> bool:
        """What waits is gone; what runs is not."""
        held = self.pending.get(place)
        if place not in self.stored or (held is not None and held.owner != PARKED):
            return False
        self.delete(place)
        self.retry.pop(place, None)
        self._forget(place)
        return True

    def _holds(self, consumer: str, delivery: Delivery) -> bool:
        held = self.pending.get(delivery.place)
        return held is not None and (held.owner, held.count) == (
            consumer,
            delivery.count,
        )

    def _park(self, place: Entry, delay_ms: int) -> None:
        held = self.pending[place]
        held.owner, held.since = PARKED, self.now()
        self.retry[place] = self._ms() + delay_ms

    def _forget(self, place: Entry) -> bool:
        self.records.pop(place, None)
        return self.pending.pop(place, None) is not None

    def _rows(self) -> list[tuple[Entry, int]]:
        return sorted(
            self.retry.items(), key=lambda row: (row[1], f"{row[0][0]}|{row[0][1]}")
        )

    def _ms(self) -> int:
        return int(self.now() * 1000)

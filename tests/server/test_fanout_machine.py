"""Fan-out together with every verb: groups come and go while workers hold, end, retry and bury their entries.

The model keeps one state per event and declared group. After each step the server must store exactly what some declared
group still needs, or what a dropped group left for trimming; each group is given what is its own, and nothing twice.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from streams import (
    Broker,
    Cancellations,
    DeadLetter,
    DeadLetters,
    Erasure,
    Groups,
    Levels,
    Producer,
)
from streams.broker.admin.groups import GroupStore
from streams.broker.entries.declare import Declaring
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.settle import DONE, Buried, Postponed, Settling
from streams.errors import GroupDropped, GroupMissing
from streams.policy.declaration import Declaration
from streams.producer import ProducerOptions

LEVELS = Levels((0, 5))
GROUPS = ("a", "b", "c")
SUBJECTS = ("ana", "bob")
ENDS = ("ack", "ack", "fail", "bury")
STEPS, KINDS = 80, 11
_only = os.environ.get("STREAMS_TEST_SEED")
SEEDS = (
    [int(_only)] if _only else range(int(os.environ.get("STREAMS_TEST_SEEDS", "12")))
)
_namespaces = itertools.count()
UNFINISHED = ("waiting", "processing", "retrying")


@dataclass
class Known:
    """What the model knows of one entry: what it is to each group that is declared."""

    level: int
    entry_id: str
    subject: str
    states: dict[str, str] = field(default_factory=dict)
    """waiting, processing, retrying, dead or done, by group. A group that began after it, or is gone, has none."""

    @property
    def place(self) -> tuple[int, str]:
        return self.level, self.entry_id

    @property
    def order(self) -> tuple[int, ...]:
        return (-self.level, *map(int, self.entry_id.split("-")))

    @property
    def needed(self) -> bool:
        return any(state in UNFINISHED for state in self.states.values())


class FanoutMachine:
    """One seeded walk. ``story`` is what was done, for who reads of a failure."""

    def __init__(self, url: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.story: list[str] = []
        self.loop = asyncio.new_event_loop()
        self.broker = Broker(url, namespace=f"fm{next(_namespaces)}")
        self.run(self.broker.connect())
        self.keys = self.broker.keys("s")
        self.producer = Producer(self.broker, "s", ProducerOptions(levels=LEVELS))
        self.fetching = {
            group: Fetching(
                GroupConsumer(self.broker, self.keys, LEVELS, group, f"c-{group}")
            )
            for group in GROUPS
        }
        self.settling = {
            group: Settling(
                GroupConsumer(self.broker, self.keys, LEVELS, group, f"c-{group}")
            )
            for group in GROUPS
        }
        self.declared: set[str] = set()
        self.entries: dict[tuple[int, str], Known] = {}
        self.erased: set[tuple[int, str]] = set()
        self.dead: dict[str, dict[tuple[int, str], Known]] = {
            group: {} for group in GROUPS
        }
        self.held: dict[tuple[str, tuple[int, str]], Delivery] = {}
        self.zombies: list[tuple[str, Delivery]] = []
        """What workers of dropped groups still have in hand."""
        self.declare("a", new=False)

    def close(self) -> None:
        self.run(self.broker.close())
        self.loop.close()

    def step(self) -> str:
        """Do one of the things that are possible now; the likely ones more often."""
        possible: list[tuple[int, bool, Callable[[], None]]] = [
            (4, True, self.publish),
            (2, len(self.declared) < len(GROUPS), self.declare_one),
            (
                1,
                len(self.declared) > 1 and bool(self.held or self.letters()),
                self.drop,
            ),
            (
                6,
                any(self.those(group, "waiting") for group in self.declared),
                self.take,
            ),
            (3, bool(self.retrying()), self.retry),
            (8, bool(self.held), self.settle),
            (5, bool(self.zombies), self.settle_for_a_group_that_was_dropped),
            (1, bool(self.retrying()), self.cancel),
            (1, len(self.held) > 2 and bool(self.letters()), self.erase),
            (2, bool(self.letters()), self.replay),
            (1, bool(self.letters()), self.discard),
        ]
        weights = [weight if is_possible else 0 for weight, is_possible, _ in possible]
        do = self.random.choices([do for _, _, do in possible], weights)[0]
        self.story.append(do.__name__)
        do()
        self.check()
        return do.__name__

    def run(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def call(self, *command):
        return self.run(self.broker.control.call(*command))

    def stored(self) -> set[tuple[int, str]]:
        return {
            (level, row[0].decode())
            for level in LEVELS.ascending
            for row in self.call("XRANGE", self.keys.level(level), "-", "+")
        }

    def those(self, group: str, *states: str) -> list[Known]:
        return [
            known
            for known in self.entries.values()
            if known.states.get(group) in states
        ]

    def add(self, level: int, entry_id: str, subject: str) -> None:
        known = Known(level, entry_id, subject, dict.fromkeys(self.declared, "waiting"))
        self.entries[known.place] = known

    def held_now(self) -> list[tuple[str, tuple[int, str]]]:
        return sorted(self.held)

    def retrying(self) -> list[tuple[str, Known]]:
        return [
            (group, known)
            for known in self.entries.values()
            for group, state in sorted(known.states.items())
            if state == "retrying" and known.place not in self.erased
        ]

    def letters(self) -> list[tuple[str, tuple[int, str]]]:
        return sorted(
            (group, place) for group, places in self.dead.items() for place in places
        )

    # --- groups and events

    def declare_one(self) -> None:
        group = self.random.choice(sorted(set(GROUPS) - self.declared))
        self.declare(group, new=self.random.random() < 0.3)

    def declare(self, group: str, *, new: bool) -> None:
        there = self.stored()
        declaring = Declaring(
            self.keys,
            LEVELS,
            group,
            Declaration("fanout", start="new" if new else "oldest"),
        )
        self.run(declaring.declare(self.broker.control))
        self.declared.add(group)
        for known in self.entries.values():
            if known.place in there and not new:
                known.states[group] = "waiting"

    def drop(self) -> None:
        group = self.random.choice(sorted(self.declared))
        self.run(Groups(self.broker, "s").drop(group, force=True))
        self.declared.remove(group)
        for known in self.entries.values():
            known.states.pop(group, None)
        gone = [place for name, place in self.held if name == group]
        self.zombies += [(group, self.held.pop((group, place))) for place in gone]

    def publish(self) -> None:
        priority, subject = (
            self.random.choice(LEVELS.ascending),
            self.random.choice(SUBJECTS),
        )
        bodies = [{}] * self.random.randint(1, 3)
        for receipt in self.run(
            self.producer.publish_many(
                bodies, type="t", priority=priority, subject=subject
            )
        ):
            self.add(receipt.level, receipt.entry_id, subject)

    # --- workers

    def take(self) -> None:
        most = self.random.randint(1, 4)
        groups = sorted(
            group for group in self.declared if self.those(group, "waiting")
        )
        group = self.random.choice(groups)
        waiting = [
            known
            for known in self.those(group, "waiting")
            if known.place not in self.erased
        ]
        expected = sorted(waiting, key=lambda known: known.order)[:most]
        got = self.run(self.fetching[group].take(most))
        assert [delivery.place for delivery in got] == [
            known.place for known in expected
        ]
        for delivery in got:
            self.hold(group, delivery)

    def hold(self, group: str, delivery: Delivery) -> None:
        self.entries[delivery.place].states[group] = "processing"
        self.held[group, delivery.place] = delivery

    def retry(self) -> None:
        most = self.random.randint(1, 4)
        group, _ = self.random.choice(self.retrying())
        waiting = {known.place for name, known in self.retrying() if name == group}
        got = self.run(self.fetching[group].take_due(most, most)).deliveries
        assert {delivery.place for delivery in got} <= waiting
        for delivery in got:
            self.hold(group, delivery)

    def settle(self) -> None:
        end = self.random.choice(ENDS)
        group, place = self.random.choice(self.held_now())
        known, delivery = self.entries[place], self.held.pop((group, place))
        settling, here = self.settling[group], place not in self.erased
        if end == "ack":
            self.run(settling.settle([delivery]))
            known.states[group] = "done"
        elif end == "fail":
            outcome = self.run(settling.settle((), [Postponed(delivery, 0, b"{}")]))
            assert (outcome.statuses[place] == DONE) is here
            known.states[group] = "retrying" if here else "done"
        else:
            outcome = self.run(
                settling.settle((), (), [Buried(delivery, "rejected", b"{}")])
            )
            assert (outcome.statuses[place] == DONE) is here
            known.states[group] = "dead" if here else "done"
            if here:
                self.dead[group][place] = known

    def settle_for_a_group_that_was_dropped(self) -> None:
        """Nothing changes for the groups that are there, nor for one of the same name that was declared since."""
        end = self.random.choice(ENDS)
        group, delivery = self.zombies.pop(self.random.randrange(len(self.zombies)))
        if (group, delivery.place) in self.held:
            # The same worker has it again, at the same count: that is its own to end.
            return
        done = [delivery] if end == "ack" else []
        postponed = [Postponed(delivery, 0, b"{}")] if end == "fail" else []
        buried = [Buried(delivery, "rejected", b"{}")] if end == "bury" else []
        outcome = self.run(self.settling[group].settle(done, postponed, buried))
        if end == "ack":
            known = self.entries[delivery.place]
            # Its own group, declared anew: it is done after all.
            if known.states.get(group) == "retrying":
                known.states[group] = "done"
        elif group in self.declared:
            assert outcome.statuses.get(delivery.place) != DONE
        else:
            assert isinstance(outcome.refused, GroupMissing)

    # --- operators

    def cancel(self) -> None:
        group, known = self.random.choice(self.retrying())
        self.run(
            Cancellations(self.broker, "s").cancel(
                f"{known.level}|{known.entry_id}", group
            )
        )
        known.states[group] = "done"

    def erase(self) -> None:
        subject = self.random.choice(SUBJECTS)
        there = self.stored()
        erased = self.run(Erasure(self.broker, "s").erase("subject", subject))
        gone = {place for place in there if self.entries[place].subject == subject}
        assert erased.stored == len(gone)
        self.erased |= gone
        for letters in self.dead.values():
            for place in [
                place for place, known in letters.items() if known.subject == subject
            ]:
                del letters[place]

    def replay(self) -> None:
        """An entry for every group, that names the one that takes it; a group that is gone takes nothing."""
        edited = self.random.random() < 0.5
        group, place = self.random.choice(self.letters())
        known, letter = self.dead[group][place], self.letter(group, place)
        letters, before = DeadLetters(self.broker, "s", group), self.stored()
        try:
            if edited:
                put = self.run(letters.replay_edited(letter.id, {"mended": True}))
            else:
                put = self.run(letters.replay([letter.id])).moved[letter.id]
        except GroupDropped:
            assert group not in self.declared
            assert self.stored() == before
            return
        assert group in self.declared
        level, _, entry_id = put.partition("|")
        del self.dead[group][place]
        self.add(int(level), entry_id, known.subject)

    def discard(self) -> None:
        group, place = self.random.choice(self.letters())
        letter = self.letter(group, place)
        assert self.run(DeadLetters(self.broker, "s", group).discard([letter.id])) == 1
        del self.dead[group][place]

    def letter(self, group: str, place: tuple[int, str]) -> DeadLetter:
        found = self.run(DeadLetters(self.broker, "s", group).page(limit=1000))
        return next(one for one in found if (one.level, one.entry_id) == place)

    # --- the books

    def check(self) -> None:
        """What a declared group needs is there; once what a dropped one left is trimmed, nothing else is."""
        needed = {
            known.place for known in self.entries.values() if known.needed
        } - self.erased
        assert needed <= self.stored(), (
            "an event that a declared group has not finished is gone"
        )
        self.run(self.trim())
        assert self.stored() == needed, "an event is stored that no group needs"
        for group, letters in self.dead.items():
            found = self.run(DeadLetters(self.broker, "s", group).page(limit=1000))
            assert sorted((one.level, one.entry_id) for one in found) == sorted(letters)

    async def trim(self) -> None:
        async for _ in GroupStore(self.broker, self.keys, LEVELS.ascending).trim():
            pass


def test_groups_that_come_and_go_lose_nothing_and_leave_nothing(server):
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        machine = FanoutMachine(server.url, seed)
        try:
            for _ in range(STEPS):
                seen[machine.step()] += 1
        except AssertionError as error:
            error.add_note(
                f"STREAMS_TEST_SEED={seed} repeats it; it did: {' '.join(machine.story)}"
            )
            raise
        finally:
            machine.close()
    if len(SEEDS) > 1:
        assert min(seen.values()) >= len(SEEDS) / 4, (
            f"some steps are hardly ever taken: {seen}"
        )
        assert len(seen) == KINDS

"""The model of an entry that is published, fetched and settled, against a real server."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from streams import (
    Broker,
    Cancellations,
    DeadLetters,
    Levels,
    Pauses,
    Producer,
    Reclaimer,
    ReclaimerOptions,
    Retry,
)
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import DueReply, Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.publish import Scheduling
from streams.broker.entries.settle import (
    DONE,
    LOST,
    Buried,
    Postponed,
    Settling,
)
from streams.broker.keys import PARKED
from streams.policy.retry import AttemptRecord, Bury
from streams.producer import ProducerOptions

LEVELS = Levels((0, 5, 10))
CONSUMERS = ("one", "two")
_namespaces = itertools.count()


@dataclass
class Known:
    """What the model knows of one entry."""

    level: int
    entry_id: str
    event_id: str
    # pending, processing, retrying, dead, done, deleted, cancelled
    state: str = "pending"
    owner: str = ""
    count: int = 0
    failures: int = 0
    stalls: int = 0
    due: bool = True
    stale: list[Delivery] = field(default_factory=list)
    delivery: Delivery | None = None
    crashed: bool = False

    @property
    def place(self) -> tuple[int, str]:
        return self.level, self.entry_id


class Deliveries(RuleBasedStateMachine):
    """What becomes of entries in the hands of two consumers and a reclaimer."""

    url = ""
    max_retries = 0

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.broker = Broker(self.url, namespace=f"m{next(_namespaces)}")
        self.keys = self.broker.keys("s")
        self.run(self.broker.connect())
        self.producer = Producer(self.broker, "s", ProducerOptions(levels=LEVELS))
        self.fetching = {
            c: Fetching(GroupConsumer(self.broker, self.keys, LEVELS, "g", c))
            for c in CONSUMERS
        }
        self.settling = {
            c: Settling(GroupConsumer(self.broker, self.keys, LEVELS, "g", c))
            for c in CONSUMERS
        }
        self.scheduling = Scheduling(self.broker, self.keys, LEVELS)
        self.retry = Retry(max_retries=self.max_retries, delay=0.0)
        options = ReclaimerOptions(levels=LEVELS, lease=30.0, name="sweeper")
        self.reclaimer = Reclaimer(self.broker, "s", "g", self.retry, options)
        self.letters = DeadLetters(self.broker, "s", "g")
        self.run(self.fetching["one"].ensure_group())
        self.entries: dict[tuple[int, str], Known] = {}
        self.pauses = Pauses(self.broker, "s", by="ada")
        self.cancellations = Cancellations(self.broker, "s", by="ada")
        self.scheduled: dict[str, int] = {}
        """Event id to level."""
        self.paused: set[tuple[str, int | None]] = set()
        self.holding: dict[str, frozenset[int]] = dict.fromkeys(CONSUMERS, frozenset())
        """The levels that each consumer holds back, as of its last look."""
        self.published = self.cancelled = self.replayed = 0

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.broker.close())
            self.loop.close()

    def run(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def call(self, *command):
        return self.run(self.broker.control.call(*command))

    def those(self, *states: str) -> list[Known]:
        return [known for known in self.entries.values() if known.state in states]

    def held(self) -> list[Known]:
        return [known for known in self.those("processing") if not known.crashed]

    def held_levels(self) -> frozenset[int]:
        """What no consumer may be given any more once it has looked."""
        covers = {"", "g"}
        return frozenset(
            n
            for n in LEVELS.ascending
            if any(g in covers and m in (None, n) for g, m in self.paused)
        )

    def pick(self, data, among: list[Known]) -> Known:
        return data.draw(st.sampled_from(among), label="entry")

    # --- publishing

    @rule(priority=st.integers(-3, 14), times=st.integers(1, 3))
    def publish(self, priority: int, times: int) -> None:
        for receipt in self.run(
            self.producer.publish_many(
                [{"n": n} for n in range(times)], type="t", priority=priority
            )
        ):
            assert receipt.level == max(
                (level for level in LEVELS.ascending if level <= priority), default=0
            )
            known = Known(receipt.level, receipt.entry_id, receipt.event_id)
            self.entries[known.place] = known
            self.published += 1

    @rule(level=st.sampled_from(LEVELS.ascending))
    def publish_foreign(self, level: int) -> None:
        entry_id = self.call(
            "XADD", self.keys.level(level), "*", "type", "t", "data", "{}"
        ).decode()
        self.entries[level, entry_id] = Known(level, entry_id, f"{level}|{entry_id}")
        self.published += 1

    @rule(level=st.sampled_from(LEVELS.ascending))
    def schedule(self, level: int) -> None:
        receipt = self.run(
            self.producer.publish({}, type="t", priority=level, delay=3600.0)
        )
        assert receipt.entry_id == ""
        self.scheduled[receipt.event_id] = level
        self.published += 1

    @precondition(lambda self: self.scheduled)
    @rule()
    def promote_twice(self) -> None:
        """Due events are moved, each once, however often somebody tries."""
        for member in self.call("ZRANGE", self.keys.scheduled(), 0, -1):
            self.call("ZADD", self.keys.scheduled(), 1, member)
        before = {
            (n, i.decode())
            for n in LEVELS.ascending
            for i, _ in self.call("XRANGE", self.keys.level(n), "-", "+")
        }
        assert self.run(self.scheduling.promote(100)).moved == len(self.scheduled)
        assert self.run(self.scheduling.promote(100)).moved == 0
        for level in LEVELS.ascending:
            for entry_id, fields in self.call(
                "XRANGE", self.keys.level(level), "-", "+"
            ):
                if (level, entry_id.decode()) not in before:
                    named = dict(zip(fields[::2], fields[1::2], strict=True))
                    known = Known(level, entry_id.decode(), named[b"id"].decode())
                    self.entries[known.place] = known
                    assert self.scheduled.pop(known.event_id) == level
        assert self.scheduled == {}

    # --- fetching

    def taken(self, consumer: str, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            known = self.entries[delivery.place]
            if known.delivery is not None:
                known.stale.append(known.delivery)
            known.state, known.owner, known.count = (
                "processing",
                consumer,
                known.count + 1,
            )
            known.delivery, known.crashed = delivery, False
            assert delivery.count == known.count
            record = AttemptRecord.from_json(delivery.record)
            assert (record.failures, record.stalls) == (known.failures, known.stalls)

    def look(self, consumer: str, limit: int, suspects: int) -> DueReply:
        """Look for due retries as a consumer does: what it learns about pauses counts for whatever it reads next."""
        records = self.records()
        due = {
            k.place
            for k in self.those("retrying")
            if k.due and k.level not in self.held_levels()
        }
        wary = {
            place
            for place in due
            if AttemptRecord.from_json(records.get("{}|{}".format(*place))).suspect
        }
        reply = self.run(self.fetching[consumer].take_due(limit, suspects))
        got = [d.place for d in reply.deliveries]
        assert reply.paused == self.held_levels()
        assert set(got) <= due
        assert (
            len(set(got))
            == len(got)
            == min(limit, len(due - wary) + min(suspects, len(wary)))
        )
        assert len(wary & set(got)) <= suspects
        self.taken(consumer, reply.deliveries)
        if reply.paused != self.holding[consumer]:
            self.fetching[consumer].hold(reply.paused)
            self.holding[consumer] = reply.paused
        return reply

    def records(self) -> dict[str, bytes]:
        rows = self.call("HGETALL", self.keys.attempts("g"))
        return {
            member.decode(): record
            for member, record in zip(rows[::2], rows[1::2], strict=True)
        }

    @rule(
        consumer=st.sampled_from(CONSUMERS),
        limit=st.integers(1, 4),
        looks=st.booleans(),
    )
    def fetch(self, consumer: str, limit: int, looks: bool) -> None:
        """Whoever looked first reads nothing that is paused; whoever did not goes by what it knew."""
        if looks:
            self.look(consumer, 0, 0)
        if not self.fetching[consumer].open_levels:
            return  # A consumer reads nothing then, and keeps looking.
        expected = sorted(
            (
                known
                for known in self.those("pending")
                if known.level not in self.holding[consumer]
            ),
            key=lambda k: (-k.level, *map(int, k.entry_id.split("-"))),
        )[:limit]
        got = self.run(self.fetching[consumer].take(limit))
        assert [d.place for d in got] == [known.place for known in expected]
        self.taken(consumer, got)

    @rule(
        data=st.data(), consumer=st.sampled_from(CONSUMERS), limit=st.integers(12, 20)
    )
    def fetch_from_busy_level(self, data, consumer: str, limit: int) -> None:
        if not self.fetching[consumer].open_levels:
            return
        level = data.draw(
            st.sampled_from(self.fetching[consumer].open_levels), label="level"
        )
        got, _ = self.run(self.fetching[consumer].take_from(level, limit))
        assert len(got) <= limit
        assert all(
            d.level >= level and d.level not in self.holding[consumer] for d in got
        )
        self.taken(consumer, got)

    @rule(
        consumer=st.sampled_from(CONSUMERS),
        limit=st.integers(0, 4),
        suspects=st.integers(0, 1),
    )
    def fetch_due(self, consumer: str, limit: int, suspects: int) -> None:
        self.look(consumer, limit, suspects)

    @rule()
    def retries_become_due(self) -> None:
        for known in self.those("retrying"):
            member = f"{known.level}|{known.entry_id}"
            if self.call("ZSCORE", self.keys.retry("g"), member) is not None:
                self.call("ZADD", self.keys.retry("g"), self.now(), member)
                known.due = True

    def now(self) -> int:
        """The server's time in ms."""
        seconds, micros = self.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    # --- settling

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def succeed(self, data) -> None:
        known = self.pick(data, self.held())
        settlement = self.run(self.settling[known.owner].settle([known.delivery]))
        assert settlement.ack_shortfall == 0
        known.state = "done"

    @precondition(lambda self: self.held())
    @rule(data=st.data(), later=st.booleans())
    def fail(self, data, later: bool) -> None:
        self.fail_one(self.pick(data, self.held()), later=later)

    def fail_one(self, known: Known, *, later: bool) -> None:
        record = AttemptRecord.from_json(known.delivery.record)
        record.add("failure", {"type": "ValueError"}, at=1.0)
        known.failures += 1
        decision = self.retry.after_failure(ValueError(), record)
        settling = self.settling[known.owner]
        if known.failures + known.stalls > self.max_retries:
            assert isinstance(decision, Bury)
            outcome = self.run(
                settling.settle(
                    (), (), [Buried(known.delivery, decision.reason, record.to_json())]
                )
            )
            known.state = "dead"
        else:
            delay = 3_600_000 if later else 0
            outcome = self.run(
                settling.settle(
                    (), [Postponed(known.delivery, delay, record.to_json())]
                )
            )
            known.state, known.due, known.owner = "retrying", not later, PARKED
        assert outcome.statuses == {known.place: DONE}

    @precondition(
        lambda self: any(known.level not in self.held_levels() for known in self.held())
    )
    @rule(data=st.data(), consumer=st.sampled_from(CONSUMERS))
    def exhaust(self, data, consumer: str) -> None:
        """Fail one entry until it is dead: few random runs get there by themselves."""
        known = self.pick(
            data,
            [known for known in self.held() if known.level not in self.held_levels()],
        )
        while True:
            # Looks from the beginning again.
            self.fetching[consumer].hold(self.holding[consumer])
            self.fail_one(known, later=False)
            if known.state == "dead":
                return
            self.call(
                "ZADD", self.keys.retry("g"), 0, f"{known.level}|{known.entry_id}"
            )
            # All that is due: what is due on higher levels goes before it.
            self.taken(
                consumer,
                self.run(self.fetching[consumer].take_due(100, 100)).deliveries,
            )
            assert known.state == "processing"
            # The same worker has it again: what it still knows of the attempt before must not count.
            row = Postponed(known.stale[-1], 0)
            assert self.run(self.settling[known.owner].settle((), [row])).statuses == {
                known.place: LOST
            }

    @precondition(lambda self: self.held())
    @rule(data=st.data(), later=st.booleans())
    def snooze(self, data, later: bool) -> None:
        known = self.pick(data, self.held())
        row = Postponed(known.delivery, 3_600_000 if later else 0)
        assert self.run(self.settling[known.owner].settle((), [row])).statuses == {
            known.place: DONE
        }
        known.state, known.due, known.owner = "retrying", not later, PARKED

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def reject(self, data) -> None:
        known = self.pick(data, self.held())
        record = AttemptRecord.from_json(known.delivery.record)
        record.add("failure", {"type": "Reject"}, at=1.0)
        known.failures += 1
        letter = Buried(known.delivery, "rejected", record.to_json())
        assert self.run(
            self.settling[known.owner].settle((), (), [letter])
        ).statuses == {known.place: DONE}
        known.state = "dead"

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def renew(self, data) -> None:
        known = self.pick(data, self.held())
        assert self.run(self.settling[known.owner].renew([known.delivery])) == []

    # --- what goes wrong

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def crash(self, data) -> None:
        self.pick(data, self.held()).crashed = True

    @precondition(lambda self: any(k.crashed for k in self.those("processing")))
    @rule()
    def reclaim(self) -> None:
        """Silent entries are reclaimed, each counted once as a stall; entries in good hands are left alone."""
        silent = [known for known in self.those("processing") if known.crashed]
        for known in silent:
            self.call(
                "XCLAIM",
                self.keys.level(known.level),
                "g",
                known.owner,
                0,
                known.entry_id,
                "IDLE",
                60000,
                "JUSTID",
            )
        while self.run(self.reclaimer.sweep()):
            pass
        for known in silent:
            known.stalls += 1
            known.stale.append(known.delivery)
            known.crashed = False
            was_alone = AttemptRecord.from_json(known.delivery.record).suspect
            if known.failures + known.stalls > self.max_retries and was_alone:
                known.state = "dead"
            else:
                known.state, known.due, known.owner = "retrying", True, PARKED

"""Every transition against a model, on a real server, in every order that hypothesis can think of.

The model is a dictionary; after each step the server must agree with it entry by entry: where it is, who owns it, its
delivery count, its attempt record. Leases are aged with ``XCLAIM ... IDLE``, so nothing sleeps.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams import Broker, DeadLetters, Filter, Levels, Producer, Reclaimer, ReclaimerOptions, Retry
from streams.broker.fetch import Delivery, Fetching
from streams.broker.publish import Scheduling
from streams.broker.settle import DONE, LOST, VANISHED, Buried, Postponed, Settling
from streams.keys import PARKED
from streams.producer import ProducerOptions
from streams.retry import AttemptRecord, Bury

LEVELS = Levels((0, 5, 10))
CONSUMERS = ("one", "two")
_namespaces = itertools.count()
EXAMPLES = int(os.environ.get("STREAMS_TEST_EXAMPLES", "40"))


@dataclass
class Known:
    """What the model knows of one entry."""

    level: int
    entry_id: str
    event_id: str
    state: str = "pending"  # pending, processing, retrying, dead, done, deleted
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


class Machine(RuleBasedStateMachine):
    url = ""
    max_retries = 0

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.broker = Broker(self.url, namespace=f"m{next(_namespaces)}")
        self.keys = self.broker.keys("s")
        self.run(self.broker.connect())
        self.producer = Producer(self.broker, "s", ProducerOptions(levels=LEVELS))
        self.fetching = {c: Fetching(self.broker, self.keys, LEVELS, "g", c) for c in CONSUMERS}
        self.settling = {c: Settling(self.broker, self.keys, LEVELS, "g", c) for c in CONSUMERS}
        self.scheduling = Scheduling(self.broker, self.keys, LEVELS)
        self.retry = Retry(max_retries=self.max_retries, delay=0.0)
        options = ReclaimerOptions(levels=LEVELS, lease=30.0, name="sweeper")
        self.reclaimer = Reclaimer(self.broker, "s", "g", self.retry, options)
        self.letters = DeadLetters(self.broker, "s", "g")
        self.run(self.fetching["one"].ensure_group())
        self.entries: dict[tuple[int, str], Known] = {}
        self.scheduled = 0

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

    def pick(self, data, among: list[Known]) -> Known:
        return data.draw(st.sampled_from(among), label="entry")

    # --- publishing

    @rule(priority=st.integers(-3, 14), times=st.integers(1, 3))
    def publish(self, priority: int, times: int) -> None:
        for receipt in self.run(
            self.producer.publish_many([{"n": n} for n in range(times)], type="t", priority=priority)
        ):
            assert receipt.level == max((level for level in LEVELS.ascending if level <= priority), default=0)
            known = Known(receipt.level, receipt.entry_id, receipt.event_id)
            self.entries[known.place] = known

    @rule(level=st.sampled_from(LEVELS.ascending))
    def publish_foreign(self, level: int) -> None:
        entry_id = self.call("XADD", self.keys.level(level), "*", "type", "t", "data", "{}").decode()
        self.entries[level, entry_id] = Known(level, entry_id, f"{level}|{entry_id}")

    @rule(level=st.sampled_from(LEVELS.ascending))
    def schedule(self, level: int) -> None:
        receipt = self.run(self.producer.publish({}, type="t", priority=level, delay=3600.0))
        assert receipt.entry_id == ""
        self.scheduled += 1

    @precondition(lambda self: self.scheduled)
    @rule()
    def promote_twice(self) -> None:
        """Due events are moved, each once, however often somebody tries."""
        for member in self.call("ZRANGE", self.keys.scheduled(), 0, -1):
            self.call("ZADD", self.keys.scheduled(), 1, member)
        before = {
            (n, i.decode()) for n in LEVELS.ascending for i, _ in self.call("XRANGE", self.keys.level(n), "-", "+")
        }
        assert self.run(self.scheduling.promote(100)).moved == self.scheduled
        assert self.run(self.scheduling.promote(100)).moved == 0
        for level in LEVELS.ascending:
            for entry_id, fields in self.call("XRANGE", self.keys.level(level), "-", "+"):
                if (level, entry_id.decode()) not in before:
                    named = dict(zip(fields[::2], fields[1::2], strict=True))
                    known = Known(level, entry_id.decode(), named[b"id"].decode())
                    self.entries[known.place] = known
                    self.scheduled -= 1
        assert self.scheduled == 0

    # --- fetching

    def taken(self, consumer: str, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            known = self.entries[delivery.place]
            if known.delivery is not None:
                known.stale.append(known.delivery)
            known.state, known.owner, known.count = "processing", consumer, known.count + 1
            known.delivery, known.crashed = delivery, False
            assert delivery.count == known.count
            record = AttemptRecord.from_json(delivery.record)
            assert (record.failures, record.stalls) == (known.failures, known.stalls)

    @rule(consumer=st.sampled_from(CONSUMERS), limit=st.integers(1, 4))
    def fetch(self, consumer: str, limit: int) -> None:
        expected = sorted(
            (known for known in self.those("pending")),
            key=lambda k: (-k.level, *map(int, k.entry_id.split("-"))),
        )[:limit]
        got = self.run(self.fetching[consumer].take(limit))
        assert [d.place for d in got] == [known.place for known in expected]
        self.taken(consumer, got)

    @rule(consumer=st.sampled_from(CONSUMERS), level=st.sampled_from(LEVELS.ascending), limit=st.integers(12, 20))
    def fetch_from_busy_level(self, consumer: str, level: int, limit: int) -> None:
        got = self.run(self.fetching[consumer].take_from(level, limit))
        assert len(got) <= limit
        assert all(d.level >= level for d in got)
        self.taken(consumer, got)

    @rule(consumer=st.sampled_from(CONSUMERS), limit=st.integers(1, 4), suspects=st.integers(0, 1))
    def fetch_due(self, consumer: str, limit: int, suspects: int) -> None:
        due = {known.place for known in self.those("retrying") if known.due}
        reply = self.run(self.fetching[consumer].take_due(limit, suspects))
        got = [d.place for d in reply.deliveries]
        assert set(got) <= due
        assert len(set(got)) == len(got) <= limit
        marked = [d for d in reply.deliveries if AttemptRecord.from_json(d.record).suspect]
        assert len(marked) <= suspects
        self.taken(consumer, reply.deliveries)

    @rule()
    def retries_become_due(self) -> None:
        for known in self.those("retrying"):
            member = f"{known.level}|{known.entry_id}"
            if self.call("ZSCORE", self.keys.retry("g"), member) is not None:
                self.call("ZADD", self.keys.retry("g"), 1, member)
                known.due = True

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
            outcome = self.run(settling.settle((), (), [Buried(known.delivery, decision.reason, record.to_json())]))
            known.state = "dead"
        else:
            delay = 3_600_000 if later else 0
            outcome = self.run(settling.settle((), [Postponed(known.delivery, delay, record.to_json())]))
            known.state, known.due, known.owner = "retrying", not later, PARKED
        assert outcome.statuses == {known.place: DONE}

    @precondition(lambda self: self.held())
    @rule(data=st.data(), consumer=st.sampled_from(CONSUMERS))
    def exhaust(self, data, consumer: str) -> None:
        """Fail one entry until it is dead: few random runs get there by themselves."""
        known = self.pick(data, self.held())
        while True:
            self.fail_one(known, later=False)
            if known.state == "dead":
                return
            self.call("ZADD", self.keys.retry("g"), 0, f"{known.level}|{known.entry_id}")  # The first of the due.
            self.taken(consumer, self.run(self.fetching[consumer].take_due(1, 1)).deliveries)
            assert known.state == "processing"
            # The same worker has it again: what it still knows of the attempt before must not count.
            row = Postponed(known.stale[-1], 0)
            assert self.run(self.settling[known.owner].settle((), [row])).statuses == {known.place: LOST}

    @precondition(lambda self: self.held())
    @rule(data=st.data(), later=st.booleans())
    def snooze(self, data, later: bool) -> None:
        known = self.pick(data, self.held())
        row = Postponed(known.delivery, 3_600_000 if later else 0)
        assert self.run(self.settling[known.owner].settle((), [row])).statuses == {known.place: DONE}
        known.state, known.due, known.owner = "retrying", not later, PARKED

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def reject(self, data) -> None:
        known = self.pick(data, self.held())
        record = AttemptRecord.from_json(known.delivery.record)
        record.add("failure", {"type": "Reject"}, at=1.0)
        known.failures += 1
        letter = Buried(known.delivery, "rejected", record.to_json())
        assert self.run(self.settling[known.owner].settle((), (), [letter])).statuses == {known.place: DONE}
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
                "XCLAIM", self.keys.level(known.level), "g", known.owner, 0, known.entry_id, "IDLE", 60000, "JUSTID"
            )
        while self.run(self.reclaimer.sweep()):
            pass
        for known in silent:
            known.stalls += 1
            known.stale.append(known.delivery)
            known.crashed = False
            if known.failures + known.stalls > self.max_retries:
                known.state = "dead"
            else:
                known.state, known.due, known.owner = "retrying", True, PARKED

    @precondition(lambda self: any(k.stale for k in self.entries.values()))
    @rule(data=st.data())
    def zombie_writes(self, data) -> None:
        """Who lost an entry can neither retry, bury nor renew it, not even if it was given the entry again."""
        known = self.pick(data, [k for k in self.entries.values() if k.stale])
        old = known.stale[-1]
        for settling in self.settling.values():
            assert self.run(settling.settle((), [Postponed(old, 0, b'{"failures":9}')])).statuses[known.place] == LOST
            assert self.run(settling.settle((), (), [Buried(old, "stalled", b"{}")])).statuses[known.place] == LOST
            assert self.run(settling.renew([old])) == [old]

    @precondition(lambda self: self.held())
    @rule(data=st.data(), consumer=st.sampled_from(CONSUMERS))
    def outdated_row(self, data, consumer: str) -> None:
        """A row of an entry that is being worked on hands it to nobody."""
        known = self.pick(data, self.held())
        self.call("ZADD", self.keys.retry("g"), 1, f"{known.level}|{known.entry_id}")
        reply = self.run(self.fetching[consumer].take_due(100, 0))
        assert known.place not in {d.place for d in reply.deliveries}
        self.taken(consumer, reply.deliveries)

    @precondition(lambda self: any(k.stale for k in self.those("processing", "retrying")))
    @rule(data=st.data(), consumer=st.sampled_from(CONSUMERS))
    def zombie_acks(self, data, consumer: str) -> None:
        """The work is done, if late: nobody needs to do it again."""
        known = self.pick(data, [k for k in self.those("processing", "retrying") if k.stale])
        self.run(self.settling[consumer].settle([known.stale[-1]]))
        known.state = "done"

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def deleted_while_pending(self, data) -> None:
        known = self.pick(data, self.held())
        self.call("XDEL", self.keys.level(known.level), known.entry_id)
        row = Postponed(known.delivery, 0, b"{}")
        assert self.run(self.settling[known.owner].settle((), [row])).statuses == {known.place: VANISHED}
        known.state = "deleted"

    @precondition(lambda self: self.those("retrying"))
    @rule(data=st.data())
    def retry_row_is_lost(self, data) -> None:
        """The pending list is the truth: a lost row is restored by the sweep, unless an outdated row hides it."""
        if self.call("ZCARD", self.keys.retry("g")) > len(self.those("retrying")):
            return
        known = self.pick(data, self.those("retrying"))
        self.call("ZREM", self.keys.retry("g"), f"{known.level}|{known.entry_id}")
        self.call("XCLAIM", self.keys.level(known.level), "g", PARKED, 0, known.entry_id, "IDLE", 60000, "JUSTID")
        for _ in range(10):
            self.run(self.reclaimer.sweep())
        known.due = True

    @rule()
    def scripts_are_flushed(self) -> None:
        self.call("SCRIPT", "FLUSH")

    # --- operators

    @precondition(lambda self: self.those("dead"))
    @rule(data=st.data())
    def replay(self, data) -> None:
        known = self.pick(data, self.those("dead"))
        event_filter = Filter(event_id=known.event_id)
        assert self.run(self.letters.replay(event_filter, dry_run=True)).matched == 1
        outcome = self.run(self.letters.replay(event_filter))
        (place,) = outcome.moved.values()
        level, _, entry_id = place.partition("|")
        known.state = "done"
        again = Known(int(level), entry_id, known.event_id)
        assert again.level == known.level
        self.entries[again.place] = again

    @precondition(lambda self: self.those("dead"))
    @rule(data=st.data())
    def discard(self, data) -> None:
        known = self.pick(data, self.those("dead"))
        assert self.run(self.letters.discard(Filter(event_id=known.event_id))) == 1
        known.state = "done"

    # --- the books

    @invariant()
    def server_agrees(self) -> None:
        if not hasattr(self, "broker"):
            return
        stored, owners = {}, {}
        for level in LEVELS.ascending:
            key = self.keys.level(level)
            stored |= {(level, row[0].decode()): row[1] for row in self.call("XRANGE", key, "-", "+")}
            rows = self.call("XPENDING", key, "g", "-", "+", 1000)
            owners |= {(level, i.decode()): (owner.decode(), count) for i, owner, _, count in rows}
        rows = {member.decode() for member in self.call("ZRANGE", self.keys.retry("g"), 0, -1)}
        attempts = self.call("HGETALL", self.keys.attempts("g"))
        records = dict(zip(attempts[::2], attempts[1::2], strict=True))
        dead = self.call("XLEN", self.keys.dead("g"))
        assert set(stored) == {k.place for k in self.those("pending", "processing", "retrying")}
        assert set(owners) == {k.place for k in self.those("processing", "retrying")}
        assert rows >= {f"{k.level}|{k.entry_id}" for k in self.those("retrying")}
        assert dead == len(self.those("dead"))
        for known in self.those("processing", "retrying"):
            assert owners[known.place] == (known.owner, known.count), known
            record = AttemptRecord.from_json(records.get(f"{known.level}|{known.entry_id}".encode()))
            assert (record.failures, record.stalls) == (known.failures, known.stalls)
        unfinished = {f"{k.level}|{k.entry_id}".encode() for k in self.those("processing", "retrying")}
        assert set(records) <= unfinished  # A record does not outlive its entry.
        assert self.call("ZCARD", self.keys.scheduled()) == self.scheduled

    @invariant()
    def dead_letters_tell_the_truth(self) -> None:
        if not hasattr(self, "broker") or not self.those("dead"):
            return
        letters = {(x.level, x.entry_id): x for x in self.run(self.letters.page(limit=1000))}
        for known in self.those("dead"):
            letter = letters[known.place]
            assert (letter.failures, letter.stalls) == (known.failures, known.stalls)
            assert letter.event_id == known.event_id
            assert dict(letter.fields)[b"type"] == b"t"


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_every_transition_against_the_model(server, max_retries):
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Machine", (Machine,), {"url": server.url, "max_retries": max_retries})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=False,
            print_blob=True,
        ),
    )

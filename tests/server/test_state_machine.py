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
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from streams import (
    Broker,
    Cancellations,
    DeadLetters,
    Filter,
    Levels,
    NotFound,
    Pauses,
    Producer,
    Reclaimer,
    ReclaimerOptions,
    Retry,
)
from streams.broker.admin.pauses import PauseStore
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.fetch import DueReply, Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.publish import Scheduling
from streams.broker.entries.settle import (
    DONE,
    LOST,
    VANISHED,
    Buried,
    Postponed,
    Settling,
)
from streams.broker.keys import PARKED
from streams.errors import NotCancelled
from streams.events.names import scope
from streams.policy.retry import AttemptRecord, Bury
from streams.producer import ProducerOptions

LEVELS = Levels((0, 5, 10))
CONSUMERS = ("one", "two")
SCOPES = [(group, level) for group in ("", "g") for level in (None, *LEVELS.ascending)]
"""Group ('': every one) and level (None: every one) of the pauses that hold something back from the group."""
_namespaces = itertools.count()
EXAMPLES = int(os.environ.get("STREAMS_TEST_EXAMPLES", "40"))


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

    @precondition(lambda self: any(k.stale for k in self.entries.values()))
    @rule(data=st.data())
    def zombie_writes(self, data) -> None:
        """Who lost an entry can neither retry, bury nor renew it, not even if it was given the entry again."""
        known = self.pick(data, [k for k in self.entries.values() if k.stale])
        old = known.stale[-1]
        for settling in self.settling.values():
            assert (
                self.run(
                    settling.settle((), [Postponed(old, 0, b'{"failures":9}')])
                ).statuses[known.place]
                == LOST
            )
            assert (
                self.run(
                    settling.settle((), (), [Buried(old, "stalled", b"{}")])
                ).statuses[known.place]
                == LOST
            )
            assert self.run(settling.renew([old])) == [old]

    @precondition(lambda self: self.held())
    @rule(data=st.data(), consumer=st.sampled_from(CONSUMERS))
    def outdated_row(self, data, consumer: str) -> None:
        """A row of an entry that is being worked on hands it to nobody."""
        known = self.pick(data, self.held())
        self.call(
            "ZADD", self.keys.retry("g"), self.now(), f"{known.level}|{known.entry_id}"
        )
        reply = self.look(consumer, 100, 0)
        assert known.place not in {d.place for d in reply.deliveries}

    @precondition(
        lambda self: any(k.stale for k in self.those("processing", "retrying"))
    )
    @rule(data=st.data(), consumer=st.sampled_from(CONSUMERS))
    def zombie_acks(self, data, consumer: str) -> None:
        """The work is done, if late: nobody needs to do it again."""
        known = self.pick(
            data, [k for k in self.those("processing", "retrying") if k.stale]
        )
        self.run(self.settling[consumer].settle([known.stale[-1]]))
        known.state = "done"

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def deleted_while_pending(self, data) -> None:
        known = self.pick(data, self.held())
        self.call("XDEL", self.keys.level(known.level), known.entry_id)
        row = Postponed(known.delivery, 0, b"{}")
        assert self.run(self.settling[known.owner].settle((), [row])).statuses == {
            known.place: VANISHED
        }
        known.state = "deleted"

    @precondition(lambda self: self.those("retrying"))
    @rule(data=st.data())
    def retry_row_is_lost(self, data) -> None:
        """The pending list is the truth: a lost row is restored by the sweep, unless an outdated row hides it."""
        if self.call("ZCARD", self.keys.retry("g")) > len(self.those("retrying")):
            return
        known = self.pick(data, self.those("retrying"))
        self.call("ZREM", self.keys.retry("g"), f"{known.level}|{known.entry_id}")
        self.call(
            "XCLAIM",
            self.keys.level(known.level),
            "g",
            PARKED,
            0,
            known.entry_id,
            "IDLE",
            60000,
            "JUSTID",
        )
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
        self.replayed += 1

    @precondition(lambda self: self.those("dead"))
    @rule(data=st.data())
    def discard(self, data) -> None:
        known = self.pick(data, self.those("dead"))
        assert self.run(self.letters.discard(Filter(event_id=known.event_id))) == 1
        known.state = "done"

    @rule(where=st.sampled_from(SCOPES))
    def pause(self, where: tuple[str, int | None]) -> None:
        group, level = where
        assert self.run(self.pauses.pause(group=group, level=level)).new == (
            where not in self.paused
        )
        self.paused.add(where)

    @rule(level=st.sampled_from((None, *LEVELS.ascending)))
    def pause_another_group(self, level: int | None) -> None:
        """Which holds nothing back from ours."""
        self.run(
            PauseStore(self.broker, self.keys).pause(scope("other", level), "ada", "")
        )
        self.paused.add(("other", level))

    @precondition(lambda self: self.paused)
    @rule(data=st.data())
    def resume(self, data) -> None:
        """One scope; whatever another one covers stays held."""
        group, level = data.draw(
            st.sampled_from(sorted(self.paused, key=str)), label="scope"
        )
        outcome = self.run(self.pauses.resume(group=group, level=level))
        self.paused.remove((group, level))
        assert [pause.scope for pause in outcome.resumed] == [scope(group, level)]
        assert {pause.scope for pause in outcome.remaining} == {
            scope(*where) for where in self.paused
        }

    @precondition(lambda self: self.held_levels())
    @rule(consumer=st.sampled_from(CONSUMERS))
    def resume_all_and_finish(self, consumer: str) -> None:
        """Held, never dropped: once nothing is paused, every event that has no end yet comes to one."""
        assert len(self.run(self.pauses.resume_all()).resumed) == len(self.paused)
        self.paused.clear()
        for known in self.held():
            known.crashed = True
        self.reclaim()
        self.retries_become_due()
        while self.those("pending", "processing", "retrying"):
            self.look(consumer, 100, 100)
            self.taken(consumer, self.run(self.fetching[consumer].take(100)))
            held = self.held()
            assert held, self.those("pending", "retrying")
            assert (
                self.run(
                    self.settling[consumer].settle([k.delivery for k in held])
                ).ack_shortfall
                == 0
            )
            for known in held:
                known.state = "done"

    @precondition(lambda self: self.scheduled)
    @rule(data=st.data(), with_level=st.booleans())
    def cancel_scheduled(self, data, with_level: bool) -> None:
        event_id = data.draw(st.sampled_from(sorted(self.scheduled)), label="event")
        level = self.scheduled.pop(event_id)
        state = self.run(
            self.cancellations.cancel(f"{level}|{event_id}" if with_level else event_id)
        )
        assert (state.state, state.level, state.event_id) == (
            "scheduled",
            level,
            event_id,
        )
        self.cancelled += 1
        with pytest.raises(NotFound):
            self.run(self.cancellations.cancel(event_id))

    @precondition(lambda self: self.those("retrying"))
    @rule(data=st.data(), by_place=st.booleans())
    def cancel_retrying(self, data, by_place: bool) -> None:
        """Whether paused or not, whether due or not."""
        known = self.pick(data, self.those("retrying"))
        name = f"{known.level}|{known.entry_id}" if by_place else known.event_id
        state = self.run(self.cancellations.cancel(name))
        assert (state.state, state.level, state.entry_id) == ("retrying", *known.place)
        assert (state.failures, state.stalls) == (known.failures, known.stalls)
        known.state = "cancelled"
        known.stale.append(known.delivery)
        self.cancelled += 1

    @precondition(lambda self: self.those("pending", "processing", "dead"))
    @rule(data=st.data())
    def cancel_what_cannot_be(self, data) -> None:
        known = self.pick(data, self.those("pending", "processing", "dead"))
        with pytest.raises(NotCancelled) as refused:
            self.run(self.cancellations.cancel(f"{known.level}|{known.entry_id}"))
        assert refused.value.state == known.state

    @precondition(lambda self: self.those("cancelled"))
    @rule(data=st.data(), consumer=st.sampled_from(CONSUMERS))
    def late_success_of_a_cancelled_one(self, data, consumer: str) -> None:
        """Who lost the entry before it was cancelled may still come to a good end, and finds nothing to end."""
        known = self.pick(data, self.those("cancelled"))
        assert (
            self.run(self.settling[consumer].settle([known.stale[-1]])).ack_shortfall
            == 1
        )

    # --- the books

    @invariant()
    def server_agrees(self) -> None:
        if not hasattr(self, "broker"):
            return
        stored, owners = {}, {}
        for level in LEVELS.ascending:
            key = self.keys.level(level)
            stored |= {
                (level, row[0].decode()): row[1]
                for row in self.call("XRANGE", key, "-", "+")
            }
            rows = self.call("XPENDING", key, "g", "-", "+", 1000)
            owners |= {
                (level, i.decode()): (owner.decode(), count)
                for i, owner, _, count in rows
            }
        rows = {
            member.decode()
            for member in self.call("ZRANGE", self.keys.retry("g"), 0, -1)
        }
        attempts = self.call("HGETALL", self.keys.attempts("g"))
        records = dict(zip(attempts[::2], attempts[1::2], strict=True))
        dead = self.call("XLEN", self.keys.dead("g"))
        assert set(stored) == {
            k.place for k in self.those("pending", "processing", "retrying")
        }
        assert set(owners) == {k.place for k in self.those("processing", "retrying")}
        assert rows >= {f"{k.level}|{k.entry_id}" for k in self.those("retrying")}
        assert dead == len(self.those("dead"))
        for known in self.those("processing", "retrying"):
            assert owners[known.place] == (known.owner, known.count), known
            record = AttemptRecord.from_json(
                records.get(f"{known.level}|{known.entry_id}".encode())
            )
            assert (record.failures, record.stalls) == (known.failures, known.stalls)
        unfinished = {
            f"{k.level}|{k.entry_id}".encode()
            for k in self.those("processing", "retrying")
        }
        assert set(records) <= unfinished  # A record does not outlive its entry.
        rows = self.call("ZRANGE", self.keys.scheduled(), 0, -1)
        assert {row.decode() for row in rows} == {
            f"{level}|{id}" for id, level in self.scheduled.items()
        }
        assert self.call("HLEN", self.keys.scheduled_fields()) == len(self.scheduled)

    @invariant()
    def what_is_paused_is_written_down(self) -> None:
        if not hasattr(self, "broker"):
            return
        rows = self.call("HKEYS", self.keys.paused())
        assert {row.decode() for row in rows} == {
            scope(*where) for where in self.paused
        }

    @invariant()
    def every_event_is_counted_once(self) -> None:
        """What the server still has, what its audit record says was cancelled, and what came to another end."""
        if not hasattr(self, "broker"):
            return
        audit = [
            dict(zip(f[::2], f[1::2], strict=True))
            for _, f in self.call("XRANGE", self.keys.audit(), "-", "+")
        ]
        cancelled = sum(
            int(row[b"count"]) for row in audit if row[b"action"] == b"cancel"
        )
        assert cancelled == self.cancelled
        kept = sum(
            self.call("XLEN", self.keys.level(level)) for level in LEVELS.ascending
        )
        kept += self.call("XLEN", self.keys.dead("g")) + self.call(
            "ZCARD", self.keys.scheduled()
        )
        # The first life of a replayed event is no end.
        ended = len(self.those("done", "deleted")) - self.replayed
        assert kept + cancelled + ended == self.published

    @invariant()
    def dead_letters_tell_the_truth(self) -> None:
        if not hasattr(self, "broker") or not self.those("dead"):
            return
        letters = {
            (x.level, x.entry_id): x for x in self.run(self.letters.page(limit=1000))
        }
        for known in self.those("dead"):
            letter = letters[known.place]
            assert (letter.failures, letter.stalls) == (known.failures, known.stalls)
            assert letter.event_id == known.event_id
            assert dict(letter.fields)[b"type"] == b"t"


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_every_transition_against_the_model(server, max_retries):
    from hypothesis.stateful import run_state_machine_as_test

    machine = type(
        "Machine", (Machine,), {"url": server.url, "max_retries": max_retries}
    )
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

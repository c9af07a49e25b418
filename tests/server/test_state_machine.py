"""Every transition against a model, on a real server, in every order that hypothesis can think of.

The model is a dictionary; after each step the server must agree with it entry by entry: where it is, who owns it, its
delivery count, its attempt record. Leases are aged with ``XCLAIM ... IDLE``, so nothing sleeps.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
)

from streams import (
    Filter,
    NotFound,
)
from streams.broker.admin.pauses import PauseStore
from streams.broker.entries.settle import (
    LOST,
    VANISHED,
    Buried,
    Postponed,
)
from streams.broker.keys import PARKED
from streams.errors import NotCancelled
from streams.events.names import scope
from streams.policy.retry import AttemptRecord
from tests.server.deliveries import CONSUMERS, LEVELS, Deliveries, Known

SCOPES = [(group, level) for group in ("", "g") for level in (None, *LEVELS.ascending)]
"""Group ('': every one) and level (None: every one) of the pauses that hold something back from the group."""
EXAMPLES = int(os.environ.get("STREAMS_TEST_EXAMPLES", "40"))


class Machine(Deliveries):
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

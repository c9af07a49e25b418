"""One seed: a declaration, workers, and steps in an order that nobody would write down."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

from streams.admin.erasure import Erasure
from streams.admin.ordered_keys import OrderedKey
from streams.admin.reason import Reason
from streams.errors import NotCancelled, NotFound, StreamsError
from streams.events.event import Event
from streams.policy.partitions import partition_of
from tests.composition.books import Books, Fact, Where
from tests.composition.declared import STREAM, Declared, redraw
from tests.composition.scene import Scene, told
from tests.composition.workers import Worker

_DO = (
    *[("ok",)] * 6,
    *[("slow", "ok")] * 5,
    *(
        ("fail", "ok"),
        ("fail",),
        ("fail", "slow", "ok"),
        ("reject",),
        ("snooze", "ok"),
        ("throttle", "ok"),
    ),
    *(
        ("unavailable", "ok"),
        ("unavailable", "unavailable", "ok"),
        ("crash", "ok"),
        ("reject", "ok"),
    ),
    *(("fail", "fail", "ok"), ("crash", "crash", "ok")),
)
_LAST = 60
"""Looks at the end within which everything has to be finished."""


class Run(Scene):
    """Plays one seed; ``books.wrong`` says what was wrong."""

    async def play(self) -> Books:
        """From the first declaration to the last key."""
        async with self:
            await self._play()
            await self._end()
        return self.books

    async def _play(self) -> None:
        self.books.tell(self.declared)
        await self.add_worker()
        await self.look()
        names = [name for name, weight in _STEPS.items() for _ in range(weight)]
        for _ in range(self.lot.randint(8, 16)):
            for _ in range(self.lot.choice([1, 1, 2])):
                name = self.lot.choice(names)
                self.books.tell(name)
                self.books.seen[f"step-{name}"] += 1
                await getattr(self, name)()
            await self.look()
            await self.judge()
            if self.books.wrong:
                return

    # --- steps

    async def publish(self) -> None:
        lot = self.lot
        for _ in range(lot.randint(1, 4)):
            self.count += 1
            attributes: dict[str, Any] = {
                "id": f"e{self.count}",
                "priority": lot.choice(self.levels),
                "key": lot.choice(["k1", "k1", "k2", None]),
                "subject": lot.choice(["s1", "s2"]),
                "tenant": lot.choice(["t1", "t1", "t2", "t3", None]),
                "instance": lot.choice(["i1", "i1", "i2"]),
            }
            attributes = {
                name: value for name, value in attributes.items() if value is not None
            }
            if lot.random() < 0.2:
                attributes["delay"] = lot.choice([1.0, 20.0, 300.0])
            if lot.random() < 0.15:
                attributes["expires"] = lot.choice([10.0, 60.0])
            if lot.random() < 0.1:
                attributes["dedup_id"] = lot.choice("xy")
            if (
                self.declared.dedupe
                and (known := self._placed())
                and lot.random() < 0.3
            ):
                await self.publish_again(lot.choice(known))
            else:
                await self.accept(lot.choice(_DO), attributes)

    async def accept(self, do: tuple[str, ...], attributes: dict[str, Any]) -> None:
        """Publish one event, whose handler does this, attempt by attempt."""
        books, name = self.books, attributes["id"]
        books.facts[name] = Fact(do, attributes, frozenset(self.declared.groups))
        receipt = await self.ops.publish(STREAM, Event("t", 1, **attributes))
        books.tell(
            "  ", attributes, do, "duplicate" if receipt.duplicate else receipt.entry_id
        )
        if "dedup_id" in attributes:
            value = attributes.get(self.declared.spread.by) or attributes["dedup_id"]
            books.deduped(
                (
                    partition_of(value, self.declared.spread.count),
                    attributes["dedup_id"],
                ),
                receipt.duplicate,
            )
        if receipt.duplicate:
            books.seen["duplicate"] += 1
            del books.facts[name]

    def _placed(self) -> list[str]:
        """Events whose copies go where they went: ids are known to a partition (docs/middleware.md)."""
        spread = self.declared.spread
        facts = sorted(self.books.facts.items())
        return [
            name
            for name, fact in facts
            if spread.count == 1 or fact.attributes.get(spread.by)
        ]

    async def publish_again(self, name: str) -> None:
        """The same event id once more, as by a publisher that knows of no answer: it is handled once."""
        attributes = {
            key: value
            for key, value in self.books.facts[name].attributes.items()
            if key != "dedup_id"
        }
        receipt = await self.ops.publish(STREAM, Event("t", 1, **attributes))
        self.books.tell("  ", name, "again", receipt.entry_id)
        self.books.seen["published-again"] += 1
        self.books.copies[name] += 1

    async def travel(self) -> None:
        seconds = self.lot.choice([1, 5, 5, 11, 30, 61, 300])
        self.books.tell("  ", seconds)
        await self.pass_time(seconds)

    async def finish(self) -> None:
        """Let some of what runs go on."""
        runs = [run for run in self.books.running.values() if run.parked]
        for run in self.lot.sample(runs, min(len(runs), self.lot.randint(1, 3))):
            self.books.tell("  ", *run.where)
            run.parked = False
            run.go_on.set()
        for worker in self.workers:
            await worker.rest()
        await self._bury()

    async def pause(self) -> None:
        scope = self._scope()
        self.books.tell("  ", scope)
        self.books.seen["pause-" + ("-".join(scope) or "stream")] += 1
        try:
            outcome = await self.ops.pauses(STREAM, by="run").pause(**scope)
        except NotFound:
            return  # A level that nobody declared yet.
        if outcome.new:  # Else it is that of a breaker, which lets its probes through.
            self.books.paused.append((scope, set()))

    async def resume(self) -> None:
        pauses = await self.ops.pauses(STREAM).list()
        if pauses and self.lot.random() < 0.3:
            await self._resume_all()
        elif pauses:
            pause = self.lot.choice(sorted(pauses, key=lambda pause: pause.scope))
            scope: dict[str, Any] = (
                {pause.attribute: pause.value} if pause.attribute else {}
            )
            scope |= {"group": pause.group} if pause.group else {}
            scope |= {} if pause.level is None else {"level": pause.level}
            self.books.tell("  ", scope)
            await self.ops.pauses(STREAM, by="run").resume(**scope)
            self.books.paused = [row for row in self.books.paused if row[0] != scope]

    async def _resume_all(self) -> None:
        await self.ops.pauses(STREAM, by="run").resume_all()
        self.books.paused.clear()

    def _scope(self) -> dict[str, Any]:
        lot = self.lot
        group = lot.choice(sorted(self.declared.groups))
        level = lot.choice(self.levels)
        return lot.choice(
            [
                {},
                {"group": group},
                {"level": level},
                {"group": group, "level": level},
                {"tenant": lot.choice(["t1", "t2"])},
                {"instance": lot.choice(["i1", "i2"])},
                {"group": group, "tenant": "t1"},
                {"key": "k1"},
            ]
        )

    async def cancel(self) -> None:
        if not self.books.facts:
            return
        name, group = (
            self.lot.choice(sorted(self.books.facts)),
            self.lot.choice(sorted(self.declared.groups)),
        )
        try:
            state = await self.ops.cancel(
                STREAM, name, self.lot.choice(["", group]), by="run"
            )
        except (NotCancelled, NotFound) as error:
            self.books.tell("  ", name, "refused", type(error).__name__)
            return
        self.books.tell("  ", name, state.state, state.group)
        self.books.seen[f"cancelled-{state.state}"] += 1
        self.books.gone |= {
            (known, name)
            for known in ([state.group] if state.group else self.declared.groups)
        }

    async def run_now(self) -> None:
        waits = [
            reason
            for reason in await self.oracle.reasons(self.levels)
            if reason.state in ("retry", "scheduled")
        ]
        if waits:
            reason = self.lot.choice(waits)
            self.books.tell("  ", told(reason))
            await self._tried(
                self.ops.run_now(STREAM, reason.event_id, reason.group, by="run")
            )

    async def erase(self) -> None:
        attribute, value = self.lot.choice(
            [("tenant", "t3"), ("key", "k2"), ("tenant", "t1")]
        )
        erased = await Erasure(self.ops.broker, STREAM, by="run").erase(
            attribute, value
        )
        self.books.tell("  ", attribute, value, erased)
        self.books.seen["erased"] += erased.total > 0
        for name, fact in self.books.facts.items():
            if fact.attributes.get(attribute) == value:
                self.books.gone |= {(group, name) for group in fact.groups}
                self.books.erased |= {(group, name) for group in fact.groups}

    async def replay(self) -> None:
        await self._letters("replay")

    async def discard(self) -> None:
        await self._letters("discard")

    async def _letters(self, what: str) -> None:
        group = self.lot.choice(sorted(self.declared.groups))
        letters = self.ops.dead_letters(STREAM, group, by="run")
        found = [letter async for letter in letters.iterate()]
        if not found:
            return
        some = self.lot.sample(found, self.lot.randint(1, len(found)))
        where = {(group, letter.event_id) for letter in some}
        self.books.tell("  ", what, sorted(where))
        self.books.seen[what] += 1
        if what == "replay":
            self.books.replayed |= where
            await letters.replay([letter.id for letter in some])
        else:
            self.books.gone |= where
            await letters.discard([letter.id for letter in some])

    async def unhold(self) -> None:
        group = self.lot.choice(sorted(self.declared.groups))
        held = self.ops.ordered_keys(STREAM, group, by="run")
        for key in await self._held(group):
            if self.lot.random() < 0.5:
                await held.skip(key.key)
                self.books.seen["skip"] += 1
            elif await self._tried(held.release(key.key)):
                self.books.replayed.add((group, key.event_id))
                self.books.seen["release"] += 1

    async def _held(self, group: str) -> Sequence[OrderedKey]:
        try:
            return await self.ops.ordered_keys(STREAM, group).list()
        except NotFound:
            return ()  # It keeps no order.

    async def limit(self) -> None:
        group = self.lot.choice(sorted(self.declared.groups))
        limits = self.ops.limits(STREAM, group, by="run")
        for limit in self.declared.groups[group].limits:
            if limit.rate:
                rate = self.lot.choice(["1/m", "60/m", ""])
                self.books.tell("  ", group, limit.name, rate)
                await (
                    limits.set(limit.name, rate) if rate else limits.reset(limit.name)
                )

    async def flush(self) -> None:
        await self.ops.broker.control.call("SCRIPT", "FLUSH")

    # --- workers

    async def add_worker(self) -> None:
        if len(self.workers) >= 3:
            return
        declared = self.declared
        if self.workers and len(self.levels) > 1 and self.lot.random() < 0.2:
            declared = replace(
                declared, serve=tuple(self.lot.sample(self.levels, 1)), weights=None
            )
        await self.start_worker(declared)

    async def start_worker(self, declared: Declared) -> Worker:
        """One more process, with a declaration of its own."""
        number = len(
            [line for line in self.books.story if line.startswith("  new worker")]
        )
        self.books.tell("  new worker", f"w{number}", declared.serve or "")
        self.books.declare(declared)
        worker = Worker(
            f"w{number}", declared, self.url, self.clock, self.books, self.namespace
        )
        await worker.start()
        self.workers.append(worker)
        return worker

    async def stop_worker(self) -> None:
        """In order."""
        if self.workers:
            worker = self.workers.pop(self.lot.randrange(len(self.workers)))
            self.books.tell("  stops", worker.name)
            await worker.stop()

    async def kill_worker(self) -> None:
        """By SIGKILL."""
        if self.workers:
            worker = self.workers.pop(self.lot.randrange(len(self.workers)))
            self.books.tell("  killed", worker.name)
            self.books.killed(worker.name, worker.held)
            await worker.kill()

    async def deploy(self) -> None:
        """Another declaration: side by side for a while, or at once."""
        self.declared = redraw(self.lot, self.declared)
        self.books.tell("  ", self.declared)
        if self.levels != self.declared.levels:
            self.books.seen["levels-changed"] += 1
        self.levels = self.declared.levels
        if self.lot.random() < 0.5 or len(self.workers) >= 3:
            while self.workers:
                await self.stop_worker()
        await self.add_worker()

    async def new_group(self) -> None:
        """A second group: the stream keeps each event until both are done."""
        if self.books.seen["step-new-group"] or "b" in self.declared.groups:
            return
        self.books.seen["step-new-group"] += 1
        groups = self.declared.groups | {
            "b": replace(self.declared.groups["a"], order_by=None, on_dead="continue")
        }
        self.declared = replace(self.declared, groups=groups)
        self.books.tell("  ", self.declared)
        await self._all_anew()

    async def drop_group(self) -> None:
        """Give the second group up, once no worker serves it any more."""
        if "b" not in self.declared.groups or self.lot.random() < 0.5:
            return
        self.books.seen["step-dropped-group"] += 1
        self.declared = replace(self.declared, groups={"a": self.declared.groups["a"]})
        await self._all_anew()
        await self.ops.groups(STREAM, by="run").drop("b", force=True)
        self.books.paused = [
            row for row in self.books.paused if row[0].get("group") != "b"
        ]
        self.books.gone |= {("b", name) for name in self.books.facts}

    async def _all_anew(self) -> None:
        while self.workers:
            await self.stop_worker()
        await self.add_worker()

    async def _tried(self, call: Awaitable[Any]) -> bool:
        try:
            await call
        except StreamsError as error:
            self.books.tell("  ", "refused", type(error).__name__)
            return False
        return True

    # --- the end

    async def _end(self) -> None:
        """Nothing holds anything any more: all that was accepted comes to its end, and nothing is left."""
        if not self.books.wrong:
            self.books.tell("the end")
            while self.workers:
                await self.stop_worker()
            await self.add_worker()
            await self._drain()
            # What nobody needs any more is given back by the sweeps of the next hour.
            for _ in range(3):
                await self.pass_time(1300)
                await self.look()
        while self.workers:
            await self.workers.pop().stop()
        if not self.books.wrong:
            await self._balance()

    async def _drain(self) -> None:
        reasons: list[Reason] = []
        for _ in range(_LAST):
            await self._resume_all()
            await self.look()
            while any(run.parked for run in self.books.running.values()):
                await self.finish()
            if not self.workers:
                await self.add_worker()
            await self._skip_held()
            await self.look()
            await self._skip_held()
            reasons = await self.oracle.reasons(self.levels)
            if not reasons and not self.books.running:
                await self._resume_all()  # A breaker may have opened once more.
                return
            await self.pass_time(30)
        self.books.wrong += [f"it never ends: {told(reason)}" for reason in reasons]

    async def _skip_held(self) -> None:
        for name in self.declared.groups:
            for key in await self._held(name):
                await self.ops.ordered_keys(STREAM, name, by="run").skip(key.key)

    async def _balance(self) -> None:
        books = self.books
        dead: set[Where] = set()
        for group in books.orders:
            async for letter in self.ops.dead_letters(STREAM, group).iterate():
                dead.add((group, letter.event_id))
                books.seen[f"dead-{letter.reason}"] += 1
                if (
                    letter.reason == "stalled"
                    and (group, letter.event_id) not in books.alone
                ):
                    books.wrong.append(
                        f"{group} {letter.event_id} was buried as stalled, and never ran alone"
                    )
        for name, fact in books.facts.items():
            for where in ((group, name) for group in fact.groups):
                if where not in books.done | dead | books.gone:
                    books.wrong.append(
                        f"{where} {fact.do} is gone, and nothing ended it"
                    )
                # One that was beside others when they were killed has one attempt alone, whatever its retries.
                most = books.most_retries[where[0]] + 1 + (where in books.stalled)
                most *= 1 + books.copies[name]
                if (
                    where not in books.replayed
                    and not books.breaks
                    and books.burnt[where] > most
                ):
                    books.wrong.append(
                        f"{where} burnt {books.burnt[where]} attempts, and has {most}"
                    )
        books.wrong += [
            f"left at the end: {key}"
            for key in await self.oracle.leftovers(self._limits())
        ]


_STEPS: dict[str, int] = {
    "publish": 12,
    "travel": 6,
    "finish": 5,
    "pause": 2,
    "resume": 3,
    "cancel": 2,
    "run_now": 1,
    "erase": 1,
    "replay": 2,
    "discard": 1,
    "unhold": 2,
    "limit": 1,
    "flush": 1,
    "add_worker": 2,
    "stop_worker": 2,
    "kill_worker": 1,
    "deploy": 2,
    "new_group": 1,
    "drop_group": 1,
}

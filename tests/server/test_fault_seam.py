"""Every call that one entry's life makes, failed once before and once after it reached the server.

The seam sits under all that talks to the server (``NodeLink._exchange``) and fails exactly one call of one broker:
``before`` it is sent, or ``after`` the server has executed it, so that the answer is lost. The roles then go on by
themselves, as they would after a cut connection, and the books must balance: nothing lost, nothing in two places,
nothing left behind, and no handler started once more than its event's attempts say. A run without a fault counts the
calls; then there is one run for each call and kind, many at a time, each in a namespace of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from streams import (
    Broker,
    BrokerUnavailable,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Event,
    Filter,
    Levels,
    Pauses,
    Producer,
    ProducerOptions,
    PublishUnknown,
    Reclaimer,
    ReclaimerOptions,
    Reject,
    Retry,
    Scheduler,
    Snooze,
)
from streams.broker.entries.fetch import Fetching
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.server.link import NodeLink
from streams.handlers.routes import Route

pytestmark = pytest.mark.in_turn

LEVELS = Levels([0, 5])
LEASE = 2.0
AT_ONCE = 40
KINDS = ("before", "after")
_numbers = itertools.count()


class Seam:
    """Counts the calls of one broker and fails one of them."""

    def __init__(self) -> None:
        self.calls = 0
        self.fail_at = 0
        self.kind = ""
        self.hit = ""
        self.on = False

    async def pass_on(self, link: NodeLink, commands, within, exchange) -> list:
        if not self.on:
            return await exchange(link, commands, within)
        self.calls += 1
        if self.calls != self.fail_at:
            return await exchange(link, commands, within)
        self.hit = " ".join(str(part)[:60] for part in commands[0][:2])
        if self.kind == "after":
            await exchange(link, commands, within)
        if link._wire is not None:
            await link._drop(link._wire)
        raise BrokerUnavailable("the seam failed this call", sent=self.kind == "after")


seams: dict[int, Seam] = {}


@pytest.fixture(autouse=True)
def _seam(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = NodeLink._exchange

    async def seamed(link: NodeLink, commands, within):
        connect = (
            link._connect.func if isinstance(link._connect, partial) else link._connect
        )
        # Where slots are is asked whenever something failed; that is no call of an entry's life.
        seam = None if commands[0][0] == "CLUSTER" else seams.get(id(connect.__self__))
        return await (
            seam.pass_on(link, commands, within, exchange)
            if seam
            else exchange(link, commands, within)
        )

    monkeypatch.setattr(NodeLink, "_exchange", seamed)
    monkeypatch.setattr("streams.consuming.fetcher.POLL", 0.1)


@dataclass
class Life:
    """One run: a broker behind a seam, the roles, and what the handlers saw."""

    broker: Broker
    seam: Seam
    behave: Callable[[Event], None]
    starts: list[tuple[str, int]] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    refused: list[BrokerUnavailable] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.producer = Producer(self.broker, "s", ProducerOptions(levels=LEVELS))
        self.keys = self.broker.keys("s")
        self.letters = DeadLetters(self.broker, "s", "g", by="test")
        self.consumer: Consumer | None = None

    async def handle(self, event: Event) -> None:
        self.starts.append((event.id, event.attempt))
        self.behave(event)

    async def publish(self, *idents: str, **attributes) -> None:
        """Publish events of these ids; what a producer may not send again by itself is not sent again here either."""
        try:
            if len(idents) == 1:
                await self.producer.publish(1, type="t", id=idents[0], **attributes)
            else:
                await self.producer.publish_many(
                    Event("t", 1, id=ident) for ident in idents
                )
        except PublishUnknown as unknown:
            self.unknown |= set(unknown.event_ids)
        except BrokerUnavailable as refused:
            self.refused.append(refused)
        else:
            self.stored |= set(idents)

    async def again(self, call: Callable[[], Awaitable[object]]) -> None:
        """What an operator does who sees an error: the same command once more."""
        for _ in range(3):
            with contextlib.suppress(BrokerUnavailable):
                await call()
                return
        raise AssertionError("failed three times with one fault")

    @contextlib.asynccontextmanager
    async def roles(self, **options):
        retry = Retry(max_retries=1, delay=0.0)
        self.consumer = Consumer(
            self.broker,
            "s",
            "g",
            Route(self.handle, retry=retry),
            ConsumerOptions(levels=LEVELS, lease=LEASE, **options),
        )
        reclaimer = Reclaimer(
            self.broker,
            "s",
            "g",
            retry,
            ReclaimerOptions(levels=LEVELS, lease=LEASE, interval=0.15),
        )
        scheduler = Scheduler(self.broker, "s", LEVELS)
        roles = (self.consumer, reclaimer, scheduler)
        tasks = [asyncio.create_task(role.run()) for role in roles]
        try:
            yield
        finally:
            for role in roles:
                role.stop()
            await asyncio.wait_for(asyncio.gather(*tasks), 10)

    async def look(self, *commands) -> list:
        """Ask the server past the seam."""
        on, self.seam.on = self.seam.on, False
        try:
            return await self.broker.control.batch(commands)
        finally:
            self.seam.on = on

    async def quiet(self) -> bool:
        """Whether nothing of the stream is unfinished."""
        keys = self.keys
        counts = await self.look(
            *(("XLEN", keys.level(level)) for level in LEVELS.ascending),
            ("ZCARD", keys.scheduled()),
        )
        return not any(counts)

    async def until_quiet(self) -> None:
        async with asyncio.timeout(15):
            while not await self.quiet():
                await asyncio.sleep(0.02)

    async def books(self) -> set[str]:
        """Check that nothing is left behind; returns the ids of the dead."""
        keys = self.keys
        assert await self.quiet()
        for level in LEVELS.ascending:
            (pending,) = await self.look(("XPENDING", keys.level(level), "g"))
            assert isinstance(pending, Exception) or pending[0] == 0
        rows, records, fields = await self.look(
            ("ZRANGE", keys.retry("g"), 0, -1),
            ("HKEYS", keys.attempts("g")),
            ("HLEN", keys.scheduled_fields()),
        )
        # A row of an entry that is done is taken out when it is due; a record must not outlive its entry.
        assert (records, fields) == ([], 0), (rows, records, fields)
        self.seam.on = False
        assert not any(error.sent for error in self.refused), (
            "what may be stored must be called unknown"
        )
        return {letter.event_id async for letter in self.letters.iterate(Filter())}

    def attempts(self, ident: str) -> list[int]:
        return [attempt for event_id, attempt in self.starts if event_id == ident]


Story = Callable[[Life], Awaitable[None]]


def nothing(event: Event) -> None:
    pass


def fail_first(event: Event) -> None:
    if event.attempt == 1:
        raise ValueError


def fail_always(event: Event) -> None:
    raise ValueError


def reject(event: Event) -> None:
    raise Reject("never")


async def tell(life: Life, *expected: int, dead: bool = False) -> None:
    """Publish one event, let it live, and check what its handler saw and where it ended."""
    async with life.roles():
        await life.publish("a")
        await life.until_quiet()
    ended = await life.books()
    seen = life.attempts("a")
    if "a" in life.stored or seen or ended:
        assert seen == list(expected)
        assert ended == ({"a"} if dead else set())
    else:
        assert "a" not in life.stored


async def handled(life: Life) -> None:
    await tell(life, 1)


async def retried(life: Life) -> None:
    await tell(life, 1, 2)


async def used_up(life: Life) -> None:
    await tell(life, 1, 2, dead=True)


async def rejected(life: Life) -> None:
    await tell(life, 1, dead=True)


async def snoozed(life: Life) -> None:
    await tell(life, 1, 1)


async def many(life: Life) -> None:
    idents = {"a", "b", "c"}
    async with life.roles():
        await life.publish(*sorted(idents))
        await life.until_quiet()
    assert await life.books() == set()
    seen = sorted(life.starts)
    assert seen == [(ident, 1) for ident in sorted({ident for ident, _ in seen})]
    assert {ident for ident, _ in seen} in (idents, set())
    assert life.stored <= {ident for ident, _ in seen} <= life.stored | life.unknown


async def scheduled(life: Life) -> None:
    async with life.roles():
        await life.publish("a", delay=0.05)
        await life.until_quiet()
    assert await life.books() == set()
    assert life.attempts("a") == [1] or ("a" not in life.stored and not life.starts)


async def once(life: Life) -> None:
    """With a dedup id nothing is unknown: the producer asks again until it is sure."""
    async with life.roles():
        await life.publish("a", dedup_id="order-1")
        await life.publish("b", dedup_id="order-1")
        await life.until_quiet()
    assert life.stored == {"a", "b"}
    assert await life.books() == set()
    assert life.starts == [("a", 1)]


async def replayed(life: Life) -> None:
    async with life.roles():
        await life.publish("a")
        await life.until_quiet()
        life.behave = nothing
        await life.again(lambda: life.letters.replay(Filter()))
        await life.until_quiet()
    assert await life.books() == set()
    assert life.attempts("a") == [1, 1] or ("a" not in life.stored and not life.starts)


async def discarded(life: Life) -> None:
    async with life.roles():
        await life.publish("a")
        await life.until_quiet()
        await life.again(lambda: life.letters.discard(Filter()))
    assert await life.books() == set()


async def released(life: Life) -> None:
    """A worker stops in the middle of an attempt; the next one has the event at no cost."""
    running = asyncio.Event()

    async def wait(event: Event) -> None:
        life.starts.append((event.id, event.attempt))
        if len(life.starts) == 1:
            running.set()
            await asyncio.sleep(60)

    life.handle = wait  # type: ignore[method-assign]
    async with life.roles(cancel_grace=0.5):
        await life.publish("a")
        if "a" in life.stored or not await life.quiet():
            await asyncio.wait_for(running.wait(), 10)
        assert life.consumer is not None
        life.consumer.stop(grace=0.0)
    async with life.roles():
        await life.until_quiet()
    assert await life.books() == set()
    # If the release itself is lost the lease runs out, and that counts as a stall: honest, the attempt had begun.
    assert life.attempts("a") in ([1, 1], [1, 2], [])


async def paused(life: Life) -> None:
    """Held while it is paused, handled afterwards, whatever call of the operator fails."""
    async with life.roles():
        await life.publish("a")
        await life.publish("c")  # If the first was refused there is no stream yet.
        await life.until_quiet()
        pauses = Pauses(life.broker, "s", by="test")
        await life.again(pauses.pause)
        # Until every worker has looked.
        held = asyncio.get_running_loop().time() + 0.25
        while asyncio.get_running_loop().time() < held:
            await asyncio.sleep(0.01)
        await life.publish("b")
        assert not life.attempts("b")
        await life.again(pauses.resume_all)
        await life.until_quiet()
    assert await life.books() == set()
    assert life.attempts("b") == [1] or "b" not in life.stored


async def stalled(life: Life) -> None:
    """A consumer is killed with an entry in its hands."""
    on, life.seam.on = life.seam.on, False
    fetching = Fetching(GroupConsumer(life.broker, life.keys, LEVELS, "g", "killed"))
    await fetching.ensure_group()
    await life.publish("a")
    (delivery,) = await fetching.take(1)
    entry = (life.keys.level(0), "g", "killed", 0, delivery.entry_id)
    await life.broker.control.call("XCLAIM", *entry, "IDLE", 60_000, "JUSTID")
    await fetching.close()
    life.seam.on = on
    async with life.roles():
        await life.until_quiet()
    assert await life.books() == set()
    assert life.attempts("a") == [2]


def snooze_first(life: Life) -> Callable[[Event], None]:
    def behave(event: Event) -> None:
        if len(life.starts) == 1:
            raise Snooze(0.01)

    return behave


STORIES: dict[Story, Callable[[Event], None] | None] = {
    handled: nothing,
    retried: fail_first,
    used_up: fail_always,
    rejected: reject,
    snoozed: None,
    many: nothing,
    scheduled: nothing,
    once: nothing,
    replayed: reject,
    discarded: reject,
    released: nothing,
    paused: nothing,
    stalled: nothing,
}


async def run(url: str, story: Story, fail_at: int = 0, kind: str = "") -> Seam:
    broker = Broker(url, namespace=f"seam{next(_numbers)}")
    seam = seams[id(broker._cluster or broker)] = Seam()
    seam.fail_at, seam.kind = fail_at, kind
    try:
        async with broker:
            life = Life(broker, seam, STORIES[story] or nothing)
            if STORIES[story] is None:
                life.behave = snooze_first(life)
            seam.on = True
            try:
                await story(life)
            except BaseException as error:
                error.add_note(
                    f"call {fail_at} ({seam.hit}) failed {kind} it reached the server"
                )
                raise
    finally:
        del seams[id(broker._cluster or broker)]
    return seam


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_any_one_call_may_fail(server, story):
    # Of several, since what is called by the clock depends on how fast the rest is.
    calls = min(
        seam.calls
        for seam in await asyncio.gather(*(run(server.url, story) for _ in range(4)))
    )
    assert calls >= 4
    # Each fault costs a connection, and by TLS that is work enough to keep 40 lives from their leases.
    limit = asyncio.Semaphore(4 if server.url.startswith("rediss://") else AT_ONCE)

    async def one(fail_at: int, kind: str) -> Seam:
        async with limit:
            return await run(server.url, story, fail_at, kind)

    runs = [one(n, kind) for n in range(1, min(calls, 40) + 1) for kind in KINDS]
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if failures:
        raise BaseExceptionGroup(
            f"{len(failures)} of {len(outcomes)} runs", failures[:5]
        )
    assert sum(bool(seam.hit) for seam in outcomes) >= len(outcomes) / 2, (
        "most faults must have happened"
    )

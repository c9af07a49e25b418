"""Each entry that becomes a dead letter has one line in the log that names it, whichever part decides that."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import pytest

from streams import DeadLetters, Event, Producer, Reject, Retry
from streams.handlers.routes import Route, Router
from streams.policy.retry import AttemptRecord, Bury
from tests.conftest import eventually
from tests.server.consuming import UNREADABLE, consuming
from tests.server.stalling import reclaimer, stall

pytestmark = pytest.mark.in_turn
ONCE = Retry(max_retries=0)


@dataclass
class Order:
    number: int


class Stern(Retry):
    """A policy of the user's, with a word of its own."""

    def after_failure(self, *_: Any, **__: Any) -> Bury:
        return Bury("shop-is-closed")


class Hopeless(Retry):
    """A policy of the user's that fails by more than an exception."""

    def after_failure(self, *_: Any, **__: Any) -> Bury:
        raise SystemExit(3)


async def fails(event: Event) -> None:
    raise LookupError("no such sku")


async def refuses(event: Event) -> None:
    raise Reject("not for sale")


async def takes_orders(event: Event[Order]) -> None:
    raise AssertionError("it never starts")


async def never_ends(event: Event) -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if event.data == "end":
                raise
            event.data = "end"


HANDLED: dict[str, tuple[Route, str]] = {
    "rejected": (Route(refuses), "Reject"),
    "retries-used-up": (Route(fails, retry=ONCE), "LookupError"),
    "not-retryable": (
        Route(fails, retry=Retry(reject_on=(LookupError,))),
        "LookupError",
    ),
    "shop-is-closed": (Route(fails, retry=Stern()), "LookupError"),
    "retries-used-up, by a timeout": (
        Route(never_ends, retry=ONCE, timeout=0.05),
        "TimeoutError",
    ),
    "retries-used-up, by a defect": (Route(fails, retry=Hopeless()), "SystemExit"),
    "invalid": (Route(takes_orders), "InvalidData"),
    "no-handler": (Route(fails, types=["other"]), "LookupError"),
}
STALLED = {"stalled": 2, "stalled, whatever its retries": 3}


@pytest.mark.parametrize("way", [*HANDLED, *UNREADABLE, *STALLED])
async def test_each_death_is_told_once_with_what_finds_it(
    broker, caplog, monkeypatch, way
):
    monkeypatch.setattr("streams.consuming.failing.DEFAULT", ONCE)
    letters = DeadLetters(broker, "s", "g")
    caplog.set_level(logging.INFO, "streams")
    if way in UNREADABLE:
        fields, reason = UNREADABLE[way]
        await broker.control.call("XADD", broker.keys("s").level(0), "*", *fields)
        error = {"expired": "TimeoutError", "too-large": "EventTooLarge"}.get(
            reason, "MalformedEvent"
        )
    else:
        reason = way.partition(",")[0]
        await Producer(broker, "s").publish(
            {"phone": "5511987654321", "text": "canary"}, type="t"
        )
    if way in STALLED:
        error, times = "Stalled", STALLED[way]
        for _ in range(times):
            await stall(broker)
            await reclaimer(broker, Retry(max_retries=times - 1)).sweep()
    else:
        route, error = (Route(fails), error) if way in UNREADABLE else HANDLED[way]
        async with consuming(
            broker, Router([route]), max_event_bytes=1000, cancel_grace=0.2
        ) as consumer:
            await eventually(lambda: consumer.stats.dead == 1, what="the dead letter")
    (letter,) = await letters.page()
    assert letter.reason == reason
    (line,) = [line for line in caplog.records if line.streams_message == "dead letter"]
    assert (line.levelno, line.where, line.entry, line.reason) == (
        logging.ERROR,
        "s/g",
        letter.entry_id,
        reason,
    )
    assert line.event_id == (letter.event_id or f"0|{letter.entry_id}")
    assert line.event_type == letter.type
    assert line.attempt == letter.attempts or letter.attempts == 0
    assert line.error == error
    assert "streams dead ls s g" in line.next
    said = line.getMessage()
    assert all(
        fact in said
        for fact in (
            f"event_id={line.event_id}",
            f"reason={reason}",
            "next='it waits for a replay",
        )
    )


async def test_what_was_not_written_is_no_death(broker, caplog):
    """The owner has changed between the decision and the write."""
    await Producer(broker, "s").publish(1, type="t")
    (delivery,) = await stall(broker)
    record = AttemptRecord.from_json(delivery.record)
    record.suspect = True
    attempts = broker.keys("s").attempts("g")
    await broker.control.call(
        "HSET", attempts, f"0|{delivery.entry_id}", record.to_json()
    )
    sweeper = reclaimer(broker, ONCE)
    settle = sweeper._settling.settle

    async def late(*given: Any) -> Any:
        await broker.control.call(
            "XCLAIM", broker.keys("s").level(0), "g", "another", 0, delivery.entry_id
        )
        return await settle(*given)

    sweeper._settling.settle = late
    with caplog.at_level(logging.INFO, "streams"):
        await sweeper.sweep()
    assert [
        line for line in caplog.records if line.streams_message == "dead letter"
    ] == []
    assert await DeadLetters(broker, "s", "g").count() == 0

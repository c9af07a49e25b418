"""How one asks why an event waits: about many, in words that are wrong, over partitions, and by the doctor."""

from __future__ import annotations

from typing import Any

import pytest

from streams import (
    Broker,
    Cancellations,
    ConfigurationError,
    Event,
    NotFound,
    Pauses,
    Pipeline,
    Settings,
    Status,
    sync,
)
from streams.admin.why import Wanted, Why
from streams.broker.entries.settle import Postponed
from streams.doctor import Doctor
from streams.policy.partitions import partition_name
from tests.server.waiting import ask, old, publish, settling, speak, take


async def test_what_was_cancelled_is_told_with_who_did_it(broker):
    (scheduled,) = await publish(broker, Event("t", 1, delay=600))
    cancelling, status = Cancellations(broker, "s", by="ana"), Status(broker)
    await cancelling.cancel(scheduled)
    reason = await ask(broker, scheduled)
    assert (reason.state, reason.facts["by"]) == ("unknown", "ana")
    assert "it was cancelled by ana at 2" in reason.sentence
    with pytest.raises(
        NotFound, match=f"'s' has '{scheduled}' no more: it was cancelled by ana at 2"
    ):
        await status.find("s", scheduled)
    await publish(broker)
    (taken,) = await take(broker, 1)
    await settling(broker).settle([], [Postponed(taken, 600_000)], [])
    place = f"0|{taken.entry_id}"
    await cancelling.cancel(place)
    reason = await ask(broker, place)
    assert (reason.state, reason.facts["by"]) == ("done", "ana")
    assert "it was cancelled by ana at 2" in reason.sentence
    with pytest.raises(NotFound, match="no trace of 'another'"):
        await status.find("s", "another")


async def test_what_nobody_serves_is_there(broker):
    await publish(broker, Event("t", 1, id="ungrouped"))
    status = Status(broker)
    assert [
        (row.state, row.group, row.level) for row in await status.find("s", "ungrouped")
    ] == [("pending", "", 0)]
    await take(broker, 0)
    await broker.control.call(
        "XADD", broker.keys("s").level(3), "*", "type", "t", "id", "odd", "data", "1"
    )
    (found,) = await status.find("s", "odd")
    assert (found.state, found.group, found.level, found.type) == (
        "pending",
        "",
        3,
        "t",
    )
    reason = await ask(broker, "odd")
    assert (reason.state, reason.level) == ("level-unserved", 3)


# --- several at once


async def test_by_tenant_key_and_level(broker):
    await take(broker, 0)
    await publish(
        broker,
        *(
            Event("t", n, tenant="acme", key="k", priority=5 * (n % 2))
            for n in range(4)
        ),
        Event("t", 9, tenant="other"),
        Event("t", 9, tenant="acme", delay=600),
    )

    async def states(**which: Any) -> list[str]:
        return [
            reason.state
            for reason in (await Why(broker, "s").ask(Wanted(**which))).reasons
        ]

    assert await states(tenant="acme") == ["no-worker"] * 4 + ["scheduled"]
    assert await states(key="k") == ["no-worker"] * 4
    assert await states(level=5) == ["no-worker"] * 2
    assert await states(tenant="nobody") == []


async def test_no_more_than_a_hundred_are_judged(broker):
    await take(broker, 0)
    await publish(broker, *(Event("t", n, tenant="acme") for n in range(103)))
    found = await Why(broker, "s").ask(Wanted(tenant="acme"))
    assert (len(found.reasons), found.more, found.is_complete) == (100, 3, True)


async def test_bad_questions(broker):
    with pytest.raises(ConfigurationError, match="only one"):
        Wanted("e", key="k")
    with pytest.raises(ConfigurationError, match="give one"):
        Wanted()
    with pytest.raises(NotFound, match="no stream"):
        await Why(broker, "missing").ask(Wanted("e"))
    await publish(broker)
    with pytest.raises(NotFound, match="no group 'x'"):
        await Why(broker, "s").ask(Wanted("e"), "x")


# --- the doctor


async def findings(broker: Broker) -> list[str]:
    found = await Doctor(broker, role="operator").examine("s")
    return [
        finding.where for finding in found if finding.code == "runnable-but-waiting"
    ]


async def test_the_doctor_finds_what_waits_for_nothing(broker):
    await take(broker, 0)
    await old(broker)
    assert await findings(broker) == []  # No worker: that has a finding of its own.
    await speak(broker)
    assert await findings(broker) == ["s/g"]
    await Pauses(broker, "s").pause(level=0)
    assert await findings(broker) == []


async def test_the_doctor_finds_nothing_of_what_came_just_now(broker):
    await take(broker, 0)
    await speak(broker)
    await publish(broker)
    assert await findings(broker) == []


# --- several partitions


async def test_of_a_stream_with_partitions(server, namespace):
    async with Pipeline(
        settings=Settings(url=server.url, namespace=namespace)
    ) as pipeline:
        pipeline.stream("p", partitions=3)
        await pipeline.broker.control.call(
            "SET", pipeline.broker.keys("p").partitions(), "3 key"
        )
        # As a worker declares them.
        for name in map(partition_name, ["p"] * 3, range(3)):
            await pipeline.broker.control.call(
                "SADD", pipeline.broker.keys(name).levels(), 0, 1, 5, 10
            )
        receipts = [
            await pipeline.publish("p", n, type="t", key=f"k{n}", tenant="acme")
            for n in range(9)
        ]
        (reason,) = (await pipeline.why("p", receipts[4].event_id)).reasons
        assert (reason.state, reason.event_id) == ("no-worker", receipts[4].event_id)
        found = await pipeline.why("p", tenant="acme")
        assert {reason.event_id for reason in found.reasons} == {
            receipt.event_id for receipt in receipts
        }
        parts = [await pipeline.why("p", tenant="acme", partition=n) for n in range(3)]
        assert sum(len(part.reasons) for part in parts) == 9
        (unknown,) = (await pipeline.why("p", "never")).reasons
        assert unknown.state == "unknown"


def test_the_blocking_form(server, namespace):
    with sync.Pipeline(
        settings=Settings(url=server.url, namespace=namespace)
    ) as pipeline:
        receipt = pipeline.publish("s", 1, type="t", delay=600)
        (reason,) = pipeline.why("s", receipt.event_id).reasons
        assert reason.state == "scheduled"

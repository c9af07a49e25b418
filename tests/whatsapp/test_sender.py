"""The sender in front of the sandbox: what becomes of a message, whatever the provider answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from streams import NotFound
from streams.errors import InvalidMessage
from streams.whatsapp import Image, MessageStatus, Text
from streams.whatsapp.sandbox.phone import Fault
from streams.whatsapp.sender import SEND
from streams.whatsapp.status import STREAM
from tests.conftest import eventually
from tests.whatsapp.stage import PHONE, QUICK, stage


async def status_is(place, ident: str, wanted: str) -> None:
    async def reached() -> bool:
        return await place.messages.status(ident) == wanted

    await eventually(reached, what=f"the message to be {wanted}")


async def test_a_message_is_queued_sent_and_followed(server, namespace):
    async with stage(server, namespace) as place:
        ident = await place.messages.add(
            PHONE, Text("Olá!"), tenant=7, instance=1, priority=10
        )
        await status_is(place, ident, "sent")
        (taken,) = place.phone.taken
        assert (taken.phone_number_id, taken.to, taken.kind, taken.callback) == (
            "p1",
            f"+{PHONE}",
            "text",
            ident,
        )
        record = await place.messages.show(ident)
        assert record.provider_id == taken.wamid
        assert [row["state"] for row in record.timeline] == [
            "pending",
            "processing",
            "sent",
        ]
        assert (await place.messages.show(taken.wamid)).id == ident
        assert (await place.messages.totals())["sent"] == 1
        assert (await place.messages.counts()) == (0, 0, 0, 0) or (
            await place.messages.counts()
        ).pending == 0
        assert await place.messages.status("unknown") is None
        with pytest.raises(NotFound):
            await place.messages.show("unknown")


async def test_no_number_and_no_body_is_in_a_key_or_in_what_is_followed(
    server, namespace
):
    async with stage(server, namespace) as place:
        await place.messages.add(PHONE, Text("a secret text"), idempotency_key="k")
        await eventually(lambda: len(place.phone.taken) == 1)
        control = place.application.pipeline.asynchronous.broker.control
        for key in await control.call("KEYS", f"{namespace}:*"):
            assert PHONE.encode() not in key
            if b":message:" in key:
                stored = b" ".join(await control.call("HGETALL", key))
                assert PHONE.encode() not in stored
                assert b"secret" not in stored


async def test_an_idempotency_key_makes_one_message_of_many(server, namespace):
    async with stage(server, namespace) as place:
        idents = [
            await place.messages.add(
                PHONE, Text("x"), tenant="a", idempotency_key="o-1"
            )
            for _ in range(5)
        ]
        other = await place.messages.add(
            PHONE, Text("x"), tenant="b", idempotency_key="o-1"
        )
        await eventually(lambda: len(place.phone.taken) == 2)
        assert len(set(idents)) == 1
        assert other not in idents
        await status_is(place, idents[0], "sent")


async def test_messages_of_a_recipient_arrive_in_order(server, namespace):
    async with stage(server, namespace) as place:
        place.phone.faults = [Fault(131000, share=0.2, status=500)]
        for n in range(30):
            await place.messages.add(
                f"551199999{n % 3:04}", Text(str(n)), max_retries=50, retry_delay=0.01
            )
        await eventually(lambda: len(place.phone.taken) == 30)
    order = defaultdict(list)
    for taken in place.phone.taken:
        order[taken.to].append(int(taken.body["text"]["body"]))
    assert all(found == sorted(found) for found in order.values())


async def test_what_can_pass_is_tried_again_and_what_cannot_fails(server, namespace):
    async with stage(server, namespace) as place:
        place.phone.faults = [Fault(131000, count=2, status=500)]
        ident = await place.messages.add(PHONE, Text("x"))
        await status_is(place, ident, "sent")
        states = [row["state"] for row in (await place.messages.show(ident)).timeline]
        assert states.count("retrying") == 2
        place.phone.faults = [Fault(131047, count=1)]
        ident = await place.messages.add(PHONE, Text("x"))
        await status_is(place, ident, "failed")
        record = await place.messages.show(ident)
        assert record.reason == "window_closed"
        assert record.timeline[-1]["code"] == "131047"
        assert place.sent(ident) == 0
        assert (await place.messages.counts()).failed == 1


@pytest.mark.parametrize(("code", "tries"), [(131000, 3), (1, 3), (131053, 2)])
async def test_retries_end(server, namespace, code, tries):
    """After the message's own number of retries, or those that the code is worth."""
    async with stage(server, namespace) as place:
        place.phone.faults = [Fault(code, status=500)]
        ident = await place.messages.add(
            PHONE, Text("x"), max_retries=2, retry_delay=0.01
        )
        await status_is(place, ident, "failed")
        assert place.phone.answers[str(code)] == tries


async def test_a_throttled_pair_waits_alone_and_for_nothing(server, namespace):
    async with stage(server, namespace) as place:
        place.phone.faults = [Fault(131056, count=1, retry_after=1, to=PHONE)]
        at = time.monotonic()
        first = await place.messages.add(PHONE, Text("x"), max_retries=0)
        await eventually(lambda: place.phone.answers["131056"] == 1)
        other = await place.messages.add("5511999990001", Text("x"))
        await status_is(place, other, "sent")
        assert place.sent(first) == 0
        await status_is(place, first, "sent")
        assert time.monotonic() - at >= 0.9


async def test_a_rate_is_kept(server, namespace):
    settings = replace(QUICK, rate="20/s", burst=5)
    async with stage(server, namespace, settings) as place:
        before = time.time()
        for n in range(20):
            await place.messages.add(f"551199999{n:04}", Text("x"))
        await eventually(lambda: len(place.phone.taken) == 20)
    # From before the first start, not from its arrival: that may come late, and the last one may not.
    assert place.phone.taken[-1].at - before >= 15 / 20


async def test_a_disconnected_instance_keeps_its_messages_and_goes_on_by_itself(
    server, namespace, monkeypatch
):
    monkeypatch.setattr("streams.whatsapp.sender._PROBE", 0.5)
    async with stage(server, namespace) as place:
        place.phone.disconnected.add("p1")
        idents = [
            await place.messages.add(f"551199999{n:04}", Text("x"), max_retries=0)
            for n in range(20)
        ]
        pauses = place.application.pipeline.asynchronous.pauses(STREAM)

        async def paused() -> bool:
            return bool(await pauses.list())

        await eventually(paused)
        (pause,) = await pauses.list()
        assert (pause.attribute, pause.value) == ("instance", "1")
        await status_is(place, idents[0], "retrying")
        assert place.phone.answers["133010"] < 20
        place.phone.disconnected.clear()
        await eventually(lambda: len(place.phone.taken) == 20, seconds=15)
    assert max(Counter(taken.callback for taken in place.phone.taken).values()) == 1


@pytest.mark.parametrize(
    ("policy", "state", "times"), [("fail", "failed", 1), ("resend", "sent", 2)]
)
async def test_an_unknown_outcome_is_left_to_the_policy(
    server, namespace, policy, state, times
):
    settings = replace(QUICK, timeout=0.3, unknown_policy=policy)
    async with stage(server, namespace, settings) as place:
        place.phone.faults = [Fault(-1, count=1)]
        ident = await place.messages.add(PHONE, Text("x"))
        await eventually(lambda: place.sent(ident) == 1)
        await asyncio.sleep(0.7)
        assert await place.messages.status(ident) == MessageStatus.PROCESSING
        assert place.sent(ident) == 1, "never sent again blindly"
        await status_is(place, ident, state)
        await eventually(lambda: place.sent(ident) == times)


async def test_a_worker_that_was_lost_while_sending_does_not_send_again(
    server, namespace
):
    """Its attempt is on record, its outcome is not: that is unknown, too."""
    async with stage(server, namespace) as place:
        pipeline = place.application.pipeline.asynchronous
        from streams.whatsapp.status import tracking

        notes = tracking(pipeline, 60.0)
        await notes.note("lost", "processing", fields={"trying": "1"})
        data = {"to": PHONE, "type": "text", "text": {"body": "x"}}
        await pipeline.publish(
            STREAM, data, type=SEND, id="lost", tenant="1", instance="1", subject="s"
        )
        await status_is(place, "lost", "failed")
        assert not place.phone.taken


async def test_a_replayed_failure_is_sent_again(server, namespace):
    async with stage(server, namespace) as place:
        place.phone.faults = [Fault(131047, count=1)]
        ident = await place.messages.add(PHONE, Text("x"))
        await status_is(place, ident, "failed")
        letters = place.application.pipeline.asynchronous.dead_letters(STREAM, "sender")

        async def buried() -> bool:
            return await letters.count() == 1

        await eventually(buried)
        await letters.replay([(await letters.page())[0].id])
        await status_is(place, ident, "sent")
        assert place.sent(ident) == 1


async def test_what_expired_or_is_no_message_fails(server, namespace):
    async with stage(server, namespace) as place:
        pipeline = place.application.pipeline.asynchronous
        await status_is(place, await place.messages.add(PHONE, Text("first")), "sent")
        place.phone.taken.clear()
        await pipeline.pauses(STREAM).pause()
        await asyncio.sleep(1.0)
        late = await place.messages.add(PHONE, Text("code 123"), expires=0.1)
        await asyncio.sleep(0.2)
        await pipeline.publish(
            STREAM, {"to": "x"}, type=SEND, id="broken", tenant="1", instance="1"
        )
        await pipeline.pauses(STREAM).resume_all()
        await status_is(place, "broken", "failed")
        await status_is(place, late, "failed")
        assert not place.phone.taken


async def test_bad_messages_are_refused_before_they_are_queued(server, namespace):
    async with stage(server, namespace) as place:
        for arguments in (("12", Text("x")), (PHONE, "no content")):
            with pytest.raises(InvalidMessage):
                await place.messages.add(*arguments)
        with pytest.raises(InvalidMessage, match="tenant"):
            await place.messages.add(PHONE, Text("x"), tenant="")
        with pytest.raises(InvalidMessage):
            await place.messages.add(PHONE, Image("nowhere"))
        assert (await place.messages.counts()).pending == 0


async def test_many_tenants_with_errors_of_every_class(server, namespace):
    """Nobody gets a message twice, nobody loses one, and the totals add up."""
    async with stage(server, namespace, replace(QUICK, retry_delay=0.02)) as place:
        shares = {131000: 500, 130429: 400, 131056: 400, 131026: 400, 4: 400}
        place.phone.faults = [
            Fault(code, 0.01, status=status, retry_after=0)
            for code, status in shares.items()
        ]
        idents = []
        for n in range(600):
            to = f"5511{n % 97:02}99{n % 211:05}"
            idents.append(
                await place.messages.add(
                    to, Text(str(n)), tenant=n % 10, max_retries=20
                )
            )

        async def over() -> bool:
            totals = await place.messages.totals()
            return totals.get("sent", 0) + totals.get("failed", 0) == len(idents)

        await eventually(over, seconds=60)
        states = Counter([await place.messages.status(ident) for ident in idents])
        totals = await place.messages.totals()
    taken = Counter(each.callback for each in place.phone.taken)
    assert max(taken.values()) == 1
    assert states["sent"] == len(taken) == totals["sent"]
    assert states["failed"] == totals["failed"] == place.phone.answers["131026"]
    order = defaultdict(list)
    for each in place.phone.taken:
        order[each.to].append(int(each.body["text"]["body"]))
    assert all(found == sorted(found) for found in order.values())

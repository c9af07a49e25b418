"""``streams keys`` and pauses by attribute, as they are typed."""

from __future__ import annotations

import asyncio
import json

from streams import Broker, Consumer, ConsumerOptions, Event, Lanes, Producer, Reject
from streams.handlers.routes import Route, Router
from tests import terminal
from tests.conftest import eventually

PHONE = "5511999998888"


def streams(*arguments: str, code: int = 0) -> str:
    done = terminal.run(*arguments)
    assert done.code == code, done.out + done.err
    assert PHONE not in done.out + done.err, "a phone number is masked"
    return done.out + done.err


async def typed(*arguments: str, code: int = 0) -> str:
    return await asyncio.to_thread(streams, *arguments, code=code)


async def test_held_keys_are_shown_released_and_skipped(make_server, binary):
    server = make_server(binary)
    url = ("--url", server.url)

    async def handler(event: Event) -> None:
        if event.data == "bad":
            raise Reject("no")

    lanes = Lanes(order_by=("subject",), on_dead="hold")
    async with Broker(server.url) as broker:
        consumer = Consumer(
            broker, "s", "g", Router([Route(handler)]), ConsumerOptions(lanes=lanes)
        )
        running = asyncio.create_task(consumer.run())
        await Producer(broker, "s").publish_many(
            Event("t", data, subject=PHONE) for data in ("bad", 1, 2)
        )
        await eventually(lambda: consumer.stats.dead == 1)
        shown = await typed("keys", "ls", "s", "g", *url)
        assert "held" in shown
        assert "98888" not in shown.replace("********", "")
        (key,) = json.loads(await typed("keys", "ls", "s", "g", "--json", *url))["keys"]
        assert (key["state"], key["behind"]) == ("held", 2)
        assert "tried again as 0|" in await typed(
            "keys", "release", "s", "g", PHONE, *url
        )
        await eventually(lambda: consumer.stats.dead == 2)
        assert "it stays among the dead letters" in await typed(
            "keys", "skip", "s", "g", PHONE, *url
        )
        await eventually(lambda: consumer.stats.done == 2)
        assert "no key of s/g is held" in await typed("keys", "ls", "s", "g", *url)
        assert "no key of s/g is at work" in await typed(
            "keys", "ls", "s", "g", "--all", *url
        )
        assert "not held" in await typed("keys", "skip", "s", "g", PHONE, *url, code=3)
        assert "keeps no order" in await typed("keys", "ls", "s", "other", *url, code=3)
        consumer.stop()
        await running


async def test_a_tenant_is_paused_shown_and_resumed(make_server, binary):
    server = make_server(binary)
    url = ("--url", server.url)

    async def handler(event: Event) -> None:
        pass

    async with Broker(server.url) as broker:
        consumer = Consumer(broker, "s", "g", Router([Route(handler)]))
        running = asyncio.create_task(consumer.run())
        producer = Producer(broker, "s")
        await producer.publish(Event("t", 0, subject=PHONE))
        await eventually(lambda: consumer.stats.done == 1)
        assert "paused s, group g, subject " in await typed(
            "pause", "s", "--group", "g", "--subject", PHONE, *url
        )
        assert "was paused already" in await typed(
            "pause", "s", "--group", "g", "--subject", PHONE, *url
        )
        await eventually(lambda: consumer._fetcher._gate.scopes)
        await producer.publish_many(Event("t", n, subject=PHONE) for n in range(3))
        await eventually(lambda: consumer.stats.held == 3)
        assert "3 put aside" in await typed("pause", "s", "--list", *url)
        (pause,) = json.loads(await typed("pause", "s", "--list", "--json", *url))[
            "pauses"
        ]
        assert (pause["attribute"], pause["held"], pause["group"]) == (
            "subject",
            3,
            "g",
        )
        assert "subject" in await typed("ls", *url)
        said = await typed("resume", "s", "--subject", PHONE, *url)
        assert "nothing was resumed" in said
        assert "still paused: s, group g, subject" in said
        assert "resumed s, group g, subject" in await typed(
            "resume", "s", "--group", "g", "--subject", PHONE, *url
        )
        await eventually(lambda: consumer.stats.done == 4)
        assert "nothing of s is paused" in await typed("pause", "s", "--list", *url)
        assert "one attribute" in await typed(
            "pause", "s", "--tenant", "a", "--key", "b", *url, code=2
        )
        assert "alone" in await typed(
            "pause", "s", "--list", "--tenant", "a", *url, code=2
        )
        consumer.stop()
        await running

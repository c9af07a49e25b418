"""``streams limits``, as it is typed."""

from __future__ import annotations

import asyncio
import json

from streams import Broker, Event, Limit, Producer
from streams.consumer import Consumer
from streams.handlers.routes import Route, Router
from tests import terminal
from tests.conftest import eventually


def streams(*arguments: str, code: int = 0) -> str:
    done = terminal.run("limits", *arguments)
    assert done.code == code, done.out + done.err
    return done.out + done.err


async def test_look_set_and_reset(make_server, binary):
    server = make_server(binary)
    url = ("--url", server.url)
    async with Broker(server.url) as broker:

        async def handler(event: Event) -> None:
            pass

        limits = [
            Limit("instance", rate="60/s", burst=20),
            Limit("subject", rate="1/h", name="pair"),
        ]
        consumer = Consumer(broker, "s", "g", Router([Route(handler, limits=limits)]))
        running = asyncio.create_task(consumer.run())
        await Producer(broker, "s").publish_many(
            Event("t", n, subject="5511999998888") for n in range(3)
        )
        await eventually(lambda: consumer.stats.limited == 2, what="two to wait")
        consumer.stop()
        await running

    shown = await asyncio.to_thread(streams, "ls", "s", "g", "--waiting", "5", *url)
    assert "60/s burst 20" in shown
    assert "1/h burst 1" in shown
    assert "5511999998888" not in shown, "a phone number is masked"
    assert "set instance of s/g to 20/s" in await asyncio.to_thread(
        streams, "set", "s", "g", "instance", "20/s", *url
    )
    said = await asyncio.to_thread(
        streams, "set", "s", "g", "instance", "1/s", "--key", "5511999998888", *url
    )
    assert "5511999998888" not in said
    listed = json.loads(
        await asyncio.to_thread(
            streams, "ls", "s", "g", "--waiting", "5", "--json", *url
        )
    )
    instance, pair = listed["limits"]
    assert (instance["name"], instance["set"], len(instance["keys"])) == (
        "instance",
        "20/s burst 2",
        1,
    )
    assert (pair["name"], pair["declared"]) == ("pair", "1/h burst 1")
    assert [row["limit"] for row in listed["waiting"]] == ["pair"]
    said = await asyncio.to_thread(
        streams, "reset", "s", "g", "instance", "--json", *url
    )
    assert json.loads(said)["before"] == "20/s burst 2"
    assert "nothing was set" in await asyncio.to_thread(
        streams, "reset", "s", "g", "instance", *url
    )
    assert "no limit 'nope'" in await asyncio.to_thread(
        streams, "reset", "s", "g", "nope", *url, code=3
    )
    assert "rate is a count" in await asyncio.to_thread(
        streams, "set", "s", "g", "instance", "fast", *url, code=2
    )


async def test_a_misspelt_group_is_refused_by_each_verb(make_server, binary):
    """It would look like a group without limits, or be throttled on paper."""
    server = make_server(binary)
    async with Broker(server.url) as broker:
        await Producer(broker, "s").publish(1, type="t")
        await broker.control.call(
            "XGROUP", "CREATE", broker.keys("s").level(0), "billing", "0"
        )
    for verb in (
        ("ls", "s", "biling"),
        ("set", "s", "biling", "tenant", "1/s"),
        ("reset", "s", "biling", "tenant"),
        ("throttle", "s", "biling", "tenant", "10m", "--key", "x"),
        ("throttle", "s", "biling", "tenant", "--off", "--key", "x"),
    ):
        said = await asyncio.to_thread(streams, *verb, "--url", server.url, code=3)
        assert "has no group 'biling'; it has: billing" in said, verb

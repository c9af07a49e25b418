"""The examples of the page on the wire format, against a real server."""

from __future__ import annotations

import re
import shlex

import hiredis
import orjson
import pytest

from streams import DeadLetters, Filter, Producer, Retry
from streams.broker.keys import Keys
from tests.conftest import eventually
from tests.server.wire import (
    BROKEN,
    COMMANDS,
    PAGE,
    PUBLISHING,
    alive,
    consuming,
    quoted,
    rows,
    words,
)
from tests.server.wire import _keep_alive as _keep_alive

LOOKING = [line for line in COMMANDS if not line.startswith("XADD ")]


def test_the_page_has_examples():
    assert len(PUBLISHING) >= 6
    assert len(LOOKING) >= 9
    assert len(BROKEN) == 1


@pytest.mark.parametrize("line", PUBLISHING)
async def test_every_documented_entry_is_handled(line, server, broker, namespace):
    command = words(line, namespace)
    level = int(command[1].rpartition(":")[2])
    written = dict(zip(command[3::2], command[4::2], strict=True))
    with server.client() as client:
        entry_id = client.execute_command(*command).decode()
        async with consuming(broker) as handled:
            if line in BROKEN:
                letters = DeadLetters(broker, "orders", "billing")
                await eventually(letters.count, what="the dead letter")
                assert handled == []
                letter = (await letters.page())[0]
                assert (letter.reason, letter.entry_id, letter.level) == (
                    "malformed",
                    entry_id,
                    level,
                )
                assert letter.fields == [
                    (k.encode(), v.encode()) for k, v in written.items()
                ]
                return
            await eventually(lambda: handled, what="the handler")
            event = handled[0]
            await eventually(
                lambda: client.xlen(command[1]) == 0, what="the acknowledgement"
            )
    assert (event.type, event.entry_id, event.priority) == (
        written["type"],
        entry_id,
        level,
    )
    assert event.id == written.get("id", f"{level}|{entry_id}")
    assert event.raw.decode() == written["data"]
    assert event.meta == orjson.loads(written.get("meta", "{}"))
    is_text = event.meta.get("datacontenttype") == "text/plain"
    assert event.data == (written["data"] if is_text else orjson.loads(written["data"]))
    assert (event.stream, event.group, event.attempt) == ("orders", "billing", 1)
    assert event.replays == int(written.get("replays", "0"))


async def test_an_entry_for_one_group_is_not_handled_by_another(
    server, broker, namespace
):
    line = next(line for line in PUBLISHING if line.endswith("group billing"))
    marker = words(PUBLISHING[0], namespace)
    with server.client() as client:
        client.execute_command(*words(line, namespace))
        client.execute_command(*marker)
        async with consuming(broker, "stock") as stock:
            await eventually(
                lambda: client.xlen(marker[1]) == 0,
                what="both entries to be acknowledged",
            )
    assert [event.data for event in stock] == [{"id": 1}]


@pytest.mark.one_server
async def test_every_documented_look_shows_something_on_a_stream_in_use(
    server, broker, namespace
):
    with server.client() as client:
        async with consuming(broker, retry=Retry(delay=500), error="no"):
            client.execute_command(*words(PUBLISHING[0], namespace))
            client.execute_command(*words(BROKEN[0], namespace))
            letters = DeadLetters(broker, "orders", "billing", by="tester")
            await eventually(letters.count, what="the dead letter")
            await letters.discard(Filter())
            client.execute_command(*words(BROKEN[0], namespace))
            await eventually(letters.count, what="the second dead letter")
            await alive(Producer(broker, "orders")).publish(1, type="a", delay=500)
            await eventually(
                lambda: client.zcard(Keys("orders", namespace).retry("billing")),
                what="the retry",
            )
        # The client expects its summary form.
        client.set_response_callback("XPENDING", lambda reply, **_: reply)
        shown = {
            line: client.execute_command(*words(line, namespace)) for line in LOOKING
        }
    assert [line for line, reply in shown.items() if not reply] == []


def test_the_bytes_are_the_bytes():
    shown = re.findall(r"^```resp\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    packed = shown[0].replace("\n", "").replace(r"\r\n", "\r\n").encode()
    assert packed == hiredis.pack_command(tuple(shlex.split(PUBLISHING[0])))


# What the producer writes


async def test_the_producer_writes_the_documented_fields_in_their_order(
    server, broker, namespace
):
    producer = alive(Producer(broker, "orders"))
    await producer.publish({"id": 1}, type="order.created", id="e-1")
    await producer.publish(
        b"\x00", type="b", id="e-2", expires=5.0, headers={"channel": "web"}
    )
    await producer.publish("ü", type="c", id="e-3", datacontenttype="text/plain")
    await producer.publish(bytearray(b"\x01"), type="d", id="e-4")
    with server.client() as client:
        stored = [
            list(fields.items())
            for _, fields in client.xrange(f"{namespace}:{{orders}}:0")
        ]
        server_time = client.time()[0]
    documented = [quoted(row[0]).encode() for row in rows("An entry", "field")]
    assert documented == [b"type", b"id", b"data", b"meta", b"replays", b"group"]
    assert stored[0] == [
        (b"type", b"order.created"),
        (b"id", b"e-1"),
        (b"data", b'{"id":1}'),
    ]
    assert [name for name, _ in stored[1]] == documented[:4]
    meta = orjson.loads(stored[1][3][1])
    assert {
        "channel": "web",
        "datacontenttype": "application/octet-stream",
    }.items() <= meta.items()
    assert abs(meta["expires"] - server_time - 5) < 3
    assert stored[2][2:] == [
        (b"data", "ü".encode()),
        (b"meta", b'{"datacontenttype":"text/plain"}'),
    ]
    assert stored[3][2:] == [
        (b"data", b"\x01"),
        (b"meta", b'{"datacontenttype":"application/octet-stream"}'),
    ]


async def test_text_and_binary_arrive_as_they_were_published(broker):
    producer = alive(Producer(broker, "orders"))
    await producer.publish("ü", type="text", datacontenttype="text/plain")
    await producer.publish(memoryview(b"\x01"), type="binary")
    async with consuming(broker) as handled:
        await eventually(lambda: len(handled) == 2, what="both events")
    assert {event.type: event.data for event in handled} == {
        "text": "ü",
        "binary": b"\x01",
    }


@pytest.mark.parametrize("event_id", ["e-1", "with spaces in it", "1 2 3", "ü|#"])
@pytest.mark.parametrize("delay", [0, 500])
async def test_a_repeat_is_told_what_the_first_was_told(
    event_id, delay, server, broker, namespace
):
    producer = alive(Producer(broker, "orders"))
    first = await producer.publish(
        1, type="a", id=event_id, dedup_id="d 1", delay=delay
    )
    again = await producer.publish(1, type="a", dedup_id="d 1", delay=delay)
    assert again == first._replace(duplicate=True)
    with server.client() as client:
        length, rest = client.get(f"{namespace}:{{orders}}:dedup:d 1").split(b" ", 1)
    ident, facts = rest[: int(length)].decode(), rest[int(length) + 1 :].decode()
    level, place = facts.split(" ", 1)
    assert (ident, level) == (event_id, "0")
    assert place == (f"0|{event_id}" if delay else first.entry_id)


async def test_unknown_fields_and_names_survive_death_and_replay(
    server, broker, namespace
):
    line = next(line for line in PUBLISHING if "shard" in line)
    with server.client() as client:
        entry_id = client.execute_command(*words(line, namespace)).decode()
        letters = DeadLetters(broker, "orders", "billing")
        async with consuming(broker, retry=Retry(max_retries=0), error="no"):
            await eventually(letters.count, what="the dead letter")
        await letters.replay(Filter())
        [(_, stored)] = client.xrange(f"{namespace}:{{orders}}:0")
    written = words(line, namespace)
    before = dict(zip(written[3::2], written[4::2], strict=True))
    after = {name.decode(): value.decode() for name, value in stored.items()}
    assert after == before | {"id": f"0|{entry_id}", "replays": "1", "group": "billing"}
    assert list(after) == [*before, "id", "replays", "group"]
    async with consuming(broker) as handled:
        await eventually(lambda: handled, what="the replayed event")
    assert (handled[0].replays, handled[0].id, handled[0].attempt) == (
        1,
        f"0|{entry_id}",
        1,
    )
    assert handled[0].headers == {"X-Legacy": {"a": [1]}}

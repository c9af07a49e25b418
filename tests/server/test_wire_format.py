"""The page on the wire format, executed: every command line, every table."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
from pathlib import Path
from typing import TypeVar

import hiredis
import orjson
import pytest

from streams import (
    Broker,
    Consumer,
    ConsumerOptions,
    DeadLetters,
    Event,
    Filter,
    Levels,
    Limit,
    Producer,
    Reclaimer,
    Retry,
)
from streams.admin.pauses import Pauses
from streams.admin.records import Records
from streams.admin.tracking import Count, Tracking
from streams.broker.admin.ended import EndedSessions
from streams.broker.admin.figures import FigureStore
from streams.broker.admin.watermarks import Mark, WatermarkStore
from streams.broker.entries.admit import Admitting, Ask
from streams.broker.entries.declare import Declaring
from streams.broker.entries.delivery import Delivery
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.holding import Breaking
from streams.broker.entries.members import Attending
from streams.broker.entries.ordering import FetchingByKey
from streams.broker.entries.redeclare import Redeclaring
from streams.broker.keys import Keys, ended_session_key
from streams.events import codec
from streams.events.cloudevents import from_cloudevent, to_cloudevent
from streams.events.event import CLOUD_NAMES, META_NAMES
from streams.handlers.routes import Route
from streams.middleware import Dedupe
from streams.middleware.base import Middleware
from streams.policy.declaration import AS_IT_IS
from streams.policy.ordering import Lanes
from streams.policy.partitions import Partitions
from streams.policy.retry import AttemptRecord
from tests.conftest import eventually
from tests.server.asking import Hands

PAGE = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```redis\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
PUBLISHING = [line for line in COMMANDS if line.startswith("XADD ")]
LOOKING = [line for line in COMMANDS if not line.startswith("XADD ")]
BROKEN = [line for line in PUBLISHING if line.endswith("""'{"id":'""")]


T = TypeVar("T")
_alive: list[object] = []


@pytest.fixture(autouse=True)
def _keep_alive():
    """What is forgotten before the broker is closed leaves its connection to the garbage collector, with a warning."""
    yield
    _alive.clear()


def alive(thing: T) -> T:
    _alive.append(thing)
    return thing


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str, header: str) -> list[list[str]]:
    """The cells of the table in a section whose first column is called so."""
    table = section(title).partition(f"\n| {header} |")[2].partition("\n\n")[0]
    lines = table.splitlines()[2:]
    return [
        [
            cell.strip().replace(r"\|", "|")
            for cell in re.split(r"(?<!\\)\|", line)[1:-1]
        ]
        for line in lines
    ]


def quoted(cell: str) -> str:
    return re.findall(r"`([^`]+)`", cell)[0]


def words(line: str, namespace: str) -> list[str]:
    return [word.replace("streams:", f"{namespace}:", 1) for word in shlex.split(line)]


@contextlib.asynccontextmanager
async def consuming(
    broker: Broker,
    group: str = "billing",
    retry: Retry | None = None,
    error: str = "",
    middleware: tuple[Middleware, ...] = (),
):
    """A consumer of ``orders``; gives the list of events that its handler was called with."""
    handled: list[Event] = []

    async def handler(event: Event) -> None:
        handled.append(event)
        if error:
            raise ValueError(error)

    route = Route(handler, retry=retry)
    options = ConsumerOptions(concurrency=4, name=f"c-{group}", middleware=middleware)
    consumer = alive(Consumer(broker, "orders", group, route, options))
    running = asyncio.create_task(consumer.run())
    try:
        yield handled
    finally:
        consumer.stop(5.0)
        await running


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


# Tables


def test_the_table_of_keys():
    keys = Keys("orders")
    group = "billing"
    expected = [
        *(
            keys.level(0),
            keys.scheduled(),
            keys.scheduled_fields(),
            keys.dedup("DEDUP-ID"),
        ),
        *(keys.retry(group), keys.attempts(group), keys.dead(group), keys.sweep(group)),
        *(
            keys.limits(group),
            keys.limit_prefix(group) + "NAME=KEY",
            keys.busy_prefix(group) + "NAME=KEY",
        ),
        *(
            keys.queue_prefix(group) + "NAME=KEY",
            keys.admissions(group),
            keys.queues(group),
        ),
        *(
            keys.heads(group),
            keys.behind(group),
            keys.rules(group),
            keys.lane(group, 0),
            keys.ring(group, 0),
        ),
        keys.breaker(group, "KEY"),
        *(
            *(
                keys.minute(group, "NUMBER"),
                keys.hour(group, "NUMBER"),
                keys.day(group, "NUMBER"),
            ),
            keys.workers(group),
            keys.leases(group),
            keys.handled(group, "EVENT-ID"),
            keys.message("ID"),
            keys.records("KIND"),
            keys.counts("NAME"),
            keys.tracked(),
            keys.alias("NAME"),
            keys.filed("NAME"),
            keys.members(group),
            keys.partitions(),
            keys.paused(),
            keys.watermarks(),
            keys.config(),
            keys.audit(),
            keys.levels(),
            keys.index(),
            ended_session_key("streams", "ID"),
        ),
    ]
    assert [quoted(row[0]) for row in rows("Keys", "key")] == expected
    public = [
        name
        for name in vars(Keys)
        if not name.startswith("_") and callable(getattr(Keys, name))
    ]
    assert len(expected) == len(public) + 1  # That of sessions is no stream's.


async def test_the_kinds_of_the_keys(server, broker, namespace):
    producer = alive(Producer(broker, "orders"))
    await producer.publish(1, type="a", dedup_id="DEDUP-ID", delay=500)
    letters = DeadLetters(broker, "orders", "billing", by="tester")
    with server.client() as client:
        async with consuming(broker, middleware=(Dedupe(),)):
            await producer.publish(1, type="handled", id="EVENT-ID")
            await eventually(
                lambda: (
                    client.get(Keys("orders", namespace).handled("billing", "EVENT-ID"))
                    == b"handled"
                ),
                what="the mark",
            )
        async with consuming(broker, retry=Retry(delay=500), error="no"):
            await producer.publish(1, type="retried")
            client.execute_command(*words(BROKEN[0], namespace))
            await eventually(letters.count, what="the dead letter")
            await letters.discard(Filter())
            client.execute_command(*words(BROKEN[0], namespace))
            await eventually(letters.count, what="the second dead letter")
            await eventually(
                lambda: client.zcard(Keys("orders", namespace).retry("billing")),
                what="the retry",
            )
        await alive(Reclaimer(broker, "orders", "billing")).sweep()
        await Pauses(broker, "orders", by="tester").pause(level=10, reason="a test")
        limit = Limit("tenant", rate="1/h", burst=2, concurrency=1, name="NAME")
        limits = Admitting(
            GroupConsumer(
                broker, Keys("orders", namespace), Levels(), "billing", "c", lease=30.0
            )
        )
        await Redeclaring(
            broker, Keys("orders", namespace), Levels(), "billing", [limit]
        ).declare()
        await producer.publish_many([1, 2], type="limited", priority=1)
        ((_, found),) = client.xreadgroup(
            "billing", "c", {Keys("orders", namespace).level(1): ">"}
        )
        await limits.admit(
            [
                Ask(Delivery(1, entry_id.decode(), []), [(limit, "KEY")])
                for entry_id, _ in found
            ]
        )
        lanes, levels, places = (
            Lanes(("subject",), ("tenant",)),
            Levels(),
            Keys("orders", namespace),
        )
        declaring = Declaring(places, levels, "billing", AS_IT_IS)
        by_key = FetchingByKey(
            GroupConsumer(broker, places, levels, "billing", "c", lease=30.0),
            declaring,
            lanes,
        )
        await by_key.ensure_group()
        await by_key.declare()
        await producer.publish_many([1, 2], type="ordered", subject="s", tenant="t")
        await by_key.take(0)
        tracking = Tracking(broker, "orders", {"pending": 0}, 60.0)
        await tracking.note("ID", "pending", counts=[Count("NAME", "field", 1, 60.0)])
        await tracking.link("NAME", "ID")
        await tracking.file("NAME", "ID")
        await Records(broker, "orders", "KIND").change("name", lambda _: {"a": 1})
        await Breaking(broker, "orders", "billing").ended(
            "key=KEY", "KEY", "0|1-1", "failed", 0, (9000, 9, 0.5, 9, "b")
        )
        await FigureStore(broker, Keys("orders", namespace), "billing").count(
            {"done": 1}, "worker", {"host": "h"}
        )
        await WatermarkStore(broker, Keys("orders", namespace)).write(
            {"level:0": Mark("1-1", 1)}
        )
        attending = Attending(broker, "orders", "billing", "worker")
        await attending.attend(60.0, Partitions(2))
        for span in ("minute", "hour", "day"):
            (name,) = client.keys(f"{namespace}:*:billing:{span}:*")
            assert client.pttl(name) > 0
            client.rename(name, name.rpartition(b":")[0] + b":NUMBER")
        await EndedSessions(broker).end("ID", 60.0)
        for row in rows("Keys", "key"):
            key = quoted(row[0]).replace("streams:", f"{namespace}:", 1)
            assert client.type(key).decode().upper() == row[1], key
        [(_, audited), _] = client.xrange(f"{namespace}:{{orders}}:audit")
        assert re.fullmatch(rb"\d+-\d+", audited.pop(b"letters"))
        assert audited == {
            b"action": b"discard",
            b"group": b"billing",
            b"by": b"tester",
            b"filter": b"all",
            b"count": b"1",
        }
        assert {b"owner", b"until"} <= set(
            client.hgetall(f"{namespace}:{{orders}}:billing:sweep")
        )
        assert orjson.loads(
            client.hget(f"{namespace}:{{orders}}:paused", "level=10")
        ).keys() == {"by", "at", "reason"}
        config = client.hgetall(f"{namespace}:{{orders}}:config")
        assert config.pop(b"retention") == b"work"
        assert orjson.loads(config.pop(b"group:billing")).keys() == {"start", "since"}
        assert not config
        for key in (
            "dedup:DEDUP-ID",
            "billing:sweep",
            "billing:leases",
            "billing:handled:EVENT-ID",
            "billing:limit:NAME=KEY",
        ):
            assert client.pttl(f"{namespace}:{{orders}}:{key}") > 0


def test_the_table_of_metadata():
    assert {quoted(row[0]) for row in rows("Metadata", "name")} == META_NAMES
    taken = re.findall(
        r"`(\w+)`",
        section("Metadata")
        .partition("cannot be\nheaders: ")[2]
        .partition(". A consumer")[0],
    )
    assert set(taken) == CLOUD_NAMES


def test_the_table_of_refusals():
    source = Path(codec.__file__).read_text()
    constants = dict(re.findall(r'^(_\w+) = "([a-z-]+)"$', source, re.MULTILINE))
    raised = re.findall(r'MalformedEvent\(\s*("[a-z-]+"|_\w+)', source)
    known = {constants.get(one) or one.strip('"') for one in raised}
    assert {quoted(row[0]) for row in rows("What cannot be read", "word")} == known


def test_the_tables_of_the_attempt_record():
    record = AttemptRecord(suspect=True)
    record.add(
        "failure",
        {
            "type": "E",
            "message": "m",
            "where": "w",
            "consumer": "c",
            "traceback": ["w"],
        },
        at=1.0,
    )
    stored = orjson.loads(record.to_json())
    assert {quoted(row[0]) for row in rows("Attempt record", "name")} == set(stored)
    errors = section("Attempt record").partition("Each of the errors")[2]
    assert re.findall(r"^\| `(\w+)` \|", errors, re.MULTILINE) == list(
        stored["errors"][0]
    )


async def test_the_table_of_admissions(broker):
    """One that has a slot, and one that waits for a rate, has all names of the table between them."""
    hands, limit = Hands(broker), Limit("tenant", rate="1/h", burst=1, concurrency=1)
    await hands.ask(await hands.take_plain(2), (limit, "KEY"))
    stored = await broker.control.call("HVALS", broker.keys("s").admissions("g"))
    named = {name for row in stored for name in orjson.loads(row)}
    assert {quoted(row[0]) for row in rows("Admission", "name")} == named


async def test_the_table_of_dead_letters(server, broker, namespace):
    with server.client() as client:
        client.execute_command(
            "XADD",
            f"{namespace}:{{orders}}:5",
            "*",
            "type",
            "a",
            "data",
            "1",
            "more",
            "x",
        )
        async with consuming(
            broker, retry=Retry(max_retries=0), error="call +55 11 99999-9999"
        ):
            letters = DeadLetters(broker, "orders", "billing")
            await eventually(letters.count, what="the dead letter")
        [(_, stored)] = client.xrange(f"{namespace}:{{orders}}:billing:dead")
    documented = [quoted(row[0]).encode() for row in rows("Dead letter", "field")]
    assert list(stored) == [*documented, b"type", b"data", b"more"]
    assert (stored[b"reason"], stored[b"level"], stored[b"raw"]) == (
        b"retries-used-up",
        b"5",
        b"3",
    )
    assert re.fullmatch(rb"\d+\.\d{3}", stored[b"at"])
    assert stored[b"consumer"] == b"c-billing"
    error = orjson.loads(stored[b"record"])["errors"][0]
    assert (error["kind"], error["message"]) == ("failure", "call +******99")


def test_the_table_of_cloudevents():
    mapping = {
        quoted(row[0]): quoted(row[1])
        for row in rows("CloudEvents", "here")
        if row[0].startswith("`")
    }
    assert set(mapping) >= META_NAMES
    values = {"max_retries": 3, "retry_delay": 2.5, "expires": 1893456000.0}
    event = Event("a", {"id": 1}, id="e-1", priority=5)
    event.meta = {name: values.get(name, "x/json") for name in META_NAMES} | {
        "channel": "web"
    }
    event.meta["datacontenttype"] = "application/x+json"
    cloud = to_cloudevent(event)
    for ours, theirs in mapping.items():
        if ours in META_NAMES and ours != "expires":
            assert cloud[theirs] == event.meta[ours]
    assert (cloud["priority"], cloud["channel"]) == (5, "web")
    back = from_cloudevent(cloud)
    assert (back.meta, back.priority, back.id) == (event.meta, 5, "e-1")


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

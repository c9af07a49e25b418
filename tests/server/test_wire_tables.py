"""The tables of the page on the wire format: each says what the package does."""

from __future__ import annotations

import re
from pathlib import Path

import orjson

from streams import (
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
from streams.middleware import Dedupe
from streams.policy.declaration import AS_IT_IS
from streams.policy.ordering import Lanes
from streams.policy.partitions import Partitions
from streams.policy.retry import AttemptRecord
from tests.conftest import eventually
from tests.server.asking import Hands
from tests.server.wire import BROKEN, alive, consuming, quoted, rows, section, words
from tests.server.wire import _keep_alive as _keep_alive

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

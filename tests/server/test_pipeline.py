"""The pipeline on a real server: its handlers, what it refuses, its signals, and what ends a run."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams import (
    AccessDenied,
    ConfigurationError,
    Event,
    Filter,
    Pipeline,
    Reject,
    Retry,
    Settings,
    Snooze,
)
from streams.broker.keys import PARKED
from tests.conftest import eventually
from tests.server.serving import _short_polls as _short_polls
from tests.server.serving import handle, on, serving

pytestmark = pytest.mark.in_turn


@pytest.fixture
def embedded(binary: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Embedded servers run this binary, in a runtime folder that no other program of this user looks at."""
    with tempfile.TemporaryDirectory(prefix="st", dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.setenv("STREAMS_SERVER_BINARY", binary)
        yield Path(folder)


# --- the example


async def test_the_example_from_end_to_end_without_a_server_of_ones_own(embedded):
    pipeline = Pipeline()
    seen = []

    @pipeline.handler(
        "orders", group="billing", retry=Retry(max_retries=3, delay=0.0), timeout=30.0
    )
    async def charge(event: Event) -> None:
        seen.append((event.data["id"], event.attempt, event.priority))
        if event.data["id"] == "reject":
            raise Reject("no")
        if event.data["id"] == "retry" and event.attempt < 3:
            raise ValueError
        if event.data["id"] == "snooze" and seen.count(("snooze", 1, 0)) < 3:
            raise Snooze(0.01)

    async with pipeline:
        receipt = await pipeline.publish(
            "orders", {"id": 1}, type="order.created", priority=10, delay=0.0
        )
        events = [
            Event("order.created", {"id": name})
            for name in ("reject", "retry", "snooze")
        ]
        receipts = await pipeline.publish_many(
            "orders", [*events, Event("order.created", {"id": 2}, delay=0.05)]
        )
        assert (receipt.level, len(receipts)) == (10, 4)
        async with serving(pipeline):

            async def finished() -> bool:
                row = await pipeline.status().stream("orders")
                return row.stored == row.scheduled == 0

            await eventually(finished, what="every event to end")
        (letter,) = await pipeline.dead_letters("orders", "billing").page()
    assert (letter.reason, letter.event_id) == ("rejected", receipts[0].event_id)
    assert seen[0] == (1, 1, 10)
    assert sorted(str(data) for data, *_ in seen) == sorted(
        ["1", "2", "reject", *["retry"] * 3, *["snooze"] * 3]
    )
    assert [attempt for data, attempt, _ in seen if data == "retry"] == [1, 2, 3]


async def test_without_a_server_nothing_is_kept(embedded):
    pipeline = Pipeline()
    assert "memory://" in repr(pipeline)
    for _ in range(2):
        async with pipeline:
            assert await pipeline.status().overview() == []
            await pipeline.publish("orders", 1, type="t")
            assert list(embedded.rglob("server.sock"))


async def test_a_stream_s_levels_share_the_slots_by_weight_and_age(server, namespace):
    weights = {10: 3, 5: 1, 1: 1, 0: 1}
    pipeline = on(server, namespace)
    pipeline.stream("orders", weights=weights, max_wait=3600.0)
    started: list[int] = []

    @pipeline.handler("orders", group="billing", concurrency=6)
    async def handle(event: Event) -> None:
        started.append(event.priority)

    plan = pipeline.plans[0]
    assert (plan.weights, plan.max_wait) == (weights, 3600.0)
    async with pipeline:
        for level in weights:
            await pipeline.publish_many("orders", range(60), type="t", priority=level)
        async with serving(pipeline):
            await eventually(lambda: len(started) >= 60, what="enough starts")
    assert abs(started[:60].count(10) - 30) <= 6
    assert abs(started[:60].count(0) - 10) <= 6


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"weights": {10: 1}}, "one for each of the levels 10, 5, 1, 0"),
        ({"max_wait": 0}, "seconds from 0.01"),
    ],
)
def test_shares_that_make_no_sense_are_refused(wrong, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        Pipeline().stream("orders", **wrong)


# --- handlers


async def test_several_streams_groups_and_kinds_of_functions(server, namespace):
    pipeline = on(server, namespace)
    seen = []

    @pipeline.handler("orders", group="billing", types=["paid"])
    async def billing(event: Event) -> None:
        seen.append(("billing", event.data))

    @pipeline.handler("orders", group="billing")
    def rest(event: Event) -> None:
        seen.append(("rest", event.data))

    @pipeline.handler("orders", group="stock", types=["paid", "sent"])
    def stock(event: Event) -> None:
        seen.append(("stock", event.data))

    @pipeline.handler("mails", group="sender")
    async def send(event: Event) -> None:
        seen.append(("send", event.data))

    pipeline.stream("orders", retention="fanout")
    assert billing.__name__ == "billing"
    async with serving(pipeline), pipeline:
        for stream in ("orders", "mails"):

            async def created(stream=stream) -> bool:
                rows = await pipeline.status().overview()
                return any(
                    len(row.groups) == 1 + (row.stream == "orders")
                    for row in rows
                    if row.stream == stream
                )

            await eventually(created, what="the groups")
        await pipeline.publish("orders", 1, type="paid")
        await pipeline.publish("orders", 2, type="sent")
        await pipeline.publish("mails", 3, type="paid")
        await eventually(lambda: len(seen) == 5, what="every handler")
    assert sorted(seen) == [
        ("billing", 1),
        ("rest", 2),
        ("send", 3),
        ("stock", 1),
        ("stock", 2),
    ]


CONTRADICTIONS = [
    ([{}, {}], "handler for every type already"),
    ([{"types": ["a"]}, {"types": ["b", "a"]}], "'a' already"),
    (
        [{"types": ["a"], "lease": 10.0}, {"types": ["b"], "lease": 20.0}],
        "lease=10.0 already",
    ),
    (
        [{"types": ["a"], "concurrency": 1}, {"types": ["b"], "concurrency": 2}],
        "concurrency=1 already",
    ),
    ([{"types": "a"}], "types is a list"),
    ([{"types": []}], "one or more"),
    ([{"timeout": 0}], "timeout"),
    ([{"limit": 1}], "does not know limit"),
]


@pytest.mark.parametrize(
    ("options", "message"),
    CONTRADICTIONS,
    ids=lambda value: value if str(value) == value else "",
)
def test_options_that_contradict_each_other_are_refused(options, message):
    pipeline = Pipeline()
    for good in options[:-1]:
        pipeline.handler("orders", group="g", **good)(handle)
    plans = repr(pipeline.plans[0].router.routes()) if options[1:] else ""
    with pytest.raises(ConfigurationError, match=message):
        pipeline.handler("orders", group="g", **options[-1])(handle)
    if plans:
        assert repr(pipeline.plans[0].router.routes()) == plans
        assert len(pipeline.plans) == 1
    else:
        assert pipeline.plans == []


def test_the_same_options_twice_are_no_contradiction():
    pipeline = Pipeline(settings=Settings(lease=7.0))
    pipeline.handler("orders", group="g", types=["a"], concurrency=3)(handle)
    pipeline.handler("orders", group="g", types=["b"], concurrency=3, lease=9.0)(handle)
    pipeline.handler("orders", group="g", types=["c"])(handle)
    pipeline.handler("orders", group="h")(handle)
    assert [(plan.group, plan.lease, plan.concurrency) for plan in pipeline.plans] == [
        ("g", 9.0, 3),
        ("h", 7.0, 100),
    ]


@pytest.mark.parametrize(
    ("stream", "group"),
    [("a b", "g"), ("", "g"), ("s", "g|h"), ("s", ""), ("s", "dedup")],
)
def test_names_are_checked_when_they_are_given(stream, group):
    with pytest.raises(ConfigurationError):
        Pipeline().handler(stream, group=group)


@pytest.mark.parametrize("function", [None, 7, lambda: None, lambda event, more: None])
def test_what_cannot_be_called_with_an_event_is_no_handler(function):
    with pytest.raises(ConfigurationError):
        Pipeline().handler("s", group="g")(function)


async def test_a_signal_ends_it_in_order(server, namespace):
    pipeline = on(server, namespace)
    before = signal.getsignal(signal.SIGTERM)
    done = []

    @pipeline.handler("s", group="g")
    async def fine(event: Event) -> None:
        done.append(event.data)
        signal.raise_signal(signal.SIGTERM)

    async with pipeline:
        await pipeline.publish("s", 1, type="t")
        await asyncio.wait_for(pipeline.run(), 10)
        assert (await pipeline.status().stream("s")).stored == 0
    assert done == [1]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.one_server
@pytest.mark.parametrize("missing", ["xreadgroup", "xautoclaim", "evalsha"])
async def test_a_permission_that_is_missing_ends_run_with_its_name(
    server, namespace, missing
):
    user = f"u-{namespace}-{missing}"
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all", f"-{missing}"
        )
        try:
            pipeline = Pipeline(
                f"unix://{user}:secret@{server.socket}",
                settings=Settings(namespace=namespace),
            )
            pipeline.handler("s", group="g", lease=0.3)(handle)
            running = asyncio.create_task(pipeline.run())
            if missing == "xautoclaim":
                # It is needed only once a retry row was lost.
                await a_lost_retry_row(server, namespace)
            with pytest.raises(AccessDenied, match=f"(?i){missing}") as caught:
                await asyncio.wait_for(running, 20)
            assert "secret" not in str(caught.value)
        finally:
            client.execute_command("ACL", "DELUSER", user)


async def a_lost_retry_row(server, namespace: str) -> None:
    """An entry of the parking consumer that nobody knows to be due."""
    with server.client() as client:
        key = f"{namespace}:{{s}}:0"
        await eventually(
            lambda: client.exists(key) and client.xinfo_groups(key), what="the group"
        )
        # Else the consumer may be given the entry in between.
        with client.pipeline(transaction=True) as both:
            both.xadd(key, {"type": "t", "data": "1"}, id="1-1")
            both.xreadgroup("g", PARKED, {key: ">"})
            both.xclaim(key, "g", PARKED, 0, ["1-1"], idle=60_000, justid=True)
            both.execute()


@pytest.mark.one_server
async def test_wrong_credentials_end_run(server, namespace):
    pipeline = Pipeline(
        f"unix://nobody:hunter2@{server.socket}", settings=Settings(namespace=namespace)
    )
    pipeline.handler("s", group="g")(handle)
    with pytest.raises(AccessDenied) as caught:
        await asyncio.wait_for(pipeline.run(), 10)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(pipeline)


async def test_operators_act_through_the_pipeline(server, namespace):
    pipeline = on(server, namespace)
    seen = []

    @pipeline.handler("s", group="g")
    async def once(event: Event) -> None:
        seen.append((event.id, event.replays))
        if not event.replays:
            raise Reject

    async with pipeline:
        receipt = await pipeline.publish("s", 1, type="t")
        letters = pipeline.dead_letters("s", "g", by="ops")
        async with serving(pipeline):
            await eventually(letters.count, what="the dead letter")
            await letters.replay(Filter())
            await eventually(lambda: len(seen) == 2, what="the replay")
        ((_, fields),) = await pipeline.broker.control.call(
            "XRANGE", f"{namespace}:{{s}}:audit", "-", "+"
        )
    assert seen == [(receipt.event_id, 0), (receipt.event_id, 1)]
    assert b"ops" in fields

"""A cluster without replicas loses a shard, for good or for a while: that is the trouble of what is on it alone."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import pytest

from streams import BrokerUnavailable, Event, Pipeline, PublishUnknown, Reject, Settings
from streams.admin.queries import Queries
from streams.admin.searching import Search
from streams.cli.app import app
from streams.cli.exit_codes import exit_code
from streams.doctor import Doctor
from streams.errors import PartlyAway, PartlyPublished, StreamsError
from streams.events.receipt import BatchOutcome
from streams.policy.partitions import partition_name, partition_of
from tests.conformance.conftest import OURS
from tests.conftest import eventually
from tests.servers import Server
from tests.topologies import Sharded

HOW = ("killed", "frozen")
_count = itertools.count()


@pytest.fixture(scope="module")
def sharded() -> Iterator[Sharded]:
    """One for all tests of this module; each brings back what it took away."""
    running = Sharded(OURS[0])
    try:
        yield running.start()
    finally:
        running.close()


class Place:
    """A namespace whose index is on one shard, and names of streams on each."""

    def __init__(self, sharded: Sharded) -> None:
        self.sharded = sharded
        self.namespace = f"n{next(_count)}"
        self.home = sharded.of(f"{self.namespace}:index")
        self.others = [server for server in sharded.servers if server is not self.home]
        self.healthy = sharded.named(self.others[0])
        self.at_home = sharded.named(self.home)

    def pipeline(self) -> Pipeline:
        return Pipeline(
            self.sharded.url,
            settings=Settings(namespace=self.namespace, timeout=1.0, lease=3.0),
        )

    def spread(self) -> tuple[str, dict[str, list[int]]]:
        """A stream whose first partition is not with the index, and its four partitions by where they are."""
        for n in range(200):
            name = f"spread{n}"
            servers = [
                self.sharded.of(name),
                *(self.sharded.of(f"{name}.p{number}") for number in range(1, 4)),
            ]
            if servers[0] in self.others and self.home in servers:
                away = [
                    number
                    for number, server in enumerate(servers)
                    if server is self.home
                ]
                return name, {
                    "away": away,
                    "there": [number for number in range(4) if number not in away],
                }
        raise AssertionError("no such name")


@pytest.fixture
def place(sharded: Sharded) -> Place:
    return Place(sharded)


@contextlib.asynccontextmanager
async def lost(
    place: Place, how: str, server: Server | None = None
) -> AsyncIterator[None]:
    """While the shard of the index, or another one, is away."""
    shard = place.sharded.without(server or place.home, how)
    await asyncio.to_thread(shard.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(shard.__exit__, None, None, None)


@contextlib.asynccontextmanager
async def worker(pipeline: Pipeline) -> AsyncIterator[None]:
    """A pipeline that runs."""
    running = asyncio.create_task(pipeline.run())
    try:
        yield
        assert not running.done(), "the worker went on"
    finally:
        pipeline.stop()
        await asyncio.wait_for(running, 20)


@pytest.mark.parametrize("how", HOW)
async def test_without_the_shard_of_the_index_everything_else_starts(
    place: Place, how: str
) -> None:
    """Registration waits for the index, and nothing else does."""
    seen: set[str] = set()

    def with_handlers() -> Pipeline:
        pipeline = place.pipeline()
        for stream in (place.healthy, place.at_home):

            @pipeline.handler(stream, group="g")
            async def handle(event: Event) -> None:
                seen.add(event.id)

        return pipeline

    async with place.pipeline() as was_open:
        async with lost(place, how):
            first = await was_open.publish(place.healthy, 1, type="t")
            async with place.pipeline() as starts, worker(with_handlers()):
                second = await starts.publish(place.healthy, 2, type="t")
                await eventually(
                    lambda: {first.event_id, second.event_id} <= seen,
                    what="the healthy stream's events",
                )
                with pytest.raises(BrokerUnavailable) as away:
                    await starts.publish(place.at_home, 3, type="t")
                assert str(place.home.port) in str(away.value)
        async with worker(with_handlers()):
            third = await was_open.publish(place.at_home, 4, type="t")
            await eventually(
                lambda: third.event_id in seen,
                what="the other stream's event, when its shard is back",
            )

        async def is_listed() -> bool:
            return place.healthy in await was_open.status().streams()

        await eventually(is_listed, what="the index to be written")


async def declare(place: Place, name: str) -> None:
    """Have a worker declare that a stream has four partitions."""
    declaring = place.pipeline()
    declaring.stream(name, partitions=4)
    declaring.handler(name, group="g")(lambda _: None)
    async with worker(declaring), place.pipeline() as asks:

        async def is_spread() -> bool:
            return bool(
                await asks.broker.control.call(
                    "GET", asks.broker.keys(name).partitions()
                )
            )

        await eventually(is_spread, what="the number of partitions to be declared")


async def bodies(place: Place, name: str) -> set[int]:
    """What is stored on the partitions of a stream, or was handled."""
    async with place.pipeline() as asks:
        found: set[int] = set()
        for number in range(4):
            key = asks.broker.keys(partition_name(name, number)).level(0)
            for _, fields in await asks.broker.control.call("XRANGE", key, "-", "+"):
                found.add(
                    int(dict(zip(fields[::2], fields[1::2], strict=True))[b"data"])
                )
        return found


KEYS = [f"k{n}" for n in range(40)]
Parts = dict[str, list[int]]


def away_of(parts: Parts, items: Iterable[int]) -> list[int]:
    """Those of the items whose key is on a partition that is away."""
    return [n for n in items if partition_of(KEYS[n % 40], 4) in parts["away"]]


async def sends_dedup_ids(pipeline: Pipeline, name: str, parts: Parts) -> None:
    """Those of healthy partitions are stored at once."""
    there = [key for key in KEYS if partition_of(key, 4) in parts["there"]]
    async with asyncio.timeout(9):
        events = [
            Event("t", n, key=key, dedup_id=f"d-{key}") for n, key in enumerate(there)
        ]
        receipts = await pipeline.publish_many(name, events)
    assert {receipt.partition for receipt in receipts} == set(parts["there"])
    assert not any(receipt.duplicate for receipt in receipts)


async def sends_many(
    pipeline: Pipeline, name: str, parts: Parts, how: str
) -> BatchOutcome:
    """Each of many events is accounted for, and what was never sent is not in doubt."""
    many = [Event("t", 1000 + n, key=KEYS[n % 40]) for n in range(1200)]
    with pytest.raises(PublishUnknown) as caught:
        await pipeline.publish_many(name, many)
    assert type(caught.value) is (
        PartlyPublished if how == "killed" else PublishUnknown
    )
    outcome, away, rest = (
        caught.value.outcome,
        away_of(parts, range(500)),
        list(range(500, 1200)),
    )
    assert outcome is not None
    assert sorted(outcome.receipts) == [n for n in range(500) if n not in away]
    assert (outcome.unknown, outcome.not_stored) == (
        ([], away + rest) if how == "killed" else (away, rest)
    )
    assert (caught.value.accepted, len(caught.value.event_ids)) == (
        500 - len(away),
        len(away),
    )
    return outcome


async def sends_without_key(pipeline: Pipeline, name: str, parts: Parts) -> int:
    """All go to partitions that are there; returns of how many it is not known."""
    doubts = 0
    for n in range(30):
        try:
            receipt = await pipeline.publish(name, 9000 + n, type="t")
        except PublishUnknown:
            doubts += 1
        else:
            assert receipt.partition in parts["there"]
    return doubts


@pytest.mark.parametrize("how", HOW)
async def test_partitions_that_are_there_take_what_they_can(
    place: Place, how: str
) -> None:
    name, parts = place.spread()
    await declare(place, name)
    async with place.pipeline() as was_open:
        async with lost(place, how):
            await sends_dedup_ids(was_open, name, parts)
            async with place.pipeline() as fresh:
                outcome = await sends_many(fresh, name, parts, how)
                doubts = await sends_without_key(fresh, name, parts)
            assert doubts <= (0 if how == "killed" else len(parts["away"])), (
                "a shard that hangs is found out once"
            )
            lines = [
                {"type": "t", "data": 3000 + n, "key": key}
                for n, key in enumerate(KEYS)
            ]
            told = await cli_file(place, name, lines)
            missing = [n + 1 for n in away_of(parts, range(40))]
            assert told["published"] == 40 - len(missing)
            found = told["not_stored" if how == "killed" else "unknown"]
            assert [
                line for first, last in found for line in range(first, last + 1)
            ] == missing
        stored = await bodies(place, name)
        assert {1000 + n for n in outcome.receipts} <= stored
        assert not {1000 + n for n in outcome.not_stored} & stored


async def test_a_partition_that_is_back_gets_its_turns_again(place: Place) -> None:
    name, parts = place.spread()
    await declare(place, name)
    async with place.pipeline() as pipeline:
        async with lost(place, "killed"):
            assert await sends_without_key(pipeline, name, parts) == 0

        async def is_used_again() -> bool:
            return (await pipeline.publish(name, 1, type="t")).partition in parts[
                "away"
            ]

        await eventually(is_used_again, what="the partition that is back to be used")


async def cli_file(
    place: Place, stream: str, lines: list[dict[str, Any]]
) -> dict[str, Any]:
    """What ``streams publish --file --json`` says."""
    file = Path("lines.jsonl")
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = await cli(place, "publish", stream, "--file", str(file), "--json")
    return cast("dict[str, Any]", json.loads(ran.out))


class Ran(NamedTuple):
    """A command line's end."""

    code: int
    out: str
    err: str


async def cli(place: Place, *arguments: str) -> Ran:
    """Run a command in this process; it has an event loop of its own, in a thread."""

    def run() -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                app(list(arguments), prog_name="streams")
            except SystemExit as end:
                return Ran(int(end.code or 0), out.getvalue(), err.getvalue())
            except StreamsError as error:
                return Ran(int(exit_code(error)), out.getvalue(), str(error))
        return Ran(0, out.getvalue(), err.getvalue())

    env = {
        "STREAMS_URL": place.sharded.url,
        "STREAMS_NAMESPACE": place.namespace,
        "STREAMS_TIMEOUT": "1",
    }
    with patch.dict(os.environ, env):
        return await asyncio.to_thread(run)


async def published(place: Place, *streams: str) -> None:
    async with place.pipeline() as pipeline:
        for stream in streams:
            await pipeline.publish(stream, 1, type="t", key="wanted")


@pytest.mark.parametrize("how", HOW)
async def test_what_is_on_other_shards_is_shown(place: Place, how: str) -> None:
    """One line for the shard that is away, and its streams by name; it is waited for once, not once per stream."""
    gone = place.sharded.named(place.others[1])
    more = place.sharded.named(place.others[1], "more")
    await published(place, place.healthy, place.at_home, gone, more)
    shard = f"127.0.0.1:{place.others[1].port}"
    line = f"shard {shard} is away: these streams are not shown: {more}, {gone}"
    async with lost(place, how, place.others[1]):
        ls = await cli(place, "ls")
        assert ls.code == 4
        assert line in ls.err
        assert all(name in ls.out for name in (place.healthy, place.at_home))
        plain = json.loads((await cli(place, "ls", "--json")).out)
        assert plain["away"] == [
            {"shard": shard, "streams": [more, gone], "has_index": False}
        ]
        for command in (("workers",), ("find", "wanted"), ("top",)):
            ran = await cli(place, *command)
            assert (ran.code, line in ran.err) == (4, True), (command, ran)
        doctor = await cli(place, "doctor", "--json")
        assert doctor.code == 2
        found = {
            (row["code"], row["where"]) for row in json.loads(doctor.out)["findings"]
        }
        assert {
            ("shard-away", f"server {shard}"),
            ("streams", f"server {shard}"),
        } <= found
        assert any(
            where == f"server 127.0.0.1:{place.home.port}" for _, where in found
        ), "the others are looked at"
        assert (await cli(place, "ls", gone)).code == 4
        assert (await cli(place, "ls", place.healthy)).code == 0


@pytest.mark.parametrize("how", HOW)
async def test_without_the_list_of_streams_named_ones_are_shown(
    place: Place, how: str
) -> None:
    await published(place, place.healthy, place.at_home)
    async with place.pipeline() as pipeline:
        queries = Queries(pipeline)
        assert len(await queries.overview()) == 2
        async with lost(place, how):
            ls = await cli(place, "ls")
            assert (ls.code, "the list of streams cannot be read" in ls.err) == (
                4,
                True,
            )
            for command in (
                ("ls", place.healthy),
                ("pause", place.healthy),
                ("resume", place.healthy),
                ("audit", place.healthy),
                ("find", "wanted", "--stream", place.healthy),
            ):
                ran = await cli(place, *command)
                assert ran.code == 0, (command, ran)
            doctor = await cli(place, "doctor", "--json", "--stream", place.healthy)
            assert {"shard-away"} <= {
                row["code"] for row in json.loads(doctor.out)["findings"]
            }
            codes = {
                finding.code for finding in await Doctor(pipeline.broker).examine()
            }
            assert {"shard-away", "streams"} <= codes
            found = await Search(pipeline).search("wanted")
            assert [shard.has_index for shard in found.away] == [True]

            async def is_remembered() -> bool:
                views = await queries.overview()
                return bool(queries.away) and [view.row.stream for view in views] == [
                    place.healthy
                ]

            await eventually(
                is_remembered,
                what="a viewer who knows the streams to go on seeing those that are there",
            )


async def test_what_other_partitions_say_is_shown(place: Place) -> None:
    """A stream is spread, and a part of it is away: what looks shows the rest, and names what is not there."""
    stream, numbers = place.spread()
    await declare(place, stream)
    pipeline = place.pipeline()
    pipeline.stream(stream, partitions=4)

    @pipeline.handler(stream, group="g")
    async def refuse(event: Event) -> None:
        raise Reject("no")

    async with place.pipeline() as looking:
        async with worker(pipeline):
            letters = looking.dead_letters(stream, "g")
            keys = iter(str(n) for n in range(1000))
            for number in range(4):
                key = next(key for key in keys if partition_of(key, 4) == number)
                await looking.publish(stream, number, type="t", key=key)

            async def all_died() -> bool:
                return (
                    len(await looking.status().streams_of(stream)) == 4
                    and await letters.count() == 4
                )

            await eventually(all_died, what="the dead letters")
        await looking.pauses(stream).pause()
        async with lost(place, "killed"):
            with pytest.raises(PartlyAway, match="are away") as partly:
                await looking.dead_letters(stream, "g").page()
            assert len(partly.value.answer) == len(numbers["there"])
            assert set(partly.value.partitions) == {
                partition_name(stream, number) for number in numbers["away"]
            }
            for command, wanted in (
                (
                    ("dead", "ls", stream, "g"),
                    f"{len(numbers['there'])} shown of {len(numbers['there'])}",
                ),
                (("pause", stream, "--list"), "paused: "),
                (("limits", "ls", stream, "g"), "has no limits"),
                (("groups", "ls", stream), "declared"),
            ):
                ran = await cli(place, *command)
                assert ran.code == 4, command
                assert wanted in ran.out + ran.err, command
                for number in numbers["away"]:
                    assert partition_name(stream, number) in ran.err, command

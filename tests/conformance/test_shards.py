"""A cluster without replicas loses a shard, for good or for a while: that is the trouble of what is on it alone."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest

from streams import BrokerUnavailable, Event, Pipeline, Settings
from streams.cli.app import app
from streams.cli.exit_codes import exit_code
from streams.doctor import Doctor
from streams.errors import StreamsError
from streams.partitions import partition_of
from streams.queries import Queries
from streams.searching import Search
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
        return Pipeline(self.sharded.url, settings=Settings(namespace=self.namespace, timeout=1.0, lease=3.0))

    def spread(self) -> tuple[str, dict[str, list[int]]]:
        """A stream whose first partition is not with the index, and its four partitions by where they are."""
        for n in range(200):
            name = f"spread{n}"
            servers = [self.sharded.of(name), *(self.sharded.of(f"{name}.p{number}") for number in range(1, 4))]
            if servers[0] in self.others and self.home in servers:
                away = [number for number, server in enumerate(servers) if server is self.home]
                return name, {"away": away, "there": [number for number in range(4) if number not in away]}
        raise AssertionError("no such name")


@pytest.fixture
def place(sharded: Sharded) -> Place:
    return Place(sharded)


@contextlib.asynccontextmanager
async def lost(place: Place, how: str, server: Server | None = None) -> AsyncIterator[None]:
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
async def test_without_the_shard_of_the_index_everything_else_starts(place: Place, how: str) -> None:
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
                await eventually(lambda: {first.event_id, second.event_id} <= seen, what="the healthy stream's events")
                with pytest.raises(BrokerUnavailable) as away:
                    await starts.publish(place.at_home, 3, type="t")
                assert str(place.home.port) in str(away.value)
        async with worker(with_handlers()):
            third = await was_open.publish(place.at_home, 4, type="t")
            await eventually(lambda: third.event_id in seen, what="the other stream's event, when its shard is back")

        async def is_listed() -> bool:
            return place.healthy in await was_open.status().streams()

        await eventually(is_listed, what="the index to be written")


@pytest.mark.parametrize("how", HOW)
async def test_dedup_ids_on_healthy_partitions_are_stored(place: Place, how: str) -> None:
    name, parts = place.spread()
    declaring = place.pipeline()
    declaring.stream(name, partitions=4)
    declaring.handler(name, group="g")(lambda _: None)
    async with worker(declaring), place.pipeline() as asks:

        async def is_spread() -> bool:
            return bool(await asks.broker.control.call("GET", asks.broker.keys(name).partitions()))

        await eventually(is_spread, what="the number of partitions to be declared")
    keys = [f"k{n}" for n in range(40) if partition_of(f"k{n}", 4) in parts["there"]]
    async with place.pipeline() as was_open:
        async with lost(place, how), asyncio.timeout(9):
            events = [Event("t", n, key=key, dedup_id=f"d-{key}") for n, key in enumerate(keys)]
            receipts = await was_open.publish_many(name, events)
        assert len(receipts) == len(keys)
        assert not any(receipt.duplicate for receipt in receipts)


class Ran(NamedTuple):
    """A command line's end."""

    code: int
    out: str
    err: str


async def cli(place: Place, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Ran:
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

    monkeypatch.setenv("STREAMS_URL", place.sharded.url)
    monkeypatch.setenv("STREAMS_NAMESPACE", place.namespace)
    monkeypatch.setenv("STREAMS_TIMEOUT", "1")
    return await asyncio.to_thread(run)


async def published(place: Place, *streams: str) -> None:
    async with place.pipeline() as pipeline:
        for stream in streams:
            await pipeline.publish(stream, 1, type="t", key="wanted")


@pytest.mark.parametrize("how", HOW)
async def test_what_is_on_other_shards_is_shown(place: Place, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """One line for the shard that is away, and its streams by name; it is waited for once, not once per stream."""
    gone = place.sharded.named(place.others[1])
    more = place.sharded.named(place.others[1], "more")
    await published(place, place.healthy, place.at_home, gone, more)
    shard = f"127.0.0.1:{place.others[1].port}"
    line = f"shard {shard} is away: these streams are not shown: {more}, {gone}"
    async with lost(place, how, place.others[1]):
        ls = await cli(place, monkeypatch, "ls")
        assert ls.code == 4
        assert line in ls.err
        assert all(name in ls.out for name in (place.healthy, place.at_home))
        plain = json.loads((await cli(place, monkeypatch, "ls", "--json")).out)
        assert plain["away"] == [{"shard": shard, "streams": [more, gone], "has_index": False}]
        for command in (("workers",), ("find", "wanted"), ("top",)):
            ran = await cli(place, monkeypatch, *command)
            assert (ran.code, line in ran.err) == (4, True), (command, ran)
        doctor = await cli(place, monkeypatch, "doctor", "--json")
        assert doctor.code == 2
        found = {(row["code"], row["where"]) for row in json.loads(doctor.out)["findings"]}
        assert {("shard-away", f"server {shard}"), ("streams", f"server {shard}")} <= found
        assert any(where == f"server 127.0.0.1:{place.home.port}" for _, where in found), "the others are looked at"
        assert (await cli(place, monkeypatch, "ls", gone)).code == 4
        assert (await cli(place, monkeypatch, "ls", place.healthy)).code == 0


@pytest.mark.parametrize("how", HOW)
async def test_without_the_list_of_streams_named_ones_are_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    await published(place, place.healthy, place.at_home)
    async with place.pipeline() as pipeline:
        queries = Queries(pipeline)
        assert len(await queries.overview()) == 2
        async with lost(place, how):
            ls = await cli(place, monkeypatch, "ls")
            assert (ls.code, "the list of streams cannot be read" in ls.err) == (4, True)
            for command in (
                ("ls", place.healthy),
                ("pause", place.healthy),
                ("resume", place.healthy),
                ("audit", place.healthy),
                ("find", "wanted", "--stream", place.healthy),
            ):
                ran = await cli(place, monkeypatch, *command)
                assert ran.code == 0, (command, ran)
            doctor = await cli(place, monkeypatch, "doctor", "--json", "--stream", place.healthy)
            assert {"shard-away"} <= {row["code"] for row in json.loads(doctor.out)["findings"]}
            codes = {finding.code for finding in await Doctor(pipeline.broker).examine()}
            assert {"shard-away", "streams"} <= codes
            found = await Search(pipeline).search("wanted")
            assert [shard.has_index for shard in found.away] == [True]

            async def is_remembered() -> bool:
                views = await queries.overview()
                return bool(queries.away) and [view.row.stream for view in views] == [place.healthy]

            await eventually(is_remembered, what="a viewer who knows the streams to go on seeing those that are there")

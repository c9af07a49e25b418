"""A stream's name means all of its partitions, for every verb; --partition means one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams import Event, Pipeline, Settings, sync
from streams.admin.erasure import Erasure
from streams.errors import ConfigurationError, NotFound
from streams.testing import harness
from tests.conftest import eventually
from tests.partitioned import ALL, COUNT, KEYS, Spread
from tests.process.commands import Cli
from tests.servers import BINARIES, Server, server_label


@pytest.fixture(scope="session", params=BINARIES[:1], ids=server_label)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The first of the servers: what is asked of one partition is tried on every server elsewhere."""
    running = Server(request.param).start()
    yield running
    running.close()


class Commanded(Spread):
    """With a command line for it."""

    cli: Cli

    async def begin_a_consumer(self, stream: str, group: str) -> None:
        """A consumer that the server has just heard of."""
        async with self.pipeline() as client:
            key = client.broker.keys(stream).level(
                (await client.status().levels(stream))[0]
            )
            await client.broker.control.call(
                "XGROUP", "CREATECONSUMER", key, group, "alive"
            )


@pytest.fixture
def spread(
    server: Server, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Commanded:
    monkeypatch.setattr("streams.worker.assignment.BEAT", 0.1)
    made = Commanded(Settings(url=server.url, namespace=namespace, lease=2.0))
    made.cli = Cli(server, namespace, tmp_path)
    asyncio.run(made.fill())
    return made


def test_pause_and_resume(spread: Commanded) -> None:
    spread.cli("pause", "orders")
    assert spread.paused() == [0, 1, 2, 3]
    assert "partition" not in spread.cli("pause", "orders", "--list").stdout
    spread.cli("resume", "orders")
    assert spread.paused() == []
    spread.cli("pause", "orders", "--partition", "2")
    assert spread.paused() == [2]
    assert "orders, partition 2" in spread.cli("pause", "orders", "--list").stdout
    spread.cli("resume", "orders", "--all")
    spread.cli("pause", "orders.p3", "--group", "g")
    assert spread.paused() == [3]
    spread.cli("resume", "orders", "--group", "g")
    assert spread.paused() == []
    assert (
        "it has 4 partitions"
        in spread.cli("pause", "orders", "--partition", "4", code=3).stderr
    )


@pytest.mark.parametrize("number", range(COUNT))
def test_one_event_is_found_wherever_it_is(spread: Commanded, number: int) -> None:
    shown = spread.cli.json("show", "orders", f"later-{number}")["states"]
    assert [(state["stream"], state["state"]) for state in shown] == [
        (ALL[number], "scheduled")
    ]
    other = (number + 1) % COUNT
    spread.cli("show", "orders", f"later-{number}", "--partition", str(other), code=3)
    due = spread.cli.json("run-now", "orders", f"later-{number}")["due_now"]
    assert [row["stream"] for row in due] == [ALL[number]]
    spread.cli("cancel", "orders", f"later-{other}", "--partition", str(number), code=3)
    gone = spread.cli.json("cancel", "orders", f"later-{other}")["cancelled"]
    assert [row["stream"] for row in gone] == [ALL[other]]
    assert (
        "waits-0 is pending" in spread.cli("cancel", "orders", "waits-0", code=1).stderr
    )
    assert "no trace" in spread.cli("cancel", "orders", "nobody", code=3).stderr


def test_dead_letters(spread: Commanded) -> None:
    listed = spread.cli.json("dead", "ls", "orders", "g")
    assert listed["total"] == COUNT
    letters = {letter["event_id"]: letter for letter in listed["dead_letters"]}
    assert [letters[f"bad-{number}"]["stream"] for number in range(COUNT)] == ALL
    assert (
        spread.cli.json("dead", "ls", "orders", "g", "--partition", "1")["total"] == 1
    )
    assert "PARTITION" in spread.cli("dead", "ls", "orders", "g").stdout
    assert len(spread.cli("dead", "export", "orders", "g").stdout.splitlines()) == COUNT
    one = letters["bad-2"]["id"]
    if [letter["id"] for letter in letters.values()].count(one) == 1:
        assert (
            spread.cli.json("dead", "show", "orders", "g", one)["event_id"] == "bad-2"
        )
    assert (
        spread.cli.json("dead", "show", "orders", "g", one, "--partition", "2")[
            "event_id"
        ]
        == "bad-2"
    )
    spread.cli("dead", "edit", "orders", "g", one, "--partition", "2", "--data", "7")
    assert (
        spread.cli.json(
            "dead", "replay", "orders", "g", "--event-id", "bad-3", "--yes"
        )["replayed"]
        == 1
    )
    assert (
        spread.cli.json("dead", "discard", "orders", "g", "--all", "--yes")["discarded"]
        == 2
    )
    assert len(spread.cli.json("dead", "replays", "orders", "g")["replays"]) == 2


def test_replay_all(spread: Commanded) -> None:
    done = spread.cli.json("dead", "replay", "orders", "g", "--all", "--yes")
    assert (done["matched"], done["replayed"]) == (COUNT, COUNT)


def test_ids_of_several_partitions_are_refused(spread: Commanded) -> None:
    async def make_alike() -> None:
        async with spread.pipeline() as client:
            for name in ALL[1:3]:
                key = client.broker.keys(name).dead("g")
                row = (await client.broker.control.call("XRANGE", key, "-", "+"))[0][1]
                await client.broker.control.call("DEL", key)
                await client.broker.control.call("XADD", key, "1893456000000-0", *row)
            letters = client.dead_letters("orders", "g")
            for verb in (letters.show, letters.discard, letters.replay):
                ids = "1893456000000-0" if verb == letters.show else ["1893456000000-0"]
                with pytest.raises(
                    ConfigurationError,
                    match=r"orders.p1 and orders.p2: say which with --partition",
                ):
                    await verb(ids)
            first = await letters.page(limit=3)
            assert len(first) == 4, "letters of the same id are not parted"
            assert [
                letter.id for letter in (await letters.look(limit=3)).letters
            ].count("1893456000000-0") == 2
            assert (
                len(
                    (
                        await letters.replay(
                            [first[-1].id for _ in range(1)], dry_run=True
                        )
                    ).moved
                )
                == 0
            )

    with pytest.raises(ConfigurationError):
        asyncio.run(make_alike())
    assert (
        "--partition"
        in spread.cli("dead", "show", "orders", "g", "1893456000000-0", code=2).stderr
    )


def test_limits(spread: Commanded) -> None:
    where = ("orders", "g")
    spread.cli("limits", "set", *where, "key", "5/s")
    rows = asyncio.run(spread.read(lambda keys: keys.limits("g")))
    assert all(b"key" in row for row in rows)
    (limit,) = spread.cli.json("limits", "ls", *where)["limits"]
    assert limit["set"] == "5/s burst 1"
    spread.cli("limits", "reset", *where, "key", "--partition", "1")
    (limit,) = spread.cli.json("limits", "ls", *where)["limits"]
    assert limit["set"] == "5/s burst 1 (partition 0 2 3), as declared (partition 1)"
    spread.cli("limits", "reset", *where, "key")
    assert not any(
        b"key" in row for row in asyncio.run(spread.read(lambda keys: keys.limits("g")))
    )


def test_ls_and_status(spread: Commanded) -> None:
    table = spread.cli("ls").stdout
    assert "orders (4 partitions)" in table
    assert all(f"partition {number}" in table for number in range(COUNT))
    plain = spread.cli.json("ls", "orders")
    assert [row["stream"] for row in plain["streams"]] == ALL
    (total,) = plain["totals"]
    assert (total["scheduled"], total["groups"][0]["dead"]) == (COUNT, COUNT)
    assert len(spread.cli.json("ls", "orders", "--partition", "1")["streams"]) == 1
    with sync.Pipeline(settings=spread.settings) as pipeline:
        row = pipeline.status().stream("orders")
        assert (row.scheduled, [part.stream for part in row.partitions]) == (COUNT, ALL)
        assert pipeline.status().stream("orders", partition=3).scheduled == 1
        assert pipeline.status().find("orders", "later-3")[0].stream == "orders.p3"
        assert pipeline.cancel("orders", "later-3").stream == "orders.p3"
        assert pipeline.pauses("orders").pause(group="g").new
        assert pipeline.pauses("orders", partition=1).list()
        assert pipeline.dead_letters("orders", "g").count() == COUNT
        with pytest.raises(NotFound, match="no partition 9"):
            pipeline.pauses("orders", partition=9).list()


def test_keys(spread: Commanded) -> None:
    where = ("orders", "g")
    held = spread.cli.json("keys", "ls", *where)["keys"]
    assert {row["event_id"] for row in held} == {
        f"bad-{number}" for number in range(COUNT)
    }
    spread.cli("keys", "release", *where, KEYS[2])
    spread.cli("keys", "skip", *where, KEYS[3])
    # What is released is held until a worker takes it.
    assert {
        row["event_id"] for row in spread.cli.json("keys", "ls", *where)["keys"]
    } == {"bad-0", "bad-1", "bad-2"}
    assert spread.cli.json("dead", "ls", *where)["total"] == 3
    spread.cli("keys", "skip", *where, KEYS[0], "--partition", "1", code=3)


def test_audit_and_search(spread: Commanded) -> None:
    spread.cli("pause", "orders", "--reason", "all")
    rows = spread.cli.json("audit", "orders")["rows"]
    assert sorted(row["partition"] for row in rows if row["action"] == "pause") == [
        "0",
        "1",
        "2",
        "3",
    ]
    assert spread.cli.json("audit", "orders", "--partition", "1")["rows"]
    found = spread.cli.json("find", KEYS[3], "--stream", "orders")
    assert {match["stream"] for match in found["matches"]} == {"orders.p3"}
    assert (
        spread.cli("doctor", "--stream", "orders", code=2).stdout.count("paused")
        >= COUNT
    )


def test_groups(spread: Commanded) -> None:
    (group,) = spread.cli.json("groups", "ls", "orders")["groups"]
    assert (group["dead"], group["present"], group["waiting"]) == (COUNT, True, COUNT)
    asyncio.run(spread.begin_a_consumer("orders.p2", "g"))
    assert (
        "is in use"
        in spread.cli("groups", "drop", "orders", "g", "--yes", code=1).stderr
    )
    assert spread.cli.json("groups", "ls", "orders")["groups"][0]["present"]
    done = spread.cli.json("groups", "drop", "orders", "g", "--yes", "--force")
    assert (done["dropped"], done["given_up"], done["dead"]) == (True, COUNT, COUNT)


def test_erasure(spread: Commanded) -> None:
    async def erase() -> tuple[int, int]:
        async with spread.pipeline() as client:
            found = [
                await Erasure(client.broker, "orders").erase("key", key) for key in KEYS
            ]
            return sum(one.dead for one in found), sum(one.scheduled for one in found)

    assert asyncio.run(erase()) == (COUNT, COUNT)


def test_pauses_and_limits_hold_on_partitions_that_are_added(spread: Commanded) -> None:
    """Where they hold on all that there are; what was said of one partition is not said of others."""
    spread.cli("pause", "orders", "--group", "g")
    spread.cli("pause", "orders", "--tenant", "acme", "--partition", "1")
    spread.cli("limits", "set", "orders", "g", "key", "5/s")

    async def grow() -> list[list[str]]:
        pipeline = spread.pipeline(6)
        running = asyncio.create_task(pipeline.run())
        try:
            async with spread.pipeline() as client:

                async def is_more() -> bool:
                    return len(await client.status().streams_of("orders")) == 6

                await eventually(is_more, what="two more partitions")
                pauses = [
                    await client.pauses("orders", partition=number).list()
                    for number in (4, 5)
                ]
                limits = [
                    await client.limits("orders", "g", partition=number).list()
                    for number in (4, 5)
                ]
                assert [limit.set for found in limits for limit in found] == [
                    "5/s burst 1"
                ] * 2
                return [[pause.scope for pause in found] for found in pauses]
        finally:
            pipeline.stop()
            await asyncio.wait_for(running, 20)

    assert asyncio.run(grow()) == [["group=g"], ["group=g"]]


def test_the_test_kit_still_serves_them(server: Server) -> None:
    async def run() -> int:
        pipeline = Pipeline()
        pipeline.stream("orders", partitions=3)

        @pipeline.handler("orders", group="g")
        async def handle(event: Event) -> None: ...

        async with harness(pipeline, url=server.url) as test:
            await pipeline.publish_many("orders", range(9), type="t")
            return await test.drain()

    assert asyncio.run(run()) == 9


def test_receipts_name_the_partition(spread: Commanded) -> None:
    done = spread.cli(
        "publish", "orders", "--type", "t", "--data", "1", "--key", KEYS[2], "--json"
    )
    assert json.loads(done.stdout)["partition"] == 2

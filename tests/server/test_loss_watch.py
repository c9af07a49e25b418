"""What a server lost is said: by workers that live through it, by workers that start after it, and by the doctor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from streams import Broker, Event, Groups, Levels, Pipeline, Settings
from streams.broker.admin.watermarks import Loss, Mark, WatermarkStore, compared
from streams.doctor import Doctor, Finding
from streams.doctor.repair import Repair
from streams.doctor.servers import depends_on_default_user
from streams.worker.loss_watch import LossWatch
from tests.conftest import eventually
from tests.deploy.restarts import BEFORE
from tests.servers import Server
from tests.shipped import Shipped, everybody

pytestmark = pytest.mark.in_turn

LOST = "the server has lost what it had acknowledged"


@pytest.mark.parametrize(
    ("before", "now", "loss"),
    [
        (Mark("5-1", 10), Mark("5-1", 10), None),
        (Mark("5-1", 10), Mark("6-0", 11), None),
        (Mark("5-1", 10), Mark("4-9", 7), Loss("5-1", "4-9", 3)),
        # Later ones survived, or came since.
        (Mark("5-1", 10), Mark("9-0", 7), Loss("5-1", "9-0", 3)),
        (Mark("10-0"), Mark("9-0"), Loss("10-0", "9-0")),  # By number, not by letter.
        (Mark("5-1", 10), Mark("5-1"), None),  # A server that does not count took over.
        (Mark("5-1", 10), None, Loss("5-1", "", 10)),
        (Mark("0-0", 0), None, None),
    ],
)  # fmt: skip
def test_a_place_is_behind_or_not(
    before: Mark, now: Mark | None, loss: Loss | None
) -> None:
    assert before.loss(now) == loss
    assert compared({"level:0": before}, {"level:0": now, "level:5": now}) == (
        {"level:0": loss} if loss else {}
    )


def files_of(server: Server) -> list[Path]:
    """The append-only file, which is a folder from Redis 7.0 on."""
    return [
        path for path in server.folder.iterdir() if path.name.startswith("appendonly")
    ]


def keep(server: Server, place: Path) -> None:
    """Copy what a server has on disk."""
    for path in files_of(server):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, place / path.name)


def roll_back(server: Server, place: Path) -> None:
    """The server is killed, and comes back with what was copied before."""
    server.kill()
    for path in files_of(server):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in place.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(
            path, server.folder / path.name
        )
    server.start()


@contextlib.asynccontextmanager
async def working(
    url: str, namespace: str, handled: list[object]
) -> AsyncIterator[LossWatch]:
    """A whole worker, and the watch of its stream."""
    pipeline = Pipeline(
        settings=Settings(url=url, namespace=namespace, levels=Levels([0]))
    )

    @pipeline.handler("orders", group="billing")
    async def work(event: Event) -> None:
        handled.append(event.data)

    async with pipeline:
        service = pipeline.service(pipeline.plans)
        running = asyncio.create_task(service.run())
        try:
            yield service._roles.watches[0]
        finally:
            service.stop()
            await running


async def publish(url: str, namespace: str, bodies: object) -> None:
    async with Pipeline(
        settings=Settings(url=url, namespace=namespace, levels=Levels([0]))
    ) as pipeline:
        await pipeline.publish_many("orders", bodies, type="t")


async def lost(url: str, namespace: str) -> Finding | None:
    async with Broker(url, namespace=namespace) as broker:
        findings = await Doctor(broker, role="operator").examine("orders")
    return next((finding for finding in findings if finding.code == "lost"), None)


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.streams_message == LOST]


async def test_a_worker_that_lives_through_it_says_what_is_lost(
    make_server: Callable[..., Server],
    binary: str,
    namespace: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server comes back as it was before: marks and all. Two workers noticed, one of them says so."""
    server = make_server(binary, aof=True, port=True)
    handled: list[object] = []
    async with (
        working(server.url, namespace, handled),
        working(server.url, namespace, handled),
    ):
        await publish(server.url, namespace, range(10))
        await eventually(lambda: len(handled) == 10)
        keep(server, tmp_path)
        await publish(server.url, namespace, range(10, 40))
        await eventually(lambda: len(handled) == 40)
        await asyncio.to_thread(roll_back, server, tmp_path)
        await eventually(lambda: lines(caplog), what="somebody to say what is lost")
        finding = await lost(server.url, namespace)
        assert finding is not None
        assert finding.severity == "critical"
        assert "level 0: at least " in finding.what
        assert "group billing had read level 0 up to " in finding.what
        assert "streams doctor --repair --stream orders" in finding.todo
    (line,) = lines(caplog)
    assert line.levelname == "ERROR"
    assert line.stream == "orders"
    assert "level 0: at least " in line.lost
    async with Broker(server.url, namespace=namespace) as broker:
        assert (await Repair(broker, "me").look("orders"))["orders"].losses == 2
        assert (await Repair(broker, "me").mend("orders"))["orders"].losses == 2
        assert (await Repair(broker, "me").mend("orders"))["orders"].losses == 0
    assert await lost(server.url, namespace) is None
    with server.client() as client:
        (row,) = client.xrange(f"{namespace}:{{orders}}:audit")
    assert row[1][b"what"] == b"losses"


async def test_what_was_scheduled_is_missed_after_an_outage_only(
    make_server: Callable[..., Server],
    binary: str,
    namespace: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Between two looks it may have been cancelled, which is no loss."""
    server = make_server(binary, aof=True, port=True)
    settings = Settings(url=server.url, namespace=namespace, levels=Levels([0]))
    async with (
        working(server.url, namespace, []) as watch,
        Pipeline(settings=settings) as pipeline,
    ):
        await watch.look()
        keep(server, tmp_path)
        await pipeline.publish("orders", 1, type="t", delay=3600.0, id="cancelled")
        await watch.look()
        await pipeline.cancel("orders", "cancelled")
        await watch.look()
        assert not lines(caplog)
        await pipeline.publish("orders", 2, type="t", delay=3600.0)
        await watch.look()
        await asyncio.to_thread(roll_back, server, tmp_path)
        await eventually(lambda: lines(caplog), what="somebody to say what is lost")
        finding = await lost(server.url, namespace)
        assert finding is not None
        assert "scheduled: at least 1 event, due up to 20" in finding.what
    assert "scheduled: at least 1 event, due up to 20" in lines(caplog)[0].lost


async def test_a_restart_that_loses_nothing_is_none(
    make_server: Callable[..., Server],
    binary: str,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_server(binary, aof=True, port=True)
    handled: list[object] = []
    async with working(server.url, namespace, handled) as watch:
        await publish(server.url, namespace, range(10))
        await eventually(lambda: len(handled) == 10)
        await watch.look()
        for _ in range(2):
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            before = len(handled)
            await publish(server.url, namespace, range(10))
            await eventually(lambda before=before: len(handled) == before + 10)
        await watch.look()
    assert await lost(server.url, namespace) is None
    # A group that an operator gives up is none, either.
    async with Broker(server.url, namespace=namespace) as broker:
        await Groups(broker, "orders", by="me").drop("billing", force=True)
    assert await lost(server.url, namespace) is None
    assert not lines(caplog)


async def test_nobody_has_to_live_through_it(
    binary: str, caplog: pytest.LogCaptureFixture
) -> None:
    """On a server that leaves out transactions, the marks are no part of one: doctor and the next worker find out."""
    server = Shipped(
        binary, BEFORE + "".join(everybody().splitlines(keepends=True)[1:])
    )
    handled: list[object] = []
    try:
        server.start()
        with server.client() as client:
            loses = depends_on_default_user(
                {name: str(value) for name, value in client.info().items()}
            )
        async with working(server.url_as("worker"), "streams", handled) as watch:
            await publish(server.url_as("producer"), "streams", range(20))
            await eventually(lambda: len(handled) == 20)
            await watch.look()
        server.stop()
        server.start()
        finding = await lost(server.url_as("operator"), "streams") if loses else None
        assert (finding is not None) == loses
        async with working(server.url_as("worker"), "streams", handled):
            if loses:
                await eventually(
                    lambda: lines(caplog), what="the worker to say what is lost"
                )
        assert len(lines(caplog)) == loses
    finally:
        server.close()


async def test_a_user_that_may_not_look_works_on(
    make_server: Callable[..., Server],
    binary: str,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_server(binary, port=True)
    # Redis 6.2 cannot take a part of a command away.
    allowed = ("+xinfo|groups", "+xinfo|consumers")
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "old", "on", ">pw", "~*", "+@all", "-xinfo", *allowed
        )
    url = server.url.replace("redis://", "redis://old:pw@")
    handled: list[object] = []
    async with working(url, namespace, handled) as watch:
        await publish(server.url, namespace, range(3))
        await eventually(lambda: len(handled) == 3)
        await watch.look()
        await watch.look()
    with server.client() as client:
        # Of a worker that may.
        client.hset(f"{namespace}:{{orders}}:watermarks", "level:0", "1-1 1")
    async with Broker(url, namespace=namespace) as broker:
        findings = {
            finding.code: finding for finding in await Doctor(broker).examine("orders")
        }
        assert findings["lost"].severity == "unknown"
        assert "xinfo|stream" in findings["lost"].todo
        assert (await Repair(broker, "me").mend("orders"))["orders"].losses == 0
    said = [
        record
        for record in caplog.records
        if record.streams_message == "losses of the server would go unnoticed"
    ]
    assert len(said) == 1


async def test_marks_are_plain_and_few(broker: Broker, server: Server) -> None:
    """One per level and group, and one of the dead letters; what did not change is not written again."""
    marking = WatermarkStore(broker, broker.keys("orders"))
    await marking.write({"level:0": Mark("1-1", 1), "dead:g": Mark("2-2")})
    assert await marking.written() == (
        {"level:0": Mark("1-1", 1), "dead:g": Mark("2-2", -1)},
        {},
    )
    assert await marking.look(["level:0", "dead:g", "read:g:0"]) == {
        "level:0": None,
        "dead:g": None,
        "read:g:0": None,
    }
    assert await marking.report({"level:0": Loss("1-1", "", 1)}, "a")
    assert not await marking.report({"level:0": Loss("1-1", "", 1)}, "b")
    _, told = await marking.written()
    assert told["level:0"].by == "a"

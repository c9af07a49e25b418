"""How a pipeline is opened and left: blocks, settings of the environment, stops, and event loops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streams import (
    BrokerUnavailable,
    ConfigurationError,
    Event,
    EventTooLarge,
    Levels,
    Pipeline,
    Retry,
    Settings,
    StreamFull,
)
from streams.broker.keys import PARKED
from tests.conftest import eventually
from tests.server.serving import _short_polls as _short_polls
from tests.server.serving import handle, on, serving

pytestmark = pytest.mark.in_turn

# --- open and closed


async def test_outside_of_its_block_it_says_how_to_open_it(server, namespace):
    pipeline = on(server, namespace)
    acts = [
        lambda: pipeline.publish("s", 1, type="t"),
        lambda: pipeline.publish_many("s", [1], type="t"),
        lambda: pipeline.dead_letters("s", "g").count(),
    ]
    for act in acts:
        with pytest.raises(ConfigurationError, match=r"async with pipeline"):
            await act()
    async with pipeline:
        await pipeline.publish("s", 1, type="t")
    for act in acts:
        with pytest.raises(ConfigurationError, match=r"async with pipeline"):
            await act()
    async with pipeline:
        await pipeline.publish("s", 2, type="t")
        assert (await pipeline.status().stream("s")).stored == 2


async def test_blocks_may_be_nested(server, namespace):
    pipeline = on(server, namespace)
    async with pipeline as outer:
        async with pipeline as inner:
            assert outer is inner is pipeline
            await pipeline.publish("s", 1, type="t")
        await pipeline.publish("s", 2, type="t")
        with pytest.raises(RuntimeError, match="mine"):
            async with pipeline:
                raise RuntimeError("mine")
        await pipeline.publish("s", 3, type="t")
        assert (await pipeline.status().stream("s")).stored == 3
    with pytest.raises(ConfigurationError):
        await pipeline.publish("s", 4, type="t")


@pytest.mark.one_server
async def test_who_opens_it_at_the_same_time_shares_one_broker(server, namespace):
    pipeline = on(server, namespace)
    brokers = set()
    inside = 0

    async def use(n: int) -> None:
        nonlocal inside
        async with pipeline:
            inside += 1
            brokers.add(pipeline.broker)
            await eventually(lambda: inside == 10, what="everybody")
            await pipeline.publish("s", n, type="t")

    await asyncio.gather(*(use(n) for n in range(10)))
    assert len(brokers) == 1
    async with pipeline:
        assert (await pipeline.status().stream("s")).stored == 10
    with server.client() as client:

        async def nobody_is_left() -> bool:
            return client.info("clients")["connected_clients"] == 1

        await eventually(nobody_is_left, what="every connection to be closed")


@pytest.mark.one_server
async def test_a_server_that_is_not_there_can_be_tried_again(
    tmp_path, server, namespace
):
    link = tmp_path / "server.sock"
    pipeline = Pipeline(
        f"unix://{link}", settings=Settings(namespace=namespace, timeout=0.5)
    )
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        async with pipeline:
            pass
    link.symlink_to(server.socket)
    async with pipeline:
        await pipeline.publish("s", 1, type="t")


# --- settings


async def test_from_env_reads_the_env_file(server, namespace):
    Path(".env").write_text(
        f"STREAMS_URL={server.url}\nexport STREAMS_NAMESPACE='{namespace}'\n"
        "STREAMS_LEVELS=1,2\nSTREAMS_MAX_LEN=2\nSTREAMS_MAX_EVENT_BYTES=10\n"
    )
    pipeline = Pipeline.from_env()
    assert pipeline.settings.levels == Levels((1, 2))
    async with pipeline:
        assert pipeline.broker.namespace == namespace
        receipts = await pipeline.publish_many("s", [1, 2], type="t", priority=9)
        assert [receipt.level for receipt in receipts] == [2, 2]
        with pytest.raises(StreamFull):
            await pipeline.publish("s", 3, type="t")
        with pytest.raises(EventTooLarge):
            await pipeline.publish("s", "x" * 20, type="t")
        assert await pipeline.broker.control.call("XLEN", f"{namespace}:{{s}}:2") == 2


async def test_from_env_names_what_is_malformed(monkeypatch):
    Path(".env").write_text("STREAMS_CONCURRENCY=100\nSTREAMS_LEASE=soon\n")
    with pytest.raises(ConfigurationError, match=r"STREAMS_LEASE='soon' \(from .env\)"):
        Pipeline.from_env()
    monkeypatch.setenv("STREAMS_LEASE", "5")
    assert Pipeline.from_env().settings.lease == 5.0


# --- run


async def test_run_without_handlers_is_refused(server, namespace):
    with pytest.raises(ConfigurationError, match="has no handler"):
        await on(server, namespace).run()


async def test_stop_before_and_after_run_does_nothing(server, namespace):
    pipeline = on(server, namespace)
    pipeline.handler("s", group="g")(handle)
    pipeline.stop()
    async with serving(pipeline):
        pass
    pipeline.stop()


async def test_stop_waits_for_what_runs_and_leaves_the_rest(server, namespace):
    pipeline = on(server, namespace)
    gate = asyncio.Event()
    started, ended = [], []

    @pipeline.handler("s", group="g", concurrency=2)
    async def slow(event: Event) -> None:
        started.append(event.data)
        await gate.wait()
        ended.append(event.data)

    async with pipeline:
        await pipeline.publish_many("s", range(5), type="t")
        async with serving(pipeline) as running:
            await eventually(lambda: len(started) == 2, what="two starts")
            pipeline.stop()
            await asyncio.sleep(0)
            assert not running.done()
            gate.set()
            await running
        (group,) = (await pipeline.status().stream("s")).groups
    assert started == ended == [0, 1]
    assert (
        group.total("waiting"),
        group.total("processing"),
        group.total("retrying"),
    ) == (3, 0, 0)


async def test_a_second_stop_is_now_and_burns_no_attempt(server, namespace):
    pipeline = on(server, namespace, grace_period=60)
    started = []

    @pipeline.handler("s", group="g", retry=Retry(max_retries=0))
    async def endless(event: Event) -> None:
        started.append(event.attempt)
        await asyncio.sleep(60)

    async with pipeline:
        await pipeline.publish("s", 1, type="t")
        running = asyncio.create_task(pipeline.run())
        for n in (1, 2):
            await eventually(lambda: len(started) == n, what="the start")  # noqa: B023
            pipeline.stop()
            pipeline.stop()
            await asyncio.wait_for(running, 5)
            rows = await pipeline.broker.control.call(
                "XPENDING", f"{namespace}:{{s}}:0", "g", "-", "+", 9
            )
            assert [owner.decode() for _, owner, *_ in rows] == [PARKED]
            if n == 1:
                running = asyncio.create_task(pipeline.run())
        assert await pipeline.dead_letters("s", "g").count() == 0
    assert started == [1, 1]


def test_a_pipeline_belongs_to_the_event_loop_that_opened_it(server, namespace):
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))

    async def publish() -> None:
        await pipeline.publish("orders", 1, type="t")

    async def both() -> None:
        async with pipeline:
            await publish()

    for _ in range(2):
        asyncio.run(both())
    with asyncio.Runner() as first:
        first.run(pipeline.__aenter__())
        first.run(publish())
        for use in (publish, both):
            with (
                asyncio.Runner() as second,
                pytest.raises(ConfigurationError, match="opened in another event loop"),
            ):
                second.run(use())
        first.run(pipeline.__aexit__())


def test_what_a_pipeline_gave_out_belongs_to_its_event_loop_too(server, namespace):
    """It may be asked for where no event loop runs, and awaited in another one."""
    pipeline = Pipeline(settings=Settings(url=server.url, namespace=namespace))
    with asyncio.Runner() as first:
        first.run(pipeline.__aenter__())
        first.run(pipeline.publish("orders", 1, type="t"))
        status, letters, producer = (
            pipeline.status(),
            pipeline.dead_letters("orders", "g"),
            pipeline.producer("orders"),
        )
        for use in (
            lambda: status.stream("orders"),
            letters.count,
            lambda: producer.publish(1, type="t"),
        ):
            with (
                asyncio.Runner() as second,
                pytest.raises(ConfigurationError, match="opened in another event loop"),
            ):
                second.run(use())
            assert first.run(status.stream("orders")).stored == 1, "its own goes on"
        first.run(pipeline.__aexit__())

"""A pause holds every worker, whoever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from streams import Broker, Pauses
from tests.process.site import Site
from tests.process.worker_app import STREAM
from tests.servers import BINARIES, Server, wait_until


def pauses(site: Site, act: Callable[[Pauses], object]) -> None:
    async def main() -> None:
        async with Broker(site.server.url, namespace=site.namespace) as broker:
            await act(Pauses(broker, STREAM))

    asyncio.run(main())


def test_a_pause_holds_through_kills_and_restarts_of_workers_and_server(
    make_server, namespace: str, tmp_path: Path
):
    server: Server = make_server(BINARIES[0], aof=True)
    site = Site(server, namespace, tmp_path)
    try:
        first, second = site.worker(concurrency=2), site.worker(concurrency=2)
        ids = site.publish([{"do": "sleep", "s": 0.05}] * 400)
        wait_until(
            lambda: (
                {line["pid"] for line in site.of("start")} == {first.pid, second.pid}
            ),
            what="both at work",
        )
        pauses(site, lambda stream: stream.pause(reason="a test"))
        # Within a second: what still started then is counted, and nothing after it.
        time.sleep(1.0)
        started = len(site.of("start"))
        assert started < len(ids)
        first.process.kill()
        third = site.worker(concurrency=2)
        server.kill()
        server.start()
        time.sleep(1.5)  # Three looks for work of each, had it not been held.
        assert third.process.poll() is None
        assert second.process.poll() is None
        assert len(site.of("start")) == started, "something started in the pause"
        pauses(site, lambda stream: stream.resume())
        wait_until(lambda: len(site.of("start")) > started, what="work after the pause")
        wait_until(
            lambda: set(site.done()) == set(ids),
            seconds=60,
            what="everything to be done",
        )
        assert max(site.done().values()) == 1
        assert {second.pid, third.pid} <= {
            line["pid"] for line in site.of("start")[started:]
        }
    finally:
        site.close()

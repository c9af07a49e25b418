"""What a server on the shipped files keeps through a restart, and what it kept on those shipped before.

    python -m tests.deploy.restarts                     the table of docs/reliability.md
    STREAMS_TEST_SERVERS=/a:/b python -m tests.deploy.restarts
                                                        on these servers

A store is filled with whatever the product stores: events that wait (of ``publish_many``, one by one, with a dedup id),
scheduled ones, retries, dead letters, events that are done. Every key is read before and after.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis

from streams import Event, Pipeline, Reject, Retry, Settings
from tests.servers import BINARIES, server_label, wait_until
from tests.shipped import SECRET, Shipped, everybody

BEFORE = "user default off\n"
"""How users.acl began before: a default user without permissions, and so without those that the AOF needs."""
SHOWN = ("scheduled", "dead", "retrying", "waiting", "done")
_DONE, _DEAD, _RETRYING, _SCHEDULED, _MANY, _SINGLE, _ONCE = 20, 10, 10, 20, 50, 10, 10

Picture = dict[bytes, Any]
Fill = Callable[[], None]
Way = Callable[[Shipped, Fill], contextlib.AbstractContextManager[Shipped]]


async def fill(server: Shipped) -> None:
    """Let producer and worker, each as its own user, store some of everything."""
    pipeline = _pipeline(server, "worker")
    handled: list[str] = []

    @pipeline.handler(
        "orders", group="billing", retry=Retry(max_retries=3, delay=3600.0)
    )
    async def work(event: Event) -> None:
        handled.append(event.id)
        if event.data == "bad":
            raise Reject("no")
        if event.data == "later":
            raise OSError("no")

    running = asyncio.create_task(pipeline.run())
    async with _pipeline(server, "producer") as producer:
        for _ in range(_DONE):
            await producer.publish("orders", "good", type="t")
        await producer.publish_many(
            "orders", ["bad"] * _DEAD + ["later"] * _RETRYING, type="t"
        )
        await producer.publish_many(
            "orders", [Event("t", n, delay=3600.0) for n in range(_SCHEDULED)]
        )
        await producer.publish_many("waiting", range(_MANY), type="t")
        for n in range(_SINGLE):
            await producer.publish("waiting", n, type="t")
        await producer.publish_many(
            "waiting", [Event("t", n, dedup_id=f"d{n}") for n in range(_ONCE)]
        )
        async with asyncio.timeout(20):
            while len(handled) < _DONE + _DEAD + _RETRYING:
                await asyncio.sleep(0.01)
    pipeline.stop()
    await running


async def handled_again(server: Shipped) -> int:
    """How many events that are done a worker handles once more: it is given nothing else to do."""
    again = 0
    pipeline = _pipeline(server, "worker")

    @pipeline.handler(
        "orders", group="billing", retry=Retry(max_retries=3, delay=3600.0)
    )
    async def work(event: Event) -> None:
        nonlocal again
        again += event.data == "good"
        if event.data == "last":
            pipeline.stop()

    running = asyncio.create_task(pipeline.run())
    async with _pipeline(server, "producer") as producer:
        await producer.publish("orders", "last", type="t")
    await asyncio.wait_for(running, 20)
    return again


async def duplicates(server: Shipped) -> int:
    """How many of the dedup ids the server remembers."""
    async with _pipeline(server, "producer") as producer:
        receipts = await producer.publish_many(
            "waiting", [Event("t", n, dedup_id=f"d{n}") for n in range(_ONCE)]
        )
    return sum(receipt.duplicate for receipt in receipts)


async def _used(server: Shipped) -> tuple[int, int]:
    return await asyncio.gather(handled_again(server), duplicates(server))


def _pipeline(server: Shipped, role: str) -> Pipeline:
    return Pipeline(settings=Settings(url=server.url_as(role)))


def picture(server: Shipped) -> Picture:
    """Every key with what it holds; groups with what they have in hand."""
    with server.client() as client:
        return {key: _content(client, key) for key in sorted(client.keys())}


def _content(client: redis.Redis, key: bytes) -> Any:
    kind = client.type(key)
    if kind == b"stream":
        groups = client.xinfo_groups(key)
        pending = [
            (row["message_id"], row["consumer"], row["times_delivered"])
            for group in groups
            for row in client.xpending_range(key, group["name"], "-", "+", 1000)
        ]
        read = [(group["name"], group["last-delivered-id"]) for group in groups]
        facts = client.xinfo_stream(key)
        return (
            client.xrange(key),
            read,
            pending,
            facts["last-generated-id"],
            facts.get("entries-added"),
        )
    if kind == b"zset":
        return client.zrange(key, 0, -1, withscores=True)
    if kind == b"hash":
        return client.hgetall(key)
    return sorted(client.smembers(key)) if kind == b"set" else client.get(key)


def kept(seen: Picture) -> dict[str, int]:
    """How many there are of what."""
    root = b"streams:{orders}:"

    def many(key: bytes) -> int:
        found = seen.get(key)
        return len(found[0] if isinstance(found, tuple) else found) if found else 0

    return {
        "scheduled": min(many(root + b"scheduled"), many(root + b"scheduled-fields")),
        "dead": many(root + b"billing:dead"),
        "retrying": min(
            many(root + b"billing:retry"), many(root + b"billing:attempts")
        ),
        "waiting": many(b"streams:{waiting}:0"),
    }


@contextlib.contextmanager
def stopped(server: Shipped, fill: Fill) -> Iterator[Shipped]:
    """Stopped in order, and started."""
    fill()
    server.stop()
    server.start()
    yield server


@contextlib.contextmanager
def killed(server: Shipped, fill: Fill) -> Iterator[Shipped]:
    """SIGKILL, and started."""
    fill()
    server.kill()
    server.start()
    yield server


@contextlib.contextmanager
def rewritten(server: Shipped, fill: Fill) -> Iterator[Shipped]:
    """The append-only file is rewritten, then SIGKILL, and started."""
    fill()
    with server.client() as client:
        client.bgrewriteaof()
        wait_until(
            lambda: _is_rewritten(client), what="the append-only file to be rewritten"
        )
    server.kill()
    server.start()
    yield server


def _is_rewritten(client: redis.Redis) -> bool:
    facts = client.info("persistence")
    return not facts["aof_rewrite_in_progress"] and not facts["aof_rewrite_scheduled"]


@contextlib.contextmanager
def promoted(server: Shipped, fill: Fill) -> Iterator[Shipped]:
    """A replica on the same files takes over from a primary that is killed, and is killed and started itself."""
    replica = Shipped(
        server.binary,
        server.acl.read_text(),
        "--masteruser",
        "admin",
        "--masterauth",
        SECRET,
    )
    replica.options += ["--repl-diskless-sync-delay", "0"]
    try:
        replica.start()
        _follow(replica, "127.0.0.1", server.port)
        wait_until(lambda: _in_step(server, replica), what="the replica to be in step")
        fill()
        wait_until(
            lambda: _in_step(server, replica), what="the replica to be in step again"
        )
        server.kill()
        _follow(replica, "NO", "ONE")
        replica.kill()
        replica.start()
        yield replica
    finally:
        replica.close()


def _follow(replica: Shipped, host: str, port: str | int) -> None:
    with replica.client() as client:
        client.execute_command("REPLICAOF", host, port)


def _in_step(server: Shipped, replica: Shipped) -> bool:
    """Whether it has everything, in a file of its own: it writes one after each whole copy, in the background."""
    with server.client() as first, replica.client() as second:
        ours, theirs = first.info("replication"), second.info("replication")
        has_file = _is_rewritten(second)
    is_there = theirs.get("master_link_status") == "up"
    return (
        is_there
        and theirs.get("slave_repl_offset") == ours["master_repl_offset"]
        and has_file
    )


WAYS: dict[str, Way] = {
    "stopped": stopped,
    "killed": killed,
    "rewritten, killed": rewritten,
    "promoted": promoted,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a restart kept: all the keys before and after, and what was done twice or forgotten."""

    before: Picture
    after: Picture
    again: int
    remembered: int

    def row(self) -> dict[str, str]:
        """The cells of the table, by the names in ``SHOWN``."""
        had, has = kept(self.before), kept(self.after)
        cells = {name: f"{has[name]}/{had[name]}" for name in had}
        return cells | {"done": f"{self.again} again" if self.again else "once"}


def restart(binary: str, way: str, acl: str) -> Outcome:
    """Fill a server with these users, restart it this way, and see what is there."""
    server = Shipped(binary, acl)
    before: Picture = {}

    def filled() -> None:
        asyncio.run(fill(server))
        before.update(picture(server))

    try:
        server.start()
        with WAYS[way](server, filled) as again:
            after = picture(again)
            return Outcome(before, after, *asyncio.run(_used(again)))
    finally:
        server.close()


def main() -> None:
    """Print the table."""
    logging.disable(logging.CRITICAL)
    shipped = everybody()
    before = shipped.replace(shipped.splitlines()[0] + "\n", BEFORE)
    print(
        f"| server | restart | {' | '.join(SHOWN)} |\n| --- | --- |{' --- |' * len(SHOWN)}"
    )
    for binary in BINARIES:
        for way in WAYS:
            then, now = (restart(binary, way, acl).row() for acl in (before, shipped))
            cells = [
                now[name] if then[name] == now[name] else f"{then[name]} → {now[name]}"
                for name in SHOWN
            ]
            print(
                f"| {server_label(binary)} | {way} | {' | '.join(cells)} |", flush=True
            )


if __name__ == "__main__":
    main()

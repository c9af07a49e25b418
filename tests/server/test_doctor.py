"""The doctor on real servers, each made to show one finding; a healthy one shows none."""

from __future__ import annotations

import asyncio
import json
import re
import time

import pytest
from typer.testing import CliRunner

from streams import Broker, Pauses, Producer
from streams.broker.keys import PARKED, Keys
from streams.cli.app import app
from streams.doctor import Bounds, Doctor, Finding
from streams.errors import NotFound
from tests.conftest import eventually
from tests.process.live import Live
from tests.process.load import MINIMAL_ACL
from tests.process.worker_app import GROUP, STREAM

NOW = Bounds(silence=0.3, waiting=0.3, late=0.3, paused=0.2)
"""What takes minutes in life is found at once."""

EVERYSEC = ("--appendfsync", "everysec")
"""The doctor has nothing to say of it."""


FIT = (
    *MINIMAL_ACL.split(),
    "+info",
    "+config|get",
    "+acl|dryrun",
    "+memory|usage",
    "+hscan",
)
"""What a worker's user may do, and what the doctor asks for on top."""


def acl_user(server, namespace: str, *rules: str) -> str:
    """The URL of a user of that name with these rules on the keys of the namespace."""
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "app", "reset", "on", ">pw", f"~{namespace}:*", *rules
        )
    return server.url.replace("unix://", "unix://app:pw@")


async def examine(broker: Broker, bounds: Bounds | None = None) -> dict[str, Finding]:
    found = await Doctor(broker, bounds).examine(STREAM)
    return {finding.code: finding for finding in found if finding.where != "server"}


async def settled(broker: Broker, code: str, bounds: Bounds = NOW) -> Finding:
    """Wait until there is such a finding."""
    found: dict[str, Finding] = {}

    async def there() -> bool:
        found.update(await examine(broker, bounds))
        return code in found

    await eventually(there, what=f"the finding {code}")
    return found[code]


def group(server, keys: Keys, levels=(0, 1, 5, 10)) -> None:
    with server.client() as client:
        for level in levels:
            client.xgroup_create(keys.level(level), GROUP, "0", mkstream=True)
            client.sadd(keys.index(), f"{STREAM}|{level}")


@pytest.fixture
def keys(broker: Broker) -> Keys:
    return broker.keys(STREAM)


async def test_a_healthy_server_and_stream_need_nobody(make_server, binary, namespace):
    server = make_server(
        binary, "--maxmemory-policy", "noeviction", *EVERYSEC, aof=True
    )
    url = acl_user(server, namespace, *FIT)
    async with Broker(url, namespace=namespace) as broker, Live(broker) as live:
        await Producer(broker, STREAM).publish({}, type="job")
        await eventually(
            lambda: sum(live.done.values()) == 1, what="the event to be done"
        )
        findings = await Doctor(broker).examine()
    assert [(finding.code, finding.severity) for finding in findings] == [
        ("replication", "info")
    ]


async def test_a_server_that_keeps_nothing_and_evicts(make_server, binary, namespace):
    server = make_server(
        binary, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"
    )
    async with Broker(server.url, namespace=namespace) as broker:
        found = {finding.code: finding for finding in await Doctor(broker).examine()}
    assert (found["persistence"].severity, found["eviction"].severity) == (
        "critical",
        "critical",
    )
    assert "allkeys-lru" in found["eviction"].what
    assert all(finding.todo for finding in found.values() if finding.severity != "info")


async def test_a_replica(make_server, binary, namespace):
    server = make_server(binary, *EVERYSEC, aof=True)
    with server.client() as client:
        client.replicaof("127.0.0.1", 1)
    async with Broker(server.url, namespace=namespace) as broker:
        found = {finding.code: finding for finding in await Doctor(broker).examine()}
    assert found["replica"].severity == "critical"
    assert "down" in found["replica"].what


async def test_what_the_user_may_not_ask_is_unknown_and_named(
    make_server, binary, namespace
):
    server = make_server(binary, *EVERYSEC, aof=True)
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "few", "on", ">pw", "~*", "+time", "+info", "+smembers"
        )
        client.execute_command("ACL", "SETUSER", "least", "on", ">pw", "~*", "+time")
        client.sadd(f"{namespace}:index", f"{STREAM}|0")
    for user, expected in (
        ("few", {"config|get", "acl|dryrun", "type, xlen and xinfo|groups", "hgetall"}),
        ("least", {"info", "smembers"}),
    ):
        async with Broker(
            server.url.replace("unix://", f"unix://{user}:pw@"), namespace=namespace
        ) as broker:
            found = [
                finding
                for finding in await Doctor(broker).examine()
                if finding.severity == "unknown"
            ]
        named = {
            finding.todo.removeprefix("give the user the permission ").removesuffix(
                " to know"
            )
            for finding in found
        }
        assert named <= expected
        # The second is asked of some versions only.
        assert expected - named <= {"hgetall", "acl|dryrun"}


async def test_events_without_a_worker(broker, server, keys):
    group(server, keys)
    await Producer(broker, STREAM).publish({}, type="job")
    found = (await examine(broker))["abandoned"]
    assert (found.severity, found.where) == ("critical", f"{STREAM}/{GROUP}")


async def test_events_that_wait_although_a_consumer_is_there(broker, server, keys):
    group(server, keys)
    await Producer(broker, STREAM).publish({}, type="job")
    with server.client() as client:
        client.xgroup_createconsumer(keys.level(5), GROUP, "alive")
    found = await settled(broker, "stuck", Bounds(waiting=0.2))
    assert found.severity == "warning"
    assert "1 consumer alive" in found.what
    await Pauses(broker, STREAM).pause()
    assert "stuck" not in await examine(broker, Bounds(waiting=0.2))


async def test_a_declared_group_that_is_gone(broker, server, keys):
    with server.client() as client:
        client.hset(
            keys.config(), mapping={"retention": "fanout", "group:billing": "{}"}
        )
        client.xadd(keys.level(0), {"type": "t", "data": "1"})
        client.sadd(keys.index(), f"{keys.stream}|0")
        client.xgroup_create(keys.level(0), "shipping", id="0")
    found = (await examine(broker))["group-missing"]
    assert (found.severity, found.where) == ("critical", f"{keys.stream}/billing")
    assert f"streams groups drop {keys.stream} billing" in found.todo


async def test_a_dead_consumer_that_nobody_sweeps(broker, server, keys):
    group(server, keys)
    await Producer(broker, STREAM).publish({}, type="job")
    with server.client() as client:
        client.xreadgroup(GROUP, "dead", {keys.level(0): ">"}, count=1)

        async def seen() -> bool:
            client.xgroup_delconsumer(keys.level(5), GROUP, "alive")
            client.xgroup_createconsumer(keys.level(5), GROUP, "alive")
            return "dead-consumer" in await examine(broker, NOW)

        await eventually(seen, what="the dead consumer")
        found = (await examine(broker, NOW))["dead-consumer"]
    assert found.what.startswith("dead holds 1 entry")


async def test_a_retry_and_a_scheduled_event_that_nobody_takes(broker, server, keys):
    group(server, keys)
    await Producer(broker, STREAM).publish({}, type="job", delay=0.05)
    found = await settled(broker, "scheduled-late")
    assert found.severity == "warning"
    with server.client() as client:
        entry = client.xadd(keys.level(0), {"type": "job", "data": "{}"}).decode()
        client.xreadgroup(GROUP, PARKED, {keys.level(0): ">"}, count=1)
        client.zadd(keys.retry(GROUP), {f"0|{entry}": (time.time() - 100) * 1000})
        client.xgroup_createconsumer(keys.level(5), GROUP, "alive")
    late = (await examine(broker))["retry-late"]
    assert "100 s" in late.what or "101 s" in late.what


async def test_dead_letters(broker):
    async with Live(broker):
        await Producer(broker, STREAM).publish({"reject": True}, type="job")
        found = await settled(broker, "dead-letters", Bounds())
    assert found.severity == "warning"
    assert found.what.startswith("1 dead letter")
    assert found.todo == f"streams dead ls {STREAM} {GROUP}"
    assert (await examine(broker, Bounds(dead=0.0)))["dead-letters"].severity == "info"


async def test_the_advice_ends_the_very_pause(broker, server, keys):
    group(server, keys)
    await Pauses(broker, STREAM).pause(group=GROUP, tenant="a b")
    found = (await examine(broker))["paused"]
    assert (
        found.todo
        == f"streams resume {STREAM} --group {GROUP} --tenant 'a b', when it may go on"
    )


async def test_a_pause_is_told_and_one_that_lasts_is_a_warning(broker, server, keys):
    group(server, keys)
    await Pauses(broker, STREAM).pause(level=5, reason="maintenance")
    found = (await examine(broker))["paused"]
    assert found.severity == "info"
    assert "level=5 is paused for" in found.what
    assert found.what.endswith(": maintenance")
    assert found.todo == f"streams resume {STREAM} --level 5, when it may go on"

    async def lasts() -> bool:
        await broker.connect()  # Reads the server's clock.
        return (await examine(broker, NOW))["paused"].severity == "warning"

    await eventually(lasts, what="the pause to last")


async def test_levels_that_nobody_serves_or_that_are_gone(broker, server, keys):
    group(server, keys, (0, 1))
    await Producer(broker, STREAM).publish({}, type="job", priority=10)
    with server.client() as client:
        client.sadd(keys.index(), f"{STREAM}|7")
    found = await examine(broker)
    assert found["level-unserved"].severity == "critical"
    assert found["level-unserved"].what.startswith("1 event waits on level 10")
    gone = [
        finding
        for finding in await Doctor(broker).examine(STREAM)
        if finding.code == "level-gone"
    ]
    assert {finding.severity for finding in gone} == {"info"}
    assert any("level 7 is listed" in finding.what for finding in gone)


@pytest.mark.parametrize("what", ["level", "scheduled", "retry", "attempts", "dead"])
async def test_a_key_of_another_kind(broker, server, keys, what):
    group(server, keys, (0, 1))
    key = {
        "level": keys.level(0),
        "scheduled": keys.scheduled(),
        "retry": keys.retry(GROUP),
        "attempts": keys.attempts(GROUP),
        "dead": keys.dead(GROUP),
    }[what]
    with server.client() as client:
        client.delete(key)
        client.set(key, "mine")
    found = (await examine(broker))["key-type"]
    assert found.severity == "critical"
    assert f"{key} holds a string" in found.what


async def test_a_stream_that_is_not_there(broker):
    with pytest.raises(NotFound, match="no stream 'nowhere'"):
        await Doctor(broker).examine("nowhere")


async def test_the_command_goes_on_whatever_one_permission_is_missing(
    make_server, binary
):
    server = make_server(binary, *EVERYSEC, aof=True)
    async with Broker(server.url) as broker:
        await Producer(broker, STREAM).publish({}, type="job")
    for command in (
        "time",
        "info",
        "config|get",
        "hello",
        "smembers",
        "xlen",
        "hgetall",
        "evalsha",
    ):
        url = acl_user(server, "streams", "+@all", f"-{command}")
        ended = await asyncio.to_thread(
            CliRunner().invoke, app, ["doctor", "--url", url, "--json"]
        )
        assert ended.exit_code in (1, 2), (command, ended.output)
        found = json.loads(ended.stdout)
        rows = found["findings"]
        told = [
            row["todo"]
            for row in rows
            if row["severity"] == "unknown" or row["code"] == "permissions"
        ]
        assert command == "hello" or any(command in todo for todo in told), (
            command,
            rows,
        )
        if command == "time":
            assert "clock" in [row["code"] for row in found["findings"]]


async def test_the_command(make_server, binary):
    server = make_server(binary, *EVERYSEC, aof=True)
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")

    def run(*arguments: str):
        return asyncio.to_thread(
            CliRunner().invoke, app, ["doctor", "--url", url, *arguments]
        )

    url = acl_user(server, "streams", *FIT)
    good = await run()
    assert good.exit_code == 0
    assert "no replica" in good.stdout
    first = good.stdout.splitlines()[0]
    assert re.fullmatch(
        r"connected to unix://[^@]+: (redis|valkey) \d+\.\d+\.\d+, single server", first
    ), first
    assert good.stdout.endswith("nothing that needs you: 1 info, 16 checks\n")
    async with Broker(server.url) as broker:
        await Pauses(broker, STREAM)._store.pause("stream", "me", "")
        await Producer(broker, STREAM).publish({}, type="job")
    bad = await run("--json", "--stream", STREAM)
    assert bad.exit_code == 2
    assert {finding["code"] for finding in json.loads(bad.stdout)["findings"]} >= {
        "level-unserved",
        "paused",
    }
    with server.client() as client:
        client.config_set("appendfsync", "no")
        client.flushall()
    assert (await run()).exit_code == 1

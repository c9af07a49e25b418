"""The shipped files keep everything through every kind of restart, on every server."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
import redis

from streams import Broker, Pipeline, Settings
from streams.doctor import Doctor, Finding
from streams.doctor.servers import depends_on_default_user
from streams.errors import AccessDenied
from tests.deploy.restarts import (
    BEFORE,
    WAYS,
    fill,
    handled_again,
    kept,
    picture,
    restart,
)
from tests.shipped import EVERYBODY, FILES, SECRET, Shipped, everybody, make_acl, users

DEFAULT_RULE = "ACL SETUSER default off resetpass ~* &* +@all"


@pytest.fixture(scope="module")
def acl() -> str:
    return everybody()


@pytest.mark.parametrize("way", WAYS)
def test_a_restart_keeps_everything(binary: str, way: str, acl: str) -> None:
    outcome = restart(binary, way, acl)
    assert all(kept(outcome.before).values())
    changed = {
        key
        for key in outcome.before | outcome.after
        if outcome.before.get(key) != outcome.after.get(key)
    }
    assert not changed
    assert outcome.again == 0
    assert outcome.remembered == 10


def test_what_a_start_left_out_is_back_with_the_right_users(
    binary: str, acl: str
) -> None:
    """It is in the append-only file still, until that is rewritten; work that was done meanwhile is kept, too."""
    server = Shipped(binary, BEFORE + "".join(acl.splitlines(keepends=True)[1:]))
    try:
        server.start()
        asyncio.run(fill(server))
        before = kept(picture(server))
        server.stop()
        server.start()
        asyncio.run(handled_again(server))
        server.acl.write_text(acl)
        server.stop()
        server.start()
        assert kept(picture(server)) == before
        assert asyncio.run(handled_again(server)) == 0
    finally:
        server.close()


async def test_the_doctor_finds_a_server_that_would_lose_data(
    binary: str, acl: str
) -> None:
    """And what it says to do is enough; on a server that would lose nothing it is silent."""
    server = Shipped(binary, BEFORE + "".join(acl.splitlines(keepends=True)[1:]))

    async def found(role: str = "operator") -> Finding | None:
        async with Broker(server.url_as(role)) as broker:
            findings = await Doctor(broker, role="operator").examine()
        return next((each for each in findings if each.code == "default-user"), None)

    try:
        server.start()
        with server.client() as client:
            loses = depends_on_default_user(
                {name: str(value) for name, value in client.info().items()}
            )
        seen = await found()
        assert (seen is not None) == loses
        if seen is not None:
            assert seen.severity == "critical"
            assert "XADD, XACK, XDEL, ZADD, HSET, SET" in seen.what
            assert seen.todo.startswith(DEFAULT_RULE)
            with server.client() as client:
                client.execute_command("ACL", "SETUSER", "operator", "-acl|dryrun")
            seen = await found()
            assert seen is not None
            assert (seen.severity, seen.todo) == (
                "unknown",
                "give the user the permission acl|dryrun to know",
            )
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "operator", "+acl|dryrun")
            client.execute_command(*DEFAULT_RULE.split())
        assert await found() is None
    finally:
        server.close()


def test_nobody_gets_in_without_a_password(binary: str, acl: str) -> None:
    """The default user may do everything, and that opens nothing."""
    server = Shipped(binary, acl)
    try:
        server.start()
        for words in (
            ("PING",),
            ("AUTH", ""),
            ("AUTH", "default", ""),
            ("AUTH", SECRET),
            ("HELLO", "2"),
        ):
            with redis.Redis(
                unix_socket_path=server.socket, retry=None, protocol=2
            ) as client:
                with pytest.raises(redis.AuthenticationError):
                    client.execute_command(*words)
                with pytest.raises(redis.AuthenticationError):
                    client.execute_command("PING")
        with server.client() as client:
            rules = client.acl_getuser("default")
        assert "off" in rules["flags"]
        assert "nopass" not in rules["flags"]
        assert not rules["passwords"]
    finally:
        server.close()


def test_what_is_written_is_what_the_source_says(acl: str) -> None:
    lines = acl.splitlines()
    assert lines[0] == make_acl().DEFAULT == DEFAULT_RULE.replace("ACL SETUSER", "user")
    assert [line.split()[1] for line in lines[1:]] == list(EVERYBODY)
    # Servers before Redis 8.8 do not start with a comment in it.
    assert not any(line.startswith("#") for line in lines)
    assert "make-acl.py says more" in (FILES / "redis.conf").read_text("utf-8")


async def test_the_admin_does_what_the_roles_may_not(binary: str, acl: str) -> None:
    asked = (
        ("ACL", "LOAD"), ("ACL", "SETUSER", "worker", "on"), ("CONFIG", "SET", "maxmemory", "0"), ("BGREWRITEAOF",),
        ("BGSAVE", "SCHEDULE"), ("CLIENT", "PAUSE", "1", "WRITE"), ("CLIENT", "UNPAUSE"), ("REPLICAOF", "NO", "ONE"),
    )  # fmt: skip
    server = Shipped(binary, acl)
    try:
        server.start()
        for command in asked:
            # ACL LOAD may end every connection, that of who asks included.
            with server.client() as client:
                client.execute_command(*command)
            for role in ("producer", "worker", "operator"):
                async with Pipeline(
                    settings=Settings(url=server.url_as(role))
                ) as pipeline:
                    with pytest.raises(AccessDenied):
                        await pipeline.broker.control.call(*command)
        with server.client() as client, pytest.raises(redis.ConnectionError):
            client.execute_command("SHUTDOWN", "NOSAVE")
        assert server.process is not None
        assert server.process.wait(10) == 0
    finally:
        server.close()


async def test_a_rotation_interrupts_nobody(binary: str) -> None:
    """As docs/operations.md tells it: both passwords are taken, everybody moves, the old one is taken out."""
    now = {f"STREAMS_{role.upper()}_PASSWORD": SECRET for role in EVERYBODY}
    following = {f"{name}_NEXT": "next" for name in now}
    server = Shipped(binary, users(**now))
    handled: list[int] = []

    def worker_with(password: str) -> Pipeline:
        pipeline = Pipeline(settings=Settings(url=server.url_as("worker", password)))

        @pipeline.handler("orders", group="billing")
        async def work(event: object) -> None:
            handled.append(event.data)  # type: ignore[attr-defined]

        return pipeline

    async def published(count: int) -> None:
        async with Pipeline(
            settings=Settings(url=server.url_as("producer", "next"))
        ) as producer:
            await producer.publish_many(
                "orders", range(len(handled), len(handled) + count), type="t"
            )
        async with asyncio.timeout(20):
            while len(handled) < count + before:
                await asyncio.sleep(0.01)

    def apply(acl: str) -> None:
        server.acl.write_text(acl)
        with server.client() as client:
            client.execute_command("ACL", "LOAD")

    try:
        server.start()
        old = worker_with(SECRET)
        running = [asyncio.create_task(old.run())]
        apply(users(**now, **following))
        before = len(handled)
        await published(10)
        new = worker_with("next")
        running.append(asyncio.create_task(new.run()))
        old.stop()
        await running[0]
        before = len(handled)
        await published(10)
        # The admin is moved last: whoever looks here still has its old password.
        ended = {name: "next" for name in now if "ADMIN" not in name}
        apply(users(**ended, STREAMS_ADMIN_PASSWORD=SECRET))
        before = len(handled)
        await published(10)
        with pytest.raises(AccessDenied):
            async with Pipeline(settings=Settings(url=server.url_as("worker", SECRET))):
                pass
        new.stop()
        await running[1]
        assert sorted(handled) == list(range(30))
    finally:
        server.close()


def test_a_next_password_alone_is_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        users(STREAMS_WORKER_PASSWORD_NEXT="x")
    assert (
        "STREAMS_WORKER_PASSWORD_NEXT is set and STREAMS_WORKER_PASSWORD is not"
        in refused.value.stderr
    )

"""What is asked of servers instead of streams, and URLs: all topologies, the single one included."""

from __future__ import annotations

import signal

import pytest

from streams import Broker, BrokerUnavailable, ConfigurationError, Producer
from streams.broker.server.slots import key_of
from streams.broker.server.url import ServerURL
from streams.doctor import Doctor
from streams.errors import AccessDenied, WrongServer
from tests.conformance.conftest import OURS
from tests.topologies import Clustered, Watched


async def test_the_doctor_asks_every_server_that_has_a_part_of_the_keys(
    server, namespace
):
    async with Broker(server.url, namespace=namespace) as broker:
        await Producer(broker, "orders").publish(1, type="t")
        found = await Doctor(broker).examine()
    about = {finding.where for finding in found if finding.code == "persistence"}
    if isinstance(server, Clustered):
        assert about == {f"server 127.0.0.1:{one.port}" for one in server.servers[:3]}
    elif isinstance(server, Watched):
        assert about == {"server"}
    plain = [finding for finding in found if finding.code == "plain-text"]
    assert not plain, "loopback"


def test_the_slot_of_a_command_is_that_of_its_key():
    for command, key in (
        (("XADD", "k", "*", "f", "v"), "k"),
        (("EVALSHA", "sha", 2, "k", "l", "k2"), "k"),
        (("EVALSHA", "sha", 9), None),
        (
            (
                "XREADGROUP",
                "GROUP",
                "STREAMS",
                "STREAMS",
                "COUNT",
                1,
                "STREAMS",
                "k",
                ">",
            ),
            "k",
        ),
        (("XREAD", "COUNT", 1, "STREAMS", "k", "0"), "k"),
        (("XINFO", "GROUPS", "k"), "k"),
        (("XGROUP", "CREATE", "k", "g", "0"), "k"),
        (("MEMORY", "USAGE", "k"), "k"),
        (("SCAN", 0, "MATCH", "n:{s}:*", "COUNT", 5), "n:{s}:*"),
        (("TIME",), None),
        (("SCRIPT", "LOAD", "text"), None),
    ):
        assert key_of(command) == key, command


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://h:1/2", ServerURL("", "redis://h:1/2")),
        ("valkeys://u:p@h/0?a=b", ServerURL("", "rediss://u:p@h/0?a=b")),
        (
            "redis+cluster://u:p%40@a:7000,[::1]:7001,c?ssl_ca_certs=f",
            ServerURL(
                "cluster",
                "redis://u:p%40@localhost/0?ssl_ca_certs=f",
                (("a", 7000), ("::1", 7001), ("c", 6379)),
                "",
                "redis://localhost?ssl_ca_certs=f",
            ),
        ),
        (
            "rediss+sentinel://u:p@a,b:5/main/3?sentinel_password=x%2Fy&ssl_cert_reqs=none",
            ServerURL(
                "sentinel",
                "rediss://u:p@localhost/3?ssl_cert_reqs=none",
                (("a", 26379), ("b", 5)),
                "main",
                "rediss://:x%2Fy@localhost?ssl_cert_reqs=none",
            ),
        ),
    ],
)
def test_urls(url, found):
    assert ServerURL.parse(url) == found


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+sentinel://:secret@h", "names no service"),
        ("redis+sentinel://:secret@h/a b", "names no service"),
        ("redis+sentinel://:secret@h/main/x", "database"),
        ("redis+sentinel://:secret@,h/main", "host"),
        ("redis+cluster://:secret@h/1", "database 0 only"),
        ("redis+cluster://:secret@h:port", "port"),
        ("redis+cluster://:secret@h?max_connections=secret", "cannot be read"),
        ("redis+nothing://:secret@h", "scheme"),
        ("redis+sentinel://", "names no service"),
    ],
)
def test_urls_that_cannot_be_used(url, says):
    with pytest.raises(ConfigurationError, match=says) as refused:
        Broker(url)
    assert "secret" not in str(refused.value)


async def test_nobody_at_home(namespace):
    for url in (
        "redis+sentinel://127.0.0.1:1,127.0.0.1:2/main",
        "redis+cluster://127.0.0.1:1,127.0.0.1:2",
    ):
        with pytest.raises(BrokerUnavailable, match="reached"):
            await Broker(url, namespace=namespace).connect()


async def test_a_service_that_is_not_watched(namespace):
    servers = Watched(OURS[0])
    try:
        servers.start()
        with pytest.raises(
            WrongServer, match="watches no service other: it watches mymaster"
        ):
            await Broker(
                servers.url.replace("mymaster", "other"), namespace=namespace
            ).connect()
        for sentinel in servers.sentinels[:2]:
            sentinel.send_signal(signal.SIGSTOP)
        # One of three tells.
        async with Broker(servers.url, namespace=namespace) as broker:
            await broker.control.call("TIME")
        with servers.servers[0].client() as client:
            client.execute_command(
                "ACL", "SETUSER", "default", ">wrong", "resetpass", ">right"
            )
        with pytest.raises(AccessDenied):
            await Broker(servers.url, namespace=namespace).connect()
        url = servers.url.replace("//", "//:right@")
        async with Broker(url, namespace=namespace) as broker:
            assert broker.user == "default"
            assert "right" not in broker.address
    finally:
        for sentinel in servers.sentinels[:2]:
            sentinel.send_signal(signal.SIGCONT)
        servers.close()

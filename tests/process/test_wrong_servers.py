"""URLs that do not fit the server: one sentence each, which says what to write instead, and the worker ends."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from streams import Pipeline, Settings
from streams.broker.server import failures, kinds
from streams.cli.exit_codes import Exit, exit_code
from streams.errors import (
    BrokerUnavailable,
    CommandRefused,
    ConfigurationError,
    StreamsError,
    WrongCredentials,
    WrongServer,
)
from streams.worker.patience import is_waited_out
from tests.servers import BINARIES, Server, clean_environment, free_port
from tests.topologies import Encrypted, Sharded, Watched

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, str]]:
    """Host and port of a server of each kind, and the file of the authority of the one that speaks TLS."""
    with contextlib.ExitStack() as stack:

        def started(server):
            stack.callback(server.close)
            return server.start()

        plain, guarded = (started(Server(BINARIES[0], port=True)) for _ in range(2))
        with guarded.client() as client:
            client.config_set("requirepass", "secret")
        secure, expired = (
            started(Encrypted(BINARIES[0])),
            started(Encrypted(BINARIES[0], days=-2)),
        )
        ports = {
            "plain": plain.port,
            "guarded": guarded.port,
            "secure": secure.tls,
            "node": started(Sharded(BINARIES[0])).servers[0].port,
            "sentinel": started(Watched(BINARIES[0])).ports[0],
            "expired": expired.tls,
        }
        named = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        authority = secure.certificates.client[2]
        foreign = Encrypted(BINARIES[0])  # Only its certificates are of use.
        stack.callback(foreign.close)
        yield named | {
            "misnamed": f"localhost:{secure.tls}",
            "authority": str(authority),
            "of_expired": str(expired.certificates.client[2]),
            "foreign": f"ssl_certfile={foreign.certificates.client[0]}&ssl_keyfile={foreign.certificates.client[1]}",
        }


CASES = {
    "redis://{node}": "{node} is a node of a cluster: write redis+cluster://{node}",
    "redis://{node}/1": "{node} is a node of a cluster: write redis+cluster://{node}",
    "redis://{sentinel}/0": "{sentinel} is a Sentinel, and knows the servers by a name: "
    "write redis+sentinel://{sentinel}/SERVICE/0",
    "redis+cluster://{plain}": "{plain} is one server and no node of a cluster: write redis://{plain}",
    "redis+cluster://{sentinel}": "{sentinel} is no node of a cluster, maybe a Sentinel",
    "redis+sentinel://{plain}/mymaster": "{plain} is no Sentinel",
    "redis://{secure}": "{secure} speaks TLS: write rediss instead of redis",
    "redis://:secret@{secure}": "{secure} speaks TLS: write rediss instead of redis",
    "rediss://{plain}": "{plain} does not speak TLS: write redis instead of rediss",
    "rediss://{secure}": "is not trusted",
    "rediss://{misnamed}?ssl_ca_certs={authority}": "is for another name (Hostname mismatch, certificate is not valid "
    "for 'localhost'): use the name in the certificate as host of the URL",
    "rediss://{secure}?ssl_ca_certs=/nonexistent/ca.pem": "ssl_ca_certs of the URL names a file that is not there: "
    "/nonexistent/ca.pem",
    "rediss://{secure}?ssl_ca_certs={authority}": "{secure} asks for a certificate: add ?ssl_certfile=FILE",
    "rediss://{secure}?ssl_cert_reqs=none": "{secure} asks for a certificate: add ?ssl_certfile=FILE",
    "rediss+cluster://{secure}?ssl_ca_certs={authority}": "{secure} asks for a certificate: add ?ssl_certfile=FILE",
    "rediss+sentinel://{secure}/s?ssl_ca_certs={authority}": "{secure} asks for a certificate: add ?ssl_certfile=FILE",
    "rediss://{secure}?ssl_ca_certs={authority}&{foreign}": "{secure} refuses the certificate of ssl_certfile (",
    "rediss://{expired}?ssl_ca_certs={of_expired}": "is expired since 20",
    "redis+sentinel://{sentinel}/other/0": "the Sentinel {sentinel} watches no service other: it watches mymaster; "
    "write redis+sentinel://{sentinel}/mymaster/0",
    "redis://{plain}/99": "the server has no database 99: use /0, or raise `databases` in redis.conf",
    "redis://{guarded}": "the server wants a password: write redis://:PASSWORD@HOST:PORT",
    "redis://:wrong@{guarded}": "the server refuses the user or the password: look at both in the URL",
    "redis://:secret@{plain}": "the server has no password for its default user: write redis://HOST:PORT",
}


@pytest.mark.parametrize("url", CASES)
async def test_a_wrong_url_is_told_in_a_sentence_that_says_what_to_write(places, url):
    with pytest.raises(
        StreamsError, match=re.escape(CASES[url].format(**places))
    ) as caught:
        await publish_to(url.format(**places))
    error = caught.value
    assert isinstance(error, (WrongServer, WrongCredentials))
    assert not re.search(r"[.?:]\.", str(error)), "no mark stands twice"
    assert exit_code(error) == (
        Exit.UNREACHABLE if isinstance(error, WrongCredentials) else Exit.USAGE
    )
    assert not is_waited_out("server", error), "it cannot heal"


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://{sentinel}/mymaster/0",
        "redis+cluster://{node}",
        "redis://{plain}",
    ],
)
async def test_a_server_that_is_too_old_is_refused_wherever_it_stands(
    places, url, monkeypatch
):
    monkeypatch.setattr(kinds, "_OLDEST", (99, 0))
    with pytest.raises(
        WrongServer,
        match=r"the server is Redis .*, which is too old: use Redis 6\.2 or later",
    ):
        await publish_to(url.format(**places))


async def test_a_service_that_was_there_is_waited_for(places):
    """Operators take a service away from their Sentinels and put it back, to change where it is."""
    host, port = places["sentinel"].split(":")
    url = f"redis+sentinel://{places['sentinel']}/mymaster/0"
    with redis.Redis(host, int(port), protocol=2) as sentinel:
        primary, own = sentinel.sentinel_get_master_addr_by_name("mymaster")
        async with Pipeline(settings=Settings(url=url, timeout=2.0)) as pipeline:
            sentinel.execute_command("SENTINEL", "REMOVE", "mymaster")
            try:
                link = pipeline.broker.link()
                with pytest.raises(
                    BrokerUnavailable, match="watches no service mymaster"
                ):
                    await link.call("PING")
            finally:
                sentinel.execute_command(
                    "SENTINEL", "MONITOR", "mymaster", primary, own, 1
                )
            assert await link.call("PING") == b"PONG"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "redis://h?ssl_cert_reqs=none",
            "ssl_cert_reqs is for TLS: write rediss:// instead of redis://",
        ),
        (
            "redis+cluster://h?ssl_ca_certs=f",
            "is for TLS: write rediss+cluster:// instead of redis+cluster://",
        ),
        (
            "rediss://h?ssl_cert_reqs=perhaps",
            "the option ssl_cert_reqs is required, optional or none",
        ),
        (
            "redis://h1,h2,h3/0",
            "several hosts: write redis+sentinel://HOST1,HOST2,HOST3/SERVICE/0 or redis+cluster://",
        ),
        ("redis://h1:1,h2:2", "several hosts"),
        (
            "sentinel://h1:26379;sentinel://h2:26379",
            "write redis+sentinel://HOST1,HOST2,HOST3/SERVICE/0, or use",
        ),
        ("redis-cluster://h1", "write redis+cluster://HOST1,HOST2,HOST3, or use"),
    ],
)
def test_a_url_in_the_words_of_others_is_told_what_it_is_here(url, said):
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        Pipeline(url)


async def publish_to(url: str) -> None:
    async with Pipeline(settings=Settings(url=url, timeout=2.0)) as pipeline:
        for n in range(4):  # Each in a slot of its own.
            await pipeline.publish(f"orders{n}", 1, type="t")


@pytest.mark.parametrize(
    "url", ["redis://{node}", "redis://{sentinel}", "redis://{plain}/99"]
)
def test_a_worker_ends_that_has_a_wrong_url(places, tmp_path, url):
    (tmp_path / "shop.py").write_text(
        "from streams import Pipeline\npipeline = Pipeline.from_env()\n"
        "for n in range(4):\n    pipeline.handler(f'orders{n}', group='g')(print)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "streams", "worker", "shop:pipeline"],
        cwd=tmp_path,
        env=clean_environment()
        | {"PYTHONPATH": str(ROOT), "STREAMS_URL": url.format(**places)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == Exit.USAGE
    assert (
        CASES.get(url, "is a Sentinel").format(**places)
        in ended.stderr.splitlines()[-1]
    )


async def test_a_request_that_is_too_large_spoils_none_that_come_after_it(
    make_server, namespace
):
    server = make_server(BINARIES[0])
    with server.client() as client:
        client.config_set("proto-max-bulk-len", 1 << 20)
    settings = Settings(url=server.url, namespace=namespace, max_event_bytes=10_000_000)
    async with Pipeline(settings=settings) as pipeline:
        for n in range(5):
            with contextlib.suppress(BrokerUnavailable, StreamsError):
                await pipeline.publish("orders", "x" * 3_000_000, type="t")
            await pipeline.publish("orders", n, type="t")
        assert (await pipeline.status().stream("orders")).stored == 5


async def test_a_server_without_room_says_so(make_server):
    server = make_server(BINARIES[0], port=True)
    with redis.Redis(unix_socket_path=server.socket) as client:
        client.config_set("maxclients", 1)
        client.ping()
        with pytest.raises(
            BrokerUnavailable, match="its maxclients; look at CLIENT LIST, or raise it"
        ):
            async with Pipeline(server.url):
                pass


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            [b"server", b"redis", b"version", b"5.0.14", b"mode", b"standalone"],
            "Redis 5.0.14, which is too old",
        ),
        ([b"server", b"redis", b"version", b"6.2.14", b"mode", b"standalone"], None),
        (
            [b"server", b"valkey", b"version", b"8.0.1", b"mode", b"cluster"],
            "is a node of a cluster",
        ),
        (
            [b"server", b"redis", b"version", b"7.0.1", b"mode", b"sentinel"],
            "is a Sentinel",
        ),
        ([b"odd"], None),
        (CommandRefused("ERR unknown command"), None),
    ],
)
def test_what_a_server_says_of_itself_is_judged(reply, said):
    found = kinds.judged(kinds.told(reply), "redis://h:1/0")
    assert (said in str(found)) if said else found is None


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("5.0.6", "Redis 5.0.6, which is too old"),
        ("6.0.20", "too old"),
        ("6.2.14", None),
    ],
)
def test_a_server_without_hello_is_judged_by_its_info(version, said):
    text = f"# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n"
    found = kinds.judged(kinds.informed(text.encode()), "redis://h:1/0")
    assert (said in str(found)) if said else found is None


async def test_connecting_refuses_a_server_that_knows_no_hello_and_is_too_old(
    make_server, monkeypatch
):
    server = make_server(BINARIES[0], "--rename-command", "HELLO", "")
    async with Pipeline(server.url):
        pass  # Without HELLO, but new enough.
    monkeypatch.setattr(kinds, "_OLDEST", (99, 0))
    with pytest.raises(WrongServer, match=r"which is too old: use Redis 6\.2 or later"):
        async with Pipeline(server.url):
            pass


def test_what_no_script_may_call_tells_a_server_that_is_too_old():
    reply = "ERR Error running script (call to f_1): @user_script:9: This Redis command is not allowed from scripts"
    error = failures.refusal(redis.ResponseError(reply))
    assert isinstance(error, WrongServer)
    assert "use Redis 6.2 or later" in str(error)


async def test_a_cluster_of_one_node_is_told_before_anything_is_written(make_server):
    server = make_server(
        BINARIES[0],
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        str(free_port()),
        port=True,
    )
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        place = f"127.0.0.1:{server.port}"
        with pytest.raises(
            WrongServer,
            match=f"{place} is a node of a cluster: write redis.cluster://{place}",
        ):
            await publish_to(f"redis://{place}")
        with pytest.raises(WrongServer, match="HOST:6379 is a node of a cluster"):
            await publish_to(f"unix://{server.socket}")
        assert client.dbsize() == 0


async def test_a_replica_is_called_one_while_it_is_waited_for(make_server):
    server = make_server(BINARIES[0], "--replicaof", "127.0.0.1", str(free_port()))
    with pytest.raises(
        BrokerUnavailable, match="the server is a replica, which takes no writes"
    ) as caught:
        await publish_to(server.url)
    assert is_waited_out("server", caught.value), "it may become a primary"

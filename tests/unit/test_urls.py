"""URLs: each scheme leads to its kind of connection, what cannot be used is refused, passwords are never shown."""

from __future__ import annotations

import re
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio.connection import (
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)

from streams.broker import Broker
from streams.errors import BrokerUnavailable, ConfigurationError
from streams.pipeline import Pipeline

CANARY = "canary-7f3a"
quick = settings(deadline=None, database=None, max_examples=80)


@pytest.mark.parametrize(
    ("url", "kind", "options"),
    [
        ("redis://h", Connection, {"host": "h"}),
        ("redis://", Connection, {}),
        ("redis://h:6380/2", Connection, {"host": "h", "port": 6380, "db": 2}),
        ("redis://h/", Connection, {"host": "h"}),
        ("redis://h?db=3", Connection, {"host": "h", "db": 3}),
        (
            "redis://u:p%40ss@h/1",
            Connection,
            {"host": "h", "username": "u", "password": "p@ss", "db": 1},
        ),
        ("redis://:p@h", Connection, {"host": "h", "password": "p"}),
        ("redis://[::1]:7000/0", Connection, {"host": "::1", "port": 7000, "db": 0}),
        ("valkey://h:1/2", Connection, {"host": "h", "port": 1, "db": 2}),
        ("valkey://valkey:1", Connection, {"host": "valkey", "port": 1}),
        ("rediss://h:6380/0", SSLConnection, {"host": "h", "port": 6380, "db": 0}),
        ("valkeys://h", SSLConnection, {"host": "h"}),
        (
            "unix:///run/redis.sock",
            UnixDomainSocketConnection,
            {"path": "/run/redis.sock"},
        ),
        (
            "unix://u:p@/run/redis.sock?db=4",
            UnixDomainSocketConnection,
            {"path": "/run/redis.sock", "username": "u", "password": "p", "db": 4},
        ),
    ],
)
def test_each_scheme_of_a_server(url, kind, options):
    broker = Broker(url)
    assert broker._dial.kind is kind
    assert broker._dial.options == options
    assert broker._embedded is None


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "memory://name",
        None,
        "",
        "embedded:///tmp/x",
        "embedded://rel/ative",
    ],
)
def test_each_scheme_of_an_embedded_server(url):
    broker = Broker(url)
    assert broker._embedded is not None
    assert broker._dial is None
    assert broker.url == (url or "memory://")


@pytest.mark.parametrize(
    "url",
    ["http://h", "redis+other://h", "Redis://h", "redis+tls://h", "amqp://h", "://h"],
)
def test_an_unknown_scheme_is_refused_with_the_known_ones(url):
    with pytest.raises(ConfigurationError, match="is unknown") as caught:
        Broker(url)
    for scheme in (
        "redis://",
        "rediss://",
        "valkey://",
        "unix://",
        "embedded://",
        "memory://",
    ):
        assert scheme in str(caught.value)


@pytest.mark.parametrize(
    ("url", "kind", "options"),
    [
        (
            "redis+sentinel://u:p@h1,h2:5/main/2",
            Connection,
            {"username": "u", "password": "p", "db": 2},
        ),
        ("valkeys+sentinel://h1/main", SSLConnection, {"db": 0}),
        ("redis+cluster://:p@h1:7000,h2", Connection, {"password": "p", "db": 0}),
        (
            "rediss+cluster://h1/0?ssl_cert_reqs=none",
            SSLConnection,
            {"db": 0, "ssl_cert_reqs": "none"},
        ),
    ],
)
def test_each_scheme_of_several_servers(url, kind, options):
    broker = Broker(url)
    dial = (broker._dial or broker._cluster)._dial
    assert dial.kind is kind
    assert dial.options == options | {"host": "localhost"}, (
        "the host is told with each connection"
    )


@pytest.mark.parametrize(
    "url",
    [
        "localhost",
        "localhost:6379",
        f"user:{CANARY}@host:6379",
        "redis:/h",
        "//h",
        "/run/redis.sock",
    ],
)
def test_a_url_without_a_scheme(url):
    with pytest.raises(ConfigurationError, match="has no scheme") as caught:
        Broker(url)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["memory://a/b", "memory:///x", "embedded://", "embedded://x?y=1", "memory://a b"],
)
def test_an_embedded_url_that_cannot_be_used(url):
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Broker(url)


UNREADABLE = [
    "redis://h:port",
    "redis://h:99999",
    "redis://h:-1",
    "redis://h:6379a/0",
    "redis://[::1",
    "redis://h/one",
    "redis://h/-1",
    "redis://h/1.5",
    "redis://h/0/1",
    "redis://h/0x1",
    "redis://h?db=one",
    "redis://h?nonsense=1",
    "redis://h?socket_timeout=soon",
    "rediss://h/db",
    "valkey://h/db",
    "unix:///s?db=one",
    "unix:///s?host=h",
]


@pytest.mark.parametrize("url", UNREADABLE)
def test_a_url_that_cannot_be_read(url):
    with pytest.raises(ConfigurationError, match="URL cannot be read: "):
        Broker(url)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("redis://h:port", "the port is a number"),
        ("redis://h/one", "the database is a number"),
        ("redis://h?nonsense=1", "there is no option nonsense"),
        ("rediss://h?ssl_cert_reqs=CERT_SOME", "option ssl_cert_reqs"),
        ("redis://:a/b@h", "are written %2F"),
        ("redis://:a?b@h", "are written %2F"),
        ("redis://:a#b@h", "are written %2F"),
        ("redis://:1#b@h", "are written %2F"),
    ],
)
def test_the_part_of_a_url_that_cannot_be_read_is_named(url, part):
    with pytest.raises(ConfigurationError, match=re.escape(part)):
        Broker(url)


@pytest.mark.parametrize("word", ["NONE", "OPTIONAL", "REQUIRED"])
def test_celerys_way_to_ask_for_certificates_is_read(word):
    assert (
        Broker(f"rediss://h?ssl_cert_reqs=CERT_{word}")._dial.options["ssl_cert_reqs"]
        == word.lower()
    )


SECRET_URLS = [
    f"redis://:{CANARY}@h",
    f"redis://u:{CANARY}@h:1/0",
    f"rediss://{CANARY}:{CANARY}@h",
    f"valkey://:{CANARY}@h",
    f"redis://h?password={CANARY}",
    f"redis://h/0?username=u&password=a@{CANARY}",
    f"redis://:{CANARY}@h?client_name=a@b",
    f"unix://:{CANARY}@/run/s",
    f"unix:///run/s?password={CANARY}",
    f"redis://:a@{CANARY}@h",
    f"redis+sentinel://:{CANARY}@h1,h2/main",
    f"redis+sentinel://h1,h2/main?sentinel_password={CANARY}",
    f"redis+cluster://u:{CANARY}@h1,h2",
    f"redis://:{CANARY}%2F@h",
]


@pytest.mark.parametrize("url", SECRET_URLS)
def test_a_password_is_in_no_representation(url):
    broker, pipeline = Broker(url), Pipeline(url)
    for shown in (
        repr(broker),
        str(broker),
        broker.address,
        repr(pipeline),
        repr(pipeline.settings),
    ):
        assert CANARY not in shown


@pytest.mark.parametrize(
    "url",
    [
        *(url.replace("redis://", "http://") for url in SECRET_URLS),
        *(f"redis://:{CANARY}@{broken.partition('://')[2]}" for broken in UNREADABLE),
        *(
            f"{broken}{'&' if '?' in broken else '?'}password={CANARY}"
            for broken in UNREADABLE
        ),
        f"redis://:{CANARY}",
        f"redis://u:{CANARY}",
        f"redis://:a/{CANARY}@h",
        f"redis://:a?{CANARY}@h",
        f"redis://:a#{CANARY}@h",
        f"redis://h/{CANARY}",
    ],
)
def test_a_password_is_in_no_refusal(url):
    try:
        shown = repr(Broker(url))
    except ConfigurationError as error:
        shown = "".join(traceback.format_exception(error))
        assert f'Broker("{url}")' not in shown
    assert CANARY not in shown


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://u:p@h:1/2", "redis://h:1/2"),
        ("redis://h:1/2?password=p", "redis://h:1/2"),
        ("unix://u:p@/run/s?db=1", "unix:///run/s"),
        ("memory://", "memory://"),
        ("embedded:///data", "embedded:///data"),
        ("redis://h?password=a@b", "redis://***"),
    ],
)
def test_the_address_says_where_the_server_is(url, address):
    assert Broker(url).address == address
    assert repr(Broker(url)) == f"<Broker {address}>"


url_parts = st.text(alphabet="aZ0:/@?#[]%&=.,+- é\n", max_size=20)


@quick
@given(
    st.sampled_from(
        [
            "redis",
            "rediss",
            "unix",
            "valkey",
            "http",
            "redis+cluster",
            "redis+sentinel",
            "",
        ]
    ),
    url_parts,
    url_parts,
)
def test_any_url_is_a_broker_or_refused_without_the_password(scheme, before, after):
    secret = "sEcReT"
    url = f"{scheme}://{before}:{secret}@{after.replace('@', '')}"
    try:
        shown = repr(Broker(url))
    except ConfigurationError as error:
        shown = str(error)
    assert secret not in shown


async def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path):
    broker = Broker(f"unix://user:{CANARY}@{tmp_path}/none?db=1")
    with pytest.raises(BrokerUnavailable, match="cannot be reached") as caught:
        await broker.connect()
    await broker.close()
    assert f"unix://{tmp_path}/none" in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))

"""The client library, in the versions that are served: what is used of it is there, and used in one module only."""

from __future__ import annotations

import inspect
import re
import ssl
from pathlib import Path

import pytest
import redis
from redis.asyncio.connection import (
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)

from streams.broker import Broker
from streams.broker.server import client
from tests.certificates import Certificates

ROOT = Path(__file__).parents[2]


def test_one_module_touches_the_client_library():
    imports = re.compile(r"^\s*(?:from|import) (?:redis|hiredis)\b", re.MULTILINE)
    touching = [
        path.name
        for path in (ROOT / "streams").rglob("*.py")
        if imports.search(path.read_text("utf-8"))
    ]
    assert touching == ["client.py"]


@pytest.mark.parametrize(
    "kind", [Connection, SSLConnection, UnixDomainSocketConnection]
)
def test_connections_are_made_without_what_repeats_writes_or_asks_for_permissions(kind):
    options = (
        {"path": "/run/s"} if kind is UnixDomainSocketConnection else {"host": "h"}
    )
    made = client.made(kind, options, 5.0)
    assert made.protocol == 2
    assert made.retry._retries == 0
    assert made.socket_timeout is None
    assert not made.health_check_interval
    for name in ("lib_name", "lib_version", "driver_info"):
        assert getattr(made, name, None) is None, "CLIENT SETINFO would be sent"


def test_what_is_passed_is_known_to_this_version():
    known = inspect.signature(client.AbstractConnection.__init__).parameters
    needed = {
        "protocol",
        "retry",
        "retry_on_timeout",
        "socket_timeout",
        "health_check_interval",
        "decode_responses",
    }
    assert needed <= known.keys(), redis.__version__


@pytest.mark.parametrize(
    ("query", "checked"), [("", True), ("?ssl_cert_reqs=none", False)]
)
def test_the_name_of_a_server_is_checked_by_every_version(query, checked):
    kind, options = client.read_url(f"rediss://h{query}")
    made = client.made(kind, options, 5.0)
    context = made.ssl_context.get()
    assert context.check_hostname is checked
    assert context.verify_mode == (ssl.CERT_REQUIRED if checked else ssl.CERT_NONE)


async def test_the_transport_is_where_it_is_looked_for(server, namespace):
    """An upgrade that renames it fails here, and not as a riddle somewhere else."""
    async with Broker(server.url, namespace=namespace) as broker:
        connection = await broker._open()
        assert client.transport_of(connection).get_protocol() is not None
        assert await client.ask(connection, "PING") in (b"PONG", "PONG")
        await connection.disconnect()


def test_certificates_are_looked_at_by_the_name_in_the_url(tmp_path):
    certificate, key, authority = Certificates(tmp_path).client
    url = f"rediss://h?ssl_certfile={certificate}&ssl_keyfile={key}&ssl_ca_certs={authority}"
    assert client.made(*client.read_url(url), 5.0).ssl_context.get().check_hostname

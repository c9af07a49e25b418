"""The URL in a file: its password changes, and every kind of topology goes on."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from streams import Broker, BrokerUnavailable
from streams.errors import WrongCredentials
from tests.conftest import eventually
from tests.topologies import Clustered, Watched


def set_password(several: Watched | Clustered, password: str) -> None:
    """Every server takes this one only, and ends what is connected."""
    for server in several.servers:
        with server.client() as client:
            rules = ("on", "~*", "&*", "+@all", "resetpass", f">{password}")
            client.execute_command("ACL", "SETUSER", "app", *rules)
            client.execute_command("CLIENT", "KILL", "USER", "app")


def url(several: Watched | Clustered, password: str) -> str:
    return several.url.replace("://", f"://app:{password}@")


async def answers(broker: Broker) -> bool:
    with contextlib.suppress(BrokerUnavailable):
        await broker.control.call("SET", "k", "v")
        return True
    return False


async def test_a_password_in_a_file_changes_while_a_broker_is_open(
    several: Watched | Clustered, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    await asyncio.to_thread(set_password, several, "one")
    file.write_text(url(several, "one"))
    async with Broker(url_file=str(file), timeout=2.0) as broker:
        assert await answers(broker)
        await asyncio.to_thread(set_password, several, "two")
        assert not await answers(broker), "what it took before is refused, which passes"
        file.write_text("nonsense")
        assert not await answers(broker)
        file.write_text(url(several, "two"))
        await eventually(lambda: answers(broker), what="the new password to be used")


async def test_a_password_that_no_server_ever_took_is_an_error(
    several: Watched | Clustered,
) -> None:
    await asyncio.to_thread(set_password, several, "one")
    broker = Broker(url(several, "two"), timeout=2.0)
    error = (await asyncio.gather(broker.connect(), return_exceptions=True))[0]
    await broker.close()
    assert isinstance(error, WrongCredentials)

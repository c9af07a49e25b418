"""Find out which kind of server is at a place, when it is not the kind that the URL says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from streams.broker.server import tls
from streams.broker.server.url import ServerURL
from streams.errors import BrokerError, CommandRefused, WrongServer

_PATIENCE = 1.0
_OLDEST = (6, 2)


def told(reply: Any) -> Mapping[str, str]:
    """The facts in a server's reply to HELLO; none if the reply has another form."""
    if not isinstance(reply, (list, tuple)) or len(reply) % 2:
        return {}

    words = [
        word.decode(errors="replace") if isinstance(word, bytes) else str(word)
        for word in reply
    ]

    return dict(zip(words[::2], words[1::2], strict=True))


def informed(reply: Any) -> Mapping[str, str]:
    """The same facts in a reply to INFO, which servers before Redis 6 have instead of HELLO."""
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
    lines = dict(line.partition(":")[::2] for line in text.splitlines())
    if "redis_version" not in lines:
        return {}

    return {
        "server": "redis",
        "version": lines["redis_version"],
        "mode": lines.get("redis_mode", ""),
    }


def too_old(facts: Mapping[str, str]) -> WrongServer | None:
    """The error of a server that lacks commands of the scripts; None if its facts do not say so.

    Args:
        facts: see ``told``.
    """
    version = facts.get("version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if facts.get("server") == "redis" and len(numbers) == 2 and numbers < _OLDEST:
        return WrongServer(
            f"the server is Redis {version}, which is too old: use Redis 6.2 or later, or Valkey"
        )

    return None


def judged(
    facts: Mapping[str, str], address: str, here: tuple[str, int] = ("", 0)
) -> WrongServer | None:
    """The error of a server that the URL calls a single one, and is none; None if it seems to be.

    Args:
        facts: see ``told``.
        address: the URL without credentials.
        here: host and port of the server, '' and 0 on a unix socket.
    """
    scheme, _, place = address.partition("://")
    if facts.get("mode") == "sentinel":
        host = place.partition("/")[0]
        url = f"{scheme}+sentinel://{host}/SERVICE/0"
        return WrongServer(
            f"{host} is a Sentinel, and knows the servers by a name: write {url}"
        )

    # Commands for the slots of this node would succeed, and others would fail later.
    if facts.get("mode") == "cluster":
        return node_of_cluster(here)

    return too_old(facts)


def node_of_cluster(place: tuple[str, int]) -> WrongServer:
    """The error of a node of a cluster whose URL is that of a single server."""
    where = f"{place[0] or 'HOST'}:{place[1] or 6379}"
    return WrongServer(
        f"{where} is a node of a cluster: write redis+cluster://{where},"
        " with TLS rediss+cluster://"
    )


def no_node(place: tuple[str, int], error: CommandRefused) -> BrokerError:
    """The error of a server without a cluster whose URL is that of a cluster."""
    where = f"{place[0]}:{place[1]}"
    if "cluster support disabled" in str(error):
        return WrongServer(
            f"{where} is one server and no node of a cluster: write redis://{where},"
            " with TLS rediss://"
        )

    if "unknown command" in str(error):
        return WrongServer(
            f"{where} is no node of a cluster, maybe a Sentinel:"
            f" write redis+sentinel://{where}/SERVICE"
        )

    return error


def no_sentinel(place: tuple[str, int], error: CommandRefused) -> BrokerError:
    """The error of a server that the URL calls a Sentinel, and is none."""
    where = f"{place[0]}:{place[1]}"
    if "unknown command" not in str(error):
        return error

    return WrongServer(
        f"{where} is no Sentinel, which usually has port 26379: write redis://{where} for a"
        " single server, or the Sentinels' hosts and ports"
    )


async def wrong_transport(
    read: ServerURL, places: Iterable[tuple[str, int]], options: Mapping[str, Any]
) -> WrongServer | None:
    """The mistake about TLS in a URL whose server does not answer; None if none is known.

    The server speaks TLS and the URL does not, or the other way round, or the server wants another
    certificate.

    Args:
        read: the URL.
        places: hosts and ports that were tried.
        options: of the URL.
    """
    secure = read.server.startswith("rediss://")
    for host, port in places:
        where = f"{host}:{port}"
        if not secure:
            if await tls.answers(host, port):
                return WrongServer(
                    f"{where} speaks TLS: write rediss instead of redis in the URL,"
                    " or its other port"
                )

            continue

        if await _answers_plainly(host, port):
            return WrongServer(
                f"{where} does not speak TLS: write redis instead of rediss in the URL,"
                " or its TLS port"
            )

        refused = await tls.refusal(host, port, options)
        if refused is not None:
            return refused

    return None


async def _answers_plainly(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"PING\r\n")
                return (await reader.read(1)) in (b"+", b"-")
            finally:
                await tls.end(writer)
    except (OSError, TimeoutError):
        return False

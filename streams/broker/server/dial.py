"""From a server's URL to a connected connection of the client library.

Imported with the first URL or connection, not with the package: the client library takes longer
to import than this whole package.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streams.broker.server import client, failures, tls
from streams.broker.server.client import AbstractConnection, UnixDomainSocketConnection
from streams.broker.server.credentials import Credentials, Renew
from streams.broker.server.kinds import node_of_cluster
from streams.errors import (
    BrokerError,
    BrokerUnavailable,
    ConfigurationError,
    WrongServer,
)

_NO_DATABASE = "DB index"
"""In the refusal of a database that the server does not have: out of range, or invalid."""
_ONE_DATABASE = "SELECT is not allowed in cluster mode"


class Dial:
    """Connects to one server.

    Args:
        address: of the server, for messages: without credentials.
        url: ``redis://``, ``rediss://`` or ``unix://`` with options of the client library; '' for
            unix sockets whose path is given with each connection.
        renew: see ``Renew``; called before each connection, for user and password. None keeps
            those of the URL.

    Attributes:
        kind: the client library's class of connections.
        options: of the connections.
        credentials: whether the server has accepted them before.

    Raises:
        ValueError: the URL cannot be read. Do not show the message: it may quote a password.
    """

    def __init__(self, address: str, url: str = "", renew: Renew | None = None) -> None:
        self._address = address
        self._renew = renew
        self._renewal = ""
        self.credentials = Credentials()
        self.kind: type[AbstractConnection] = UnixDomainSocketConnection
        self.options: dict[str, Any] = {}
        if url:
            self.kind, self.options = client.read_url(url)

    @property
    def place(self) -> tuple[str, int]:
        """Host and port of the URL."""
        return _place(self.options)

    @property
    def user(self) -> str:
        """The server's user."""
        return str(self.options.get("username") or "default")

    async def connect(self, within: float, **options: Any) -> AbstractConnection:
        """A connected connection, within ``within`` seconds.

        Raises:
            BrokerUnavailable: the server cannot be reached.
            AccessDenied: the server refuses the credentials.
        """
        self._renew_credentials()
        place = self._address
        if "host" in options:
            # One of several servers that the URL names.
            place = f"{options['host']}:{options['port']}"

        options = self.options | options
        connection = client.made(self.kind, options, within)

        try:
            async with asyncio.timeout(within):
                await connection.connect()  # type: ignore[no-untyped-call]
        except (client.errors.RedisError, OSError, TimeoutError) as error:
            await connection.disconnect(nowait=True)
            raise await self._unreachable(error, place, _place(options)) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

        if options.get("password"):
            self.credentials.accepted = True

        return connection

    async def close(self) -> None:
        """Nothing to close: the caller closes its connections."""

    def _renew_credentials(self) -> None:
        if self._renew is None:
            return

        try:
            found = client.credentials_of(self._renew())
        except (ConfigurationError, ValueError) as error:
            # The present credentials may still be right.
            why = "the file of the URL holds none"
            if isinstance(error, ConfigurationError):
                # Other errors may quote a password.
                why = str(error)

            self._renewal = f" ({why})"
            return

        self._renewal = ""
        for name in ("username", "password"):
            self.options.pop(name, None)

        self.options |= found

    def _missing_file(self) -> tuple[str, str] | None:
        for name in client.FILES:
            file = str(self.options.get(name) or "")
            if file and not Path(file).exists():
                return name, file

        return None

    async def _flaw(
        self, text: str, place: str, node: tuple[str, int]
    ) -> WrongServer | None:
        """The mistake of a URL that no server has accepted yet, about TLS or the database."""
        if missing := self._missing_file():
            return WrongServer(
                f"{missing[0]} of the URL names a file that is not there: {missing[1]}"
            )
        if _ONE_DATABASE in text:
            return node_of_cluster(self.place)

        if _NO_DATABASE in text:
            number = self.options.get("db", 0)
            first = "?db=0" if self.kind is UnixDomainSocketConnection else "/0"
            return WrongServer(
                f"the server has no database {number}: use {first}, or raise `databases`"
                " in redis.conf"
            )

        if "CERTIFICATE_VERIFY_FAILED" in text:
            return WrongServer(await self._flaw_of_certificate(text, place, node))

        return None

    async def _flaw_of_certificate(
        self, text: str, place: str, node: tuple[str, int]
    ) -> str:
        why = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        if (
            "mismatch" in why
        ):  # It names the host that the certificate is not valid for.
            return (
                f"the certificate of {place} is for another name ({why.rstrip('.')}): use the"
                " name in the certificate as host of the URL"
            )

        if "expired" in why:
            return await self._expired(place, node)

        why = why or "it cannot be verified"
        return (
            f"the certificate of {place} is not trusted ({why}): add ?ssl_ca_certs=FILE of its"
            " authority to the URL"
        )

    async def _expired(self, place: str, node: tuple[str, int]) -> str:
        todo = "renew it, and let the server read it again"
        at = await tls.expiry(*node, self.options)
        if at is None:
            what = "the certificate, or one of its authorities,"
            return f"{what} of {place} is expired: {todo}"

        since = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
        return f"the certificate of {place} is expired since {since}: {todo}"

    async def _unreachable(
        self, error: BaseException, place: str, node: tuple[str, int]
    ) -> BrokerError:
        cause = failures.loss(error, sent=False)
        if not self.credentials.accepted:
            flaw = await self._flaw(str(cause), place, node)
            if flaw is not None:
                return flaw

        if isinstance(cause, BrokerUnavailable) and "loading" not in str(cause):
            return BrokerUnavailable(f"{place} cannot be reached: {cause}", sent=False)

        judged = self.credentials.judged(cause)
        if judged is not cause:
            return BrokerUnavailable(f"{judged}{self._renewal}")

        return judged


def _place(options: Mapping[str, Any]) -> tuple[str, int]:
    host = str(options.get("host") or "localhost")
    port = int(options.get("port") or 6379)
    return host, port

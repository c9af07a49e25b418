"""From a server's URL to a connected connection of the client library.

Imported with the first URL or connection, not with the package: the client library takes longer to import than all of
this package.
"""

from __future__ import annotations

import asyncio
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
"""How the server refuses a database that it does not have: the index is out of range, or invalid."""
_ONE_DATABASE = "SELECT is not allowed in cluster mode"


class Dial:
    """How to connect to one server.

    Args:
        address: of the server, for messages: without credentials.
        url: ``redis://``, ``rediss://`` or ``unix://`` with what the client library knows to read in it; '' for unix
            sockets whose path is told with each connection.
        renew: see ``Renew``; asked before each connection, and only its user and password count. None: the URL's hold.

    Attributes:
        kind, options: the client library's class of connections, and what it is made with.
        credentials: what is known of them.

    Raises:
        ValueError: the URL cannot be read. Not to be shown: the message may quote the URL, and with it a password.
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
        return str(self.options.get("host") or "localhost"), int(
            self.options.get("port") or 6379
        )

    @property
    def user(self) -> str:
        """The server's user."""
        return str(self.options.get("username") or "default")

    async def connect(self, within: float, **options: Any) -> AbstractConnection:
        """A connected connection, ``within`` that many seconds.

        Raises:
            BrokerUnavailable: the server cannot be reached.
            AccessDenied: it refuses the credentials.
        """
        self._renew_credentials()
        # Of several servers it is that one, not all that the URL names.
        place = (
            f"{options['host']}:{options['port']}"
            if "host" in options
            else self._address
        )
        options = self.options | options
        connection = client.made(self.kind, options, within)
        try:
            async with asyncio.timeout(within):
                await connection.connect()  # type: ignore[no-untyped-call]
        except (client.errors.RedisError, OSError, TimeoutError) as error:
            await connection.disconnect(nowait=True)
            node = (
                str(options.get("host") or "localhost"),
                int(options.get("port") or 6379),
            )
            raise await self._unreachable(error, place, node) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if options.get("password"):
            self.credentials.accepted = True
        return connection

    async def close(self) -> None:
        """Nothing is open but what was asked for."""

    def _renew_credentials(self) -> None:
        if self._renew is None:
            return
        try:
            found = client.credentials_of(self._renew())
        except (ConfigurationError, ValueError) as error:
            # What was known may still hold. Of other errors than ours the words may quote a password.
            known = isinstance(error, ConfigurationError)
            self._renewal = f" ({error if known else 'the file of the URL holds none'})"
            return
        self._renewal = ""
        for name in ("username", "password"):
            self.options.pop(name, None)
        self.options |= found

    def _missing_file(self) -> tuple[str, str] | None:
        found = ((name, str(self.options.get(name) or "")) for name in client.FILES)
        return next(
            ((name, file) for name, file in found if file and not Path(file).exists()),
            None,
        )

    async def _flaw(
        self, text: str, place: str, node: tuple[str, int]
    ) -> WrongServer | None:
        """The fault in what the URL says of TLS or the database; asked for as long as no server has taken it."""
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
                f"the server has no database {number}: use {first}, or raise `databases` in redis.conf"
            )
        if "CERTIFICATE_VERIFY_FAILED" in text:
            why = (
                text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
                or "it cannot be verified"
            )
            if "mismatch" in why:  # It says which name or address it is not valid for.
                return WrongServer(
                    f"the certificate of {place} is for another name ({why.rstrip('.')}): use the name in the "
                    "certificate as host of the URL"
                )
            if "expired" in why:
                return WrongServer(await self._expired(place, node))
            return WrongServer(
                f"the certificate of {place} is not trusted ({why}): add ?ssl_ca_certs=FILE of its authority to the URL"
            )
        return None

    async def _expired(self, place: str, node: tuple[str, int]) -> str:
        at = await tls.expiry(*node, self.options)
        since = (
            ""
            if at is None
            else f" since {datetime.fromtimestamp(at, UTC).isoformat().replace('+00:00', 'Z')}"
        )
        what = (
            "the certificate"
            if at is not None
            else "the certificate, or one of its authorities,"
        )
        return f"{what} of {place} is expired{since}: renew it, and let the server read it again"

    async def _unreachable(
        self, error: BaseException, place: str, node: tuple[str, int]
    ) -> BrokerError:
        cause = failures.loss(error, sent=False)
        if (
            not self.credentials.accepted
            and (flaw := await self._flaw(str(cause), place, node)) is not None
        ):
            return flaw
        if isinstance(cause, BrokerUnavailable) and "loading" not in str(cause):
            return BrokerUnavailable(f"{place} cannot be reached: {cause}", sent=False)
        judged = self.credentials.judged(cause)
        return (
            BrokerUnavailable(f"{judged}{self._renewal}")
            if judged is not cause
            else judged
        )

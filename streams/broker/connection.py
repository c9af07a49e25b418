"""From a URL to connections. Which topology serves the URL is known here and nowhere else.

What imports the client library is imported when a URL needs it (see ``dial``).
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from typing import TYPE_CHECKING, Self

from streams.broker.embedded import EmbeddedServer
from streams.broker.observing import NOBODY
from streams.errors import BrokerUnavailable, ConfigurationError
from streams.keys import DEFAULT_NAMESPACE, Keys, checked_name

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from streams.broker.dial import Dial
    from streams.broker.link import Link

DEFAULT_URL = "memory://"
EMBEDDED = ("embedded://", "memory://")
_SERVER = ("redis://", "rediss://", "valkey://", "valkeys://", "unix://")
_LATER = ("redis+sentinel://", "redis+cluster://")


class ServerClock:
    """The server's time as seen from here: its last reading plus what the monotonic clock added since.

    ``ahead``: seconds that tests have travelled; they are added to what ``now`` tells.
    """

    __slots__ = ("_offset", "ahead")

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self.ahead = 0.0

    def observe(self, milliseconds: int) -> None:
        """Take over a reading that just arrived (Unix time, ms)."""
        self._offset = milliseconds / 1000 - time.monotonic()

    def now(self) -> float:
        """Unix time in seconds."""
        return time.monotonic() + self._offset + self.ahead


class Broker:
    """A server, found by its URL, and the connections to it. Use ``async with``, or ``connect`` and ``close``.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``embedded://PATH`` or ``memory://``; see DEFAULT_URL.
        namespace: first part of every key.
        timeout: seconds for a round trip, and for connecting.

    Attributes:
        observers: who is told of trips; nobody unless somebody is put in.

    Raises:
        ConfigurationError: the URL cannot be used; its password is never part of the message.
    """

    def __init__(self, url: str | None = None, *, namespace: str = DEFAULT_NAMESPACE, timeout: float = 5.0) -> None:
        self.url = url or DEFAULT_URL
        self.namespace = checked_name(namespace, "namespace")
        self.clock = ServerClock()
        self._timeout = timeout
        self._embedded: EmbeddedServer | None = None
        self._dial: Dial | None = None
        self._links: set[Link] = set()
        self._control: Link | None = None
        self.observers = NOBODY
        if self.url.startswith(EMBEDDED):
            self._embedded = EmbeddedServer.from_url(self.url)
        else:
            self._dial = self._read_url()

    def __repr__(self) -> str:
        """Show the address without credentials."""
        return f"<Broker {self.address}>"

    @property
    def address(self) -> str:
        """The URL without user, password and query, fit for messages."""
        scheme, _, rest = self.url.partition("://")
        before, _, query = rest.partition("?")
        if "@" in query:
            return f"{scheme}://***"  # Where credentials end cannot be told.
        return f"{scheme}://{before.rpartition('@')[2].partition('#')[0]}"

    @property
    def user(self) -> str:
        """The server's user that the URL names, else ``default``."""
        return self._dial.user if self._dial is not None else "default"

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def control(self) -> Link:
        """The connection for whatever is not on a hot path."""
        if self._control is None:
            self._control = self.link()
        return self._control

    def keys(self, stream: str) -> Keys:
        """The keys of a stream on this broker."""
        return Keys(stream, self.namespace)

    def link(self, depth: int = 1) -> Link:
        """A new connection; it opens with its first command and belongs to the event loop that uses it.

        ``depth``: how many round trips may be under way at once.
        """
        from streams.broker.link import Link

        link = Link(self._open, self._timeout, self._links.discard, depth)
        self._links.add(link)
        return link

    async def connect(self) -> None:
        """Reach the server and read its clock.

        Raises:
            BrokerUnavailable: it cannot be reached.
            AccessDenied: it refuses the credentials, or the user may not call TIME.
            NoServer: the embedded server has no binary to run, or it did not start.
        """
        seconds, micros = await self.control.call("TIME")
        self.clock.observe(int(seconds) * 1000 + int(micros) // 1000)

    async def close(self) -> None:
        """Close the connections of this event loop; the last user of an embedded server stops it."""
        for link in list(self._links):
            await link.close()
        self._links.clear()
        self._control = None
        if self._embedded is not None:
            # A server that keeps nothing must be gone before somebody opens the next one.
            await asyncio.to_thread(self._embedded.close, wait=self.url == DEFAULT_URL)

    def _read_url(self) -> Dial:
        name, mark, rest = self.url.partition("://")
        if not mark:
            raise ConfigurationError(f"the URL has no scheme; it begins with one of {', '.join((*_SERVER, *EMBEDDED))}")
        scheme = name + mark
        if scheme in _LATER:
            raise ConfigurationError(f"{scheme} is not served by this version; use {', '.join(_SERVER[:2])} or unix://")
        if scheme not in _SERVER:
            raise ConfigurationError(f"URL scheme {scheme!r} is unknown; use one of {', '.join((*_SERVER, *EMBEDDED))}")
        from streams.broker.dial import Dial

        try:
            dial = Dial(
                self.address, self.url.replace("valkey", "redis", 1) if scheme.startswith("valkey") else self.url
            )
        except ValueError:
            # The parser's own message may quote the URL, and with it the password.
            raise self._unreadable(scheme) from None
        database = rest.rpartition("@")[2].partition("?")[0].partition("/")[2]
        if scheme != "unix://" and not re.fullmatch(r"[0-9]{0,9}", database):
            raise self._unreadable(scheme)  # The parser would take database 0 without a word.
        return dial

    @staticmethod
    def _unreadable(scheme: str) -> ConfigurationError:
        return ConfigurationError(f"the {scheme} URL cannot be read: check host, port, database and query")

    async def _open(self) -> AbstractConnection:
        """A connected connection."""
        try:
            return await self._open_once()
        except BrokerUnavailable:
            if self._embedded is None:
                raise
        # The embedded server ended between being found and being connected to: that brings it back.
        return await self._open_once()

    async def _open_once(self) -> AbstractConnection:
        if self._embedded is not None:
            from streams.broker.dial import Dial

            path = await asyncio.to_thread(self._embedded.acquire)
            return await Dial(self.address).connect(self._timeout, path=path)
        assert self._dial is not None  # noqa: S101 - for the type checker: the constructor has seen to one of the two
        return await self._dial.connect(self._timeout)


class Backoff:
    """Full-jitter waits for a server that is away: 0 to 50 ms at first, doubling to at most ``limit`` seconds."""

    def __init__(self, limit: float = 2.0) -> None:
        self._limit = limit
        self._failures = 0

    def reset(self) -> None:
        """The server answered."""
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait before the next try."""
        self._failures += 1
        return random.uniform(0, min(self._limit, 0.05 * 2 ** min(self._failures, 10)))  # noqa: S311 - no secret

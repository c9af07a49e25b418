"""From a URL to connections. No other module chooses by the topology of a URL.

Modules that import the client library are imported when a URL needs them (see ``dial``).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from streams.broker.entries.observing import NOBODY
from streams.broker.keys import Keys, index_key
from streams.broker.server.credentials import Credentials, Renew
from streams.broker.server.embedding import embedded_server
from streams.broker.server.outages import Outages
from streams.broker.server.url import ServerURL, unreadable
from streams.broker.server.url_file import URLFile
from streams.errors import (
    AccessDenied,
    BrokerError,
    BrokerUnavailable,
    CommandRefused,
    ConfigurationError,
    WrongCredentials,
    WrongServer,
)
from streams.events.names import DEFAULT_NAMESPACE, checked_name

if TYPE_CHECKING:
    from streams.broker.server.client import AbstractConnection
    from streams.broker.server.cluster import Cluster
    from streams.broker.server.dial import Dial
    from streams.broker.server.embedded import EmbeddedServer
    from streams.broker.server.link import Link
    from streams.broker.server.sentinel import SentinelDial

DEFAULT_URL = "memory://"
EMBEDDED = ("embedded://", "memory://")
_AT_ONCE = 32
"""Round trips under way at once on the connection that the roles of a worker share."""


def checked_broker(broker: Broker) -> Broker:
    """Return the broker.

    Raises:
        ConfigurationError: it is something else.
    """
    if not hasattr(broker, "clock"):  # A stand-in of a test passes.
        raise ConfigurationError(
            f"broker is a Broker, e.g. Broker('redis://localhost:6379/0'), not {broker!r}"
        )

    return broker


class ServerClock:
    """The server's time: its last reading, and the time since then by the monotonic clock.

    Attributes:
        ahead: seconds by which tests have travelled, which ``now`` adds.
    """

    __slots__ = ("_offset", "ahead")

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self.ahead = 0.0

    def observe(self, milliseconds: int) -> None:
        """Note a reading that just arrived (Unix time, ms)."""
        self._offset = milliseconds / 1000 - time.monotonic()

    def now(self) -> float:
        """Unix time in seconds."""
        return time.monotonic() + self._offset + self.ahead


class Broker:
    """A server and the connections to it. Use ``async with``, or ``connect`` and ``close``.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://HOSTS/SERVICE``,
            ``redis+cluster://HOSTS``, ``embedded://PATH`` or ``memory://``; see DEFAULT_URL.
        namespace: first part of every key.
        timeout: seconds for a call: its turn, connecting if needed, and the round trip.
        url_file: file that holds the URL, if ``url`` is None. It is read again for the
            credentials of each connection.

    Attributes:
        observers: of round trips; none by default.
        outages: logs once that a server is away, and once that it is back.
        was_reached: ``connect`` has succeeded before.

    Raises:
        ConfigurationError: the URL cannot be used; its password is never part of the message.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        timeout: float = 5.0,
        url_file: str = "",
    ) -> None:
        if url is not None and not isinstance(url, str):
            raise ConfigurationError(
                f"url is a text, e.g. redis://localhost:6379/0, not {type(url).__name__}"
            )

        self._file = URLFile(url_file) if url_file else None
        self.url = url or (self._file.read() if self._file else DEFAULT_URL)
        self.namespace = checked_name(namespace, "namespace")
        self.clock = ServerClock()
        self._timeout = timeout
        self._embedded: EmbeddedServer | None = None
        self._dial: Dial | SentinelDial | None = None
        self._cluster: Cluster | None = None
        self._read: ServerURL | None = None
        self._links: set[Link] = set()
        self._control: Link | None = None
        self._shared: Link | None = None
        self.observers = NOBODY
        self.outages = Outages(self.address)
        self.was_reached = False

        if self.url.startswith(EMBEDDED):
            self._embedded = embedded_server(self.url)
        else:
            self._read_url()

    def __repr__(self) -> str:
        """Show the address without credentials."""
        return f"<Broker {self.address}>"

    @property
    def address(self) -> str:
        """The URL without user, password and query, fit for messages."""
        scheme, _, rest = self.url.partition("://")
        before, _, query = rest.partition("?")
        if "@" in query:
            return f"{scheme}://***"  # The end of the credentials is not known.

        return f"{scheme}://{before.rpartition('@')[2].partition('#')[0]}"

    @property
    def user(self) -> str:
        """The server's user that the URL names, else ``default``."""
        way = self._dial or self._cluster
        return way.user if way is not None else "default"

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def control(self) -> Link:
        """The connection for all calls that are not on a hot path."""
        if self._control is None:
            self._control = self.link()

        return self._control

    @property
    def shared(self) -> Link:
        """The connection that the roles of a worker share for calls that are not on a hot path.

        Its loss fails all calls under way, and each role tries again. Calls of the application
        go over ``control``.
        """
        if self._shared is None:
            self._shared = self.link(_AT_ONCE)

        return self._shared

    @property
    def is_spread(self) -> bool:
        """Whether its keys are on several servers, so that one command reaches only a part."""
        return self._cluster is not None

    def keys(self, stream: str) -> Keys:
        """The keys of a stream on this broker."""
        return Keys(stream, self.namespace)

    def link(self, depth: int = 1) -> Link:
        """A new connection, which opens with its first command, and belongs to that event loop.

        Args:
            depth: how many round trips may be under way at once.
        """
        link: Link
        if self._cluster is not None:
            from streams.broker.server.cluster import ClusterLink

            link = ClusterLink(
                self._cluster,
                self._timeout,
                index_key(self.namespace),
                self._links.discard,
                depth,
            )
        else:
            from streams.broker.server.link import NodeLink

            link = NodeLink(
                self._open,
                self._timeout,
                self._links.discard,
                depth,
                credentials=self._dial.credentials if self._dial else Credentials(),
                is_bounded=self._embedded is None,
            )

        self._links.add(link)
        return link

    def server_of(self, stream: str) -> str:
        """The server that has a stream, if known; '' where there is only one."""
        return self.control.server_of(self.keys(stream).levels())

    async def primaries(self) -> dict[str, Link]:
        """A link to each server that has keys, by its name, for questions to each of them.

        Without a cluster it is one server, whose name is ''. The links are closed with
        ``control``.

        Raises:
            BrokerUnavailable: the cluster cannot be asked.
        """
        return await self.control.primaries()

    async def connect(self, *, needs_clock: bool = True) -> None:
        """Reach the server, or any node of a cluster, and read its clock.

        Args:
            needs_clock: False takes this machine's clock if the user may not call TIME.

        Raises:
            BrokerUnavailable: the server cannot be reached.
            AccessDenied: the server refuses the credentials, or the user may not call TIME.
            NoServer: the embedded server has no binary, or did not start.
        """
        try:
            seconds, micros = await self.control.ask_any("TIME")
        except (BrokerUnavailable, CommandRefused) as error:
            other = None if self.was_reached else await self._other_kind(error)
            if other is not None:
                raise other from error

            raise
        except AccessDenied as error:
            if needs_clock or isinstance(error, WrongCredentials):
                raise
        else:
            self.clock.observe(int(seconds) * 1000 + int(micros) // 1000)

        if not self.was_reached:
            wrong = await self._judged()
            if wrong is not None:
                raise wrong

        self.was_reached = True

    async def _other_kind(self, error: BrokerError) -> WrongServer | None:
        """The error if the server is of another kind than the URL says; None if unknown."""
        if isinstance(error, CommandRefused):
            return await self._judged()
        if self._read is None or self.url.startswith("unix"):
            return None

        from streams.broker.server import kinds

        way = self._dial or self._cluster
        if way is None:
            return None

        # Behind Sentinels: the server that was tried.
        known = getattr(way, "place", None)
        places = (*self._read.nodes, *((known,) if known else ()))
        return await kinds.wrong_transport(self._read, places, way.options)

    async def _judged(self) -> WrongServer | None:
        """The error if the server is not of the kind that the URL says; None if it seems to be."""
        if self._read is None:
            return None

        from streams.broker.server import kinds

        facts = await self.facts()
        if self._read.topology:
            return kinds.too_old(facts)

        return kinds.judged(facts, self.address, self._here)

    @property
    def _here(self) -> tuple[str, int]:
        """Host and port of the URL; '' and 0 of a unix socket."""
        place: tuple[str, int] | None = getattr(self._dial, "place", None)
        if place is None or self.url.startswith("unix"):
            return "", 0

        return place

    async def facts(self) -> Mapping[str, str]:
        """The server's own facts: server, version, mode and role; none if the user may not ask."""
        from streams.broker.server import kinds

        try:
            return kinds.told(await self.control.ask_any("HELLO"))
        except CommandRefused:
            # Redis before 6 and some proxies do not have the command.
            pass
        except BrokerError:
            return {}

        try:
            return kinds.informed(await self.control.ask_any("INFO", "server"))
        except BrokerError:
            return {}

    async def close(self) -> None:
        """Close the connections of this event loop, and an embedded server without other users."""
        for link in list(self._links):
            await link.close()

        self._links.clear()
        self._control = self._shared = None
        if self._dial is not None:
            await self._dial.close()
        if self._embedded is not None:
            # A server without disk must be gone before the next one starts.
            await asyncio.to_thread(self._embedded.close, wait=self.url == DEFAULT_URL)

    def _read_url(self) -> None:
        self._read = read = ServerURL.parse(self.url)
        from streams.broker.server import client
        from streams.broker.server.dial import Dial

        try:
            dial = Dial(self.address, read.server, self._renewing("server"))
        except ValueError:
            # The parser's own message may quote the password.
            raise unreadable(self.url, client.flawed_option(self.url)) from None

        if read.topology == "cluster":
            from streams.broker.server.cluster import Cluster

            self._cluster = Cluster(dial, read.nodes, self._leave)
        elif read.topology == "sentinel":
            from streams.broker.server.following import Sentinels
            from streams.broker.server.sentinel import SentinelDial

            asking = Dial(self.address, read.sentinel, self._renewing("sentinel"))
            asked = Sentinels(asking, read.nodes, read.service)
            self._dial = SentinelDial(dial, asked, self._leave)
        else:
            self._dial = dial

    def _renewing(self, part: str) -> Renew | None:
        """Reads the URL's file again, if there is one, for a ``part`` of ``ServerURL``."""
        file = self._file
        if file is None:
            return None

        return lambda: str(getattr(ServerURL.parse(file.read()), part))

    def _leave(self, stay: Callable[[str, int], bool]) -> bool:
        """Drop connections to servers that are no primaries; returns whether any was open."""
        is_open = False
        for link in list(self._links):
            is_open |= link.leave(stay)

        return is_open

    async def _open(self) -> AbstractConnection:
        """A connected connection."""
        try:
            return await self._open_once()
        except BrokerUnavailable:
            if self._embedded is None:
                raise

        # The embedded server ended before it was connected to: the second try starts it.
        return await self._open_once()

    async def _open_once(self) -> AbstractConnection:
        if self._embedded is not None:
            from streams.broker.server.dial import Dial

            try:
                path = await asyncio.to_thread(self._embedded.acquire)
            except RuntimeError as error:
                # The interpreter is ending, and starts no threads.
                raise BrokerUnavailable(
                    f"the embedded server cannot be started: {error}", sent=False
                ) from None

            return await Dial(self.address).connect(self._timeout, path=path)

        assert self._dial is not None  # noqa: S101 - for the type checker
        return await self._dial.connect(self._timeout)


class Backoff:
    """Full-jitter waits for a server that is away: 0 to 50 ms, doubling up to ``limit`` s."""

    def __init__(self, limit: float = 2.0) -> None:
        self._limit = limit
        self._failures = 0

    def reset(self) -> None:
        """The server answered."""
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait before the next try."""
        self._failures += 1
        longest = min(self._limit, 0.05 * 2 ** min(self._failures, 10))
        return random.uniform(0, longest)  # noqa: S311 - no secret

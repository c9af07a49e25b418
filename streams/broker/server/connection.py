"""From a URL to connections. Which topology serves the URL is known here and nowhere else.

What imports the client library is imported when a URL needs it (see ``dial``).
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
    """Let a broker pass.

    Raises:
        ConfigurationError: it is something else.
    """
    if not hasattr(broker, "clock"):  # Whatever behaves like one may stand for it.
        raise ConfigurationError(
            f"broker is a Broker, e.g. Broker('redis://localhost:6379/0'), not {broker!r}"
        )
    return broker


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
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://HOSTS/SERVICE``, ``redis+cluster://HOSTS``,
            ``embedded://PATH`` or ``memory://``; see DEFAULT_URL.
        namespace: first part of every key.
        timeout: seconds for a call: waiting for its turn, connecting if need be, and the round trip.
        url_file: file that holds the URL, if ``url`` is None; it is read anew for the credentials of each connection.

    Attributes:
        observers: who is told of trips; nobody unless somebody is put in.
        outages: says once that a server is away, and once that it is back.
        was_reached: ``connect`` went well once.

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
            return f"{scheme}://***"  # Where credentials end cannot be told.
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
        """The connection for whatever is not on a hot path."""
        if self._control is None:
            self._control = self.link()
        return self._control

    @property
    def shared(self) -> Link:
        """The connection that the roles of a worker share for what is not on a hot path.

        When it is lost, all that is under way is; each role tries again. What somebody calls goes by ``control``.
        """
        if self._shared is None:
            self._shared = self.link(_AT_ONCE)
        return self._shared

    @property
    def is_spread(self) -> bool:
        """Whether its keys are on several servers, so that one command reaches some of them only."""
        return self._cluster is not None

    def keys(self, stream: str) -> Keys:
        """The keys of a stream on this broker."""
        return Keys(stream, self.namespace)

    def link(self, depth: int = 1) -> Link:
        """A new connection; it opens with its first command and belongs to the event loop that uses it.

        ``depth``: how many round trips may be under way at once.
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
        """Which server of several has a stream, as far as is known; '' where there is one only."""
        return self.control.server_of(self.keys(stream).levels())

    async def primaries(self) -> dict[str, Link]:
        """A link to each server that has a part of the keys, by its name, for what must be asked of each.

        Unless it is a cluster that is one, without a name. They belong to ``control`` and are closed with it.

        Raises:
            BrokerUnavailable: the cluster cannot be asked.
        """
        return await self.control.primaries()

    async def connect(self, *, needs_clock: bool = True) -> None:
        """Reach the server, of a cluster any node, and read its clock.

        Args:
            needs_clock: False: where the user may not call TIME, this machine's clock stands for the server's.

        Raises:
            BrokerUnavailable: it cannot be reached.
            AccessDenied: it refuses the credentials, or the user may not call TIME.
            NoServer: the embedded server has no binary to run, or it did not start.
        """
        try:
            seconds, micros = await self.control.ask_any("TIME")
        except (BrokerUnavailable, CommandRefused) as error:
            if (
                not self.was_reached
                and (other := await self._other_kind(error)) is not None
            ):
                raise other from error
            raise
        except AccessDenied as error:
            if needs_clock or isinstance(error, WrongCredentials):
                raise
        else:
            self.clock.observe(int(seconds) * 1000 + int(micros) // 1000)
        if not self.was_reached and (other := await self._judged()) is not None:
            raise other
        self.was_reached = True

    async def _other_kind(self, error: BrokerError) -> WrongServer | None:
        """What is there in the place of what the URL says; None: that cannot be told, or it is just away."""
        if isinstance(error, CommandRefused):
            return await self._judged()
        if self._read is None or self.url.startswith("unix"):
            return None
        from streams.broker.server import kinds

        way = self._dial or self._cluster
        if way is None:
            return None
        # Of several servers the one that is tried, if that is known.
        known = getattr(way, "place", None)
        places = (*self._read.nodes, *((known,) if known else ()))
        return await kinds.wrong_transport(self._read, places, way.options)

    async def _judged(self) -> WrongServer | None:
        """What the server says of itself, judged by the URL; None: nothing is wrong, or it does not say."""
        if self._read is None:
            return None
        from streams.broker.server import kinds

        facts = await self.facts()
        return (
            kinds.too_old(facts)
            if self._read.topology
            else kinds.judged(facts, self.address, self._here)
        )

    @property
    def _here(self) -> tuple[str, int]:
        """Host and port of the URL; '' and 0 of a unix socket."""
        place = getattr(self._dial, "place", None)
        return ("", 0) if place is None or self.url.startswith("unix") else place

    async def facts(self) -> Mapping[str, str]:
        """What the server says of itself: server, version, mode and role; nothing if it may not be asked."""
        from streams.broker.server import kinds

        try:
            return kinds.told(await self.control.ask_any("HELLO"))
        except CommandRefused:
            # Before Redis 6 there was no such command, and some proxies have none.
            pass
        except BrokerError:
            return {}
        try:
            return kinds.informed(await self.control.ask_any("INFO", "server"))
        except BrokerError:
            return {}

    async def close(self) -> None:
        """Close the connections of this event loop; the last user of an embedded server stops it."""
        for link in list(self._links):
            await link.close()
        self._links.clear()
        self._control = self._shared = None
        if self._dial is not None:
            await self._dial.close()
        if self._embedded is not None:
            # A server that keeps nothing must be gone before somebody opens the next one.
            await asyncio.to_thread(self._embedded.close, wait=self.url == DEFAULT_URL)

    def _read_url(self) -> None:
        self._read = read = ServerURL.parse(self.url)
        from streams.broker.server import client
        from streams.broker.server.dial import Dial

        try:
            dial = Dial(self.address, read.server, self._renewing("server"))
        except ValueError:
            # The parser's own message may quote the URL, and with it the password.
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
        """Reads the file of the URL again, if there is one; ``part``: of ``ServerURL``, whose credentials are meant."""
        file = self._file
        if file is None:
            return None
        return lambda: str(getattr(ServerURL.parse(file.read()), part))

    def _leave(self, stay: Callable[[str, int], bool]) -> bool:
        """After a failover no link may stay with a server that is no primary any more; returns whether any is open."""
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
        # The embedded server ended between being found and being connected to: that brings it back.
        return await self._open_once()

    async def _open_once(self) -> AbstractConnection:
        if self._embedded is not None:
            from streams.broker.server.dial import Dial

            try:
                path = await asyncio.to_thread(self._embedded.acquire)
            except RuntimeError as error:
                # An interpreter that is ending starts no threads.
                raise BrokerUnavailable(
                    f"the embedded server cannot be started: {error}", sent=False
                ) from None
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

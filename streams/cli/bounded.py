"""HTTP whose clients are bounded in time and number: a slow one holds nothing for long.

The server of the application bounds neither how long a request takes to arrive nor how
long an answer takes to leave. So each connection has clocks of its own here.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from streams.common.log_facts import logger_of

logger = logger_of("http")


class ClientBounds(NamedTuple):
    """The time and the number that clients may take.

    Attributes:
        headers: seconds for the line and the headers of a request, from the first byte,
            or from the connection.
        body: seconds for the body of a request, and one more for each ``rate`` bytes
            that came.
        rate: bytes per second that a body comes with at least.
        unread: seconds for which an answer may lie here, because the client does not
            read.
        connections: how many there may be; further ones are closed at once.
        incomplete: of how many a request may be on its way; one more, and the oldest of
            them is closed.
    """

    headers: float = 10.0
    body: float = 20.0
    rate: float = 16_384.0
    unread: float = 30.0
    connections: int = 1000
    incomplete: int = 250


class Bounded(H11Protocol):
    """One connection."""

    bounds: ClassVar[ClientBounds] = ClientBounds()
    arriving: ClassVar[dict[Bounded, None]] = {}
    """Connections whose request is on its way, the oldest first."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self._part = ""
        self._until = 0.0
        self._waiting: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        super().connection_made(transport)  # type: ignore[arg-type]

        if len(self.connections) > self.bounds.connections:
            self._drop("there are too many connections")
            return

        self._wait_for("headers", self.bounds.headers)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._look(len(data))

    def on_response_complete(self) -> None:
        """Go on to the next request, or see that the answer leaves."""
        super().on_response_complete()

        if self.transport.is_closing():
            self._see_it_leave()
        elif self.conn.their_state is h11.IDLE and not self._has_bytes():
            self._wait_no_more()  # The server closes what stays idle.
        else:
            self._look(0)

    def timeout_keep_alive_handler(self) -> None:
        """Close what stayed idle."""
        super().timeout_keep_alive_handler()
        self._see_it_leave()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        super().send_400_response(msg)
        self._see_it_leave()

    def shutdown(self) -> None:
        """End, since the server ends."""
        super().shutdown()
        self._see_it_leave()

    def pause_writing(self) -> None:
        """Wait until the client has read."""
        super().pause_writing()
        self._see_it_leave()

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()

        if self._unread is not None and not self.transport.is_closing():
            self._unread.cancel()
            self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._wait_no_more()

        if self._unread is not None:
            self._unread.cancel()

        super().connection_lost(exc)

    def _look(self, came: int) -> None:
        """See what the client has still to send."""
        state = self.conn.their_state

        if state is h11.IDLE:
            if self._part != "headers":
                self._wait_for("headers", self.bounds.headers)
        elif state is h11.SEND_BODY:
            if self._part != "body":
                self._wait_for("body", self.bounds.body)
            self._until += came / self.bounds.rate
        else:
            self._wait_no_more()

    def _has_bytes(self) -> bool:
        return bool(self.conn.trailing_data[0])

    def _wait_for(self, part: str, seconds: float) -> None:
        self._wait_no_more()
        self._part, self._until = part, self.loop.time() + seconds
        self.arriving[self] = None

        if len(self.arriving) > self.bounds.incomplete:
            oldest = next(iter(self.arriving))
            oldest._drop("too many requests are on their way")  # noqa: SLF001 - its kind

        self._waiting = self.loop.call_at(self._until, self._expire)

    def _wait_no_more(self) -> None:
        self._part = ""
        self.arriving.pop(self, None)

        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _expire(self) -> None:
        # More came, or it is the application that is slow.
        if self.loop.time() < self._until or self.flow.read_paused:
            self._waiting = self.loop.call_at(
                max(self._until, self.loop.time() + 0.1), self._expire
            )
            return

        self._drop(f"the {self._part} of a request did not come in time")

    def _see_it_leave(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(
                self.bounds.unread, self._drop, "the client does not read its answer"
            )

    def _drop(self, why: str) -> None:
        self._wait_no_more()
        logger.info(
            "a connection is closed",
            extra={"why": why, "place": self.client[0] if self.client else ""},
        )

        self.transport.abort()


def bounded(bounds: ClientBounds | None = None) -> type[Bounded]:
    """The protocol that one server speaks with its clients."""
    own: dict[str, Any] = {"bounds": bounds or ClientBounds(), "arriving": {}}

    return type("Bounded", (Bounded,), own)

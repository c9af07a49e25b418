"""The base class of middleware, and the arguments of its hooks."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any

from streams.broker import Broker
from streams.events.event import Event


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One consumer of one group, for which a middleware works. Compared by identity.

    Attributes:
        broker: the open broker, which is closed after ``stop``.
        stream, group: the names of both.
        consumer: the name of this consumer.
        lease: seconds of silence after which an entry of the group is stalled.
    """

    broker: Broker
    stream: str
    group: str
    consumer: str
    lease: float


class Attempt:
    """One attempt at an event, the argument of every hook.

    Attributes:
        event: the event, validated and upcast, as the handler gets it.
        place: the consumer that runs it.
        skipped: whether it is acknowledged without its handler (``Skip``).
    """

    __slots__ = ("_state", "event", "place", "skipped", "why")

    event: Event[Any]
    place: Place
    skipped: bool
    why: str
    _state: dict[Any, Any]

    def __init__(self, event: Event[Any], place: Place | None = None) -> None:
        self.event = event
        self.skipped = False
        self.why = ""
        if place is not None:
            self.place = place

    @property
    def cancelled(self) -> str:
        """The reason of a cancellation by the worker; '' without one.

        ``timeout``; ``lost``: the lease is lost, so that another worker may run the
        event; ``shutdown``: the event is given back.
        """
        return self.why

    @property
    def deliveries(self) -> int:
        """The number of deliveries of the entry. It is different for every attempt."""
        return max(1, self.event.attempt)

    @property
    def probing(self) -> str:
        """The target of the open breaker's pause, if this attempt is its probe; else ''."""
        return ""

    @property
    def state(self) -> dict[Any, Any]:
        """Data of middleware for this attempt. Use the middleware itself as the key."""
        try:
            return self._state
        except AttributeError:
            self._state = {}
            return self._state

    def explained(self, error: BaseException) -> BaseException:
        """The error for the hooks: the reason of a cancellation, or ``error`` itself."""
        return error


Around = (
    AbstractContextManager[Any, bool | None]
    | AbstractAsyncContextManager[Any, bool | None]
)


class Middleware:
    """Base class of middleware around every attempt of a group.

    Override the hooks that you need; other hooks cost nothing. A hook may be ``def`` or
    ``async def``. It runs in the event loop, so that a plain hook must not block. Only the
    result of ``around`` is entered where the handler runs. ``before`` hooks run in the
    order of the list, ``after`` and ``failed`` hooks in reverse. One object may serve
    several groups at once: keep data of an attempt in ``attempt.state``, and data of a
    consumer by ``attempt.place``.
    """

    def before(self, attempt: Attempt) -> Awaitable[None] | None:
        """Called before the handler.

        ``Skip`` acknowledges the event without the handler. Any other exception fails the
        attempt.
        """

    def after(self, attempt: Attempt) -> Awaitable[None] | None:
        """Called after the handler returned. An exception fails the attempt."""

    def failed(
        self, attempt: Attempt, error: BaseException
    ) -> Awaitable[BaseException | None] | BaseException | None:
        """Called after a failed attempt; return another exception to replace ``error``.

        A timeout is a ``TimeoutError``. If ``attempt.cancelled`` is ``lost`` or
        ``shutdown``, the outcome is decided already: the hook may clean up, and its
        result is ignored.
        """

    def around(self, attempt: Attempt) -> Around | None:
        """A context manager around the call of the handler, or None.

        For a ``def`` handler it is entered in the handler's thread, and may block there.
        For an ``async def`` handler it is entered in the event loop, where a plain one
        must not block. An object with both interfaces is entered as the one that fits.
        """

    def start(self, place: Place) -> Awaitable[None] | None:
        """Called before a consumer of a group starts. An exception ends the worker."""

    def stop(self, place: Place) -> Awaitable[None] | None:
        """Called after the last attempt of that consumer."""

    def timeouts(self) -> Mapping[str | None, float]:
        """The timeout of each event type in seconds; None: other types.

        Called once per group.
        """
        return {}

"""What a middleware is, and what its hooks are given."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any

from streams.broker import Broker
from streams.events.event import Event


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a middleware works: one consumer of one group. Each is equal to itself alone.

    Attributes:
        broker: open; closed after ``stop``.
        stream, group: names.
        consumer: name of this consumer.
        lease: seconds of silence after which an entry of the group counts as stalled.
    """

    broker: Broker
    stream: str
    group: str
    consumer: str
    lease: float


class Attempt:
    """One attempt at an event: what every hook is given.

    Attributes:
        event: the event, validated and upcast, as the handler sees it.
        place: the consumer that it runs in.
        skipped: it is acknowledged without its handler (``Skip``).
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
        """Why the worker cancelled the attempt; '' if it did not.

        ``timeout``; ``lost``: the lease is lost, somebody else may run the event; ``shutdown``: it is given back.
        """
        return self.why

    @property
    def deliveries(self) -> int:
        """How often the entry was delivered, retries and snoozes included: never the same for two attempts at it."""
        return max(1, self.event.attempt)

    @property
    def probing(self) -> str:
        """Scope of the pause of a circuit breaker that lets this attempt through; '' otherwise."""
        return ""

    @property
    def state(self) -> dict[Any, Any]:
        """A place for what a middleware must remember until the end of the attempt; use yourself as the key."""
        try:
            return self._state
        except AttributeError:
            self._state = {}
            return self._state

    def explained(self, error: BaseException) -> BaseException:
        """The error that hooks are told: what the attempt was cancelled for, or ``error`` itself."""
        return error


Around = (
    AbstractContextManager[Any, bool | None]
    | AbstractAsyncContextManager[Any, bool | None]
)


class Middleware:
    """Base of what wraps every attempt of a group.

    Override what you need; a hook that is not overridden costs nothing. Every hook may be ``def`` or ``async def`` and
    runs in the event loop: a plain one must not wait. Only what ``around`` returns is entered where the handler runs.
    ``before`` hooks run in the order of the list, ``after`` and ``failed`` in reverse. One object may serve several
    groups at once: what belongs to an attempt goes into ``attempt.state``, what belongs to a group is found by
    ``attempt.place``.
    """

    def before(self, attempt: Attempt) -> Awaitable[None] | None:
        """The handler is about to start. ``Skip`` acknowledges without it, any other exception fails the attempt."""

    def after(self, attempt: Attempt) -> Awaitable[None] | None:
        """The handler returned; the event is acknowledged unless this raises."""

    def failed(
        self, attempt: Attempt, error: BaseException
    ) -> Awaitable[BaseException | None] | BaseException | None:
        """The attempt failed with ``error``; return another exception to put it in its place.

        A timeout is a ``TimeoutError``. When ``attempt.cancelled`` is ``lost`` or ``shutdown``, the outcome of a
        ``CancelledError`` is decided: this is for cleaning up, and what it returns is ignored.
        """

    def around(self, attempt: Attempt) -> Around | None:
        """What is entered around the call of the handler alone, where the handler runs; None: nothing.

        A context manager. That of a ``def`` handler is entered and left in the handler's own thread, and may wait
        there; that of an ``async def`` handler in the event loop, where it must not wait, or it is an asynchronous
        one. What is both is entered as what fits.
        """

    def start(self, place: Place) -> Awaitable[None] | None:
        """A consumer of a group begins. What this raises ends the worker."""

    def stop(self, place: Place) -> Awaitable[None] | None:
        """That consumer has ended its last attempt."""

    def timeouts(self) -> Mapping[str | None, float]:
        """Seconds after which an attempt is cancelled, by event type, None for the others. Asked once per group."""
        return {}

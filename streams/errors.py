"""Every error of the package, in one tree.

    StreamsError
    ├── ConfigurationError          a setting, URL or argument that cannot be right
    │   ├── InvalidName             a name with characters that are not allowed
    │   ├── AddressTaken            an address that cannot be bound
    │   └── NoServer                the embedded server has no binary, or did not start
    ├── EventError
    │   ├── MalformedEvent          a stored entry that cannot be read as an event
    │   ├── EventTooLarge           a body over the limit on bytes
    │   ├── InvalidData             a body that the handler's type or an upcaster refuses
    │   └── InvalidMessage          a message that its provider would refuse
    ├── PublishError
    │   ├── StreamFull              the stream holds ``max_len`` entries
    │   └── PublishUnknown          the answer was lost: the event may be stored
    │       └── PartlyPublished     some partitions stored their events, others did not
    ├── BrokerError
    │   ├── BrokerUnavailable       connection loss, loading, failover; a retry helps
    │   │   └── PartlyAway          some partitions answered, others are unavailable
    │   ├── OutOfMemory             the server refuses writes; a retry may help
    │   ├── GroupMissing            the consumer group or its stream is gone
    │   ├── AccessDenied            missing permissions: a retry cannot help
    │   │   └── WrongCredentials    unknown user, or wrong password
    │   ├── WrongServer             another kind of server than the URL says
    │   ├── WrongKeyType            a key of this package holds another kind of value
    │   └── CommandRefused          any other refusal; workers retry it
    ├── Unavailable                 raised by handlers: a dependency is down
    ├── Unfinished                  a test's ``drain`` met its deadline
    ├── NotWaiting                  an event that is not scheduled or waiting for a retry
    │   └── NotCancelled            the same, from a cancellation
    ├── GroupInUse                  a group with live consumers cannot be dropped
    ├── NotFound                    no such stream, group, entry or dead letter
    │   └── GroupDropped            the group of a dead letter was dropped
    └── HandlerSignal               raised *by handlers* to choose an outcome
        ├── Reject                  dead letter now, no retry
        ├── Skip                    nothing to do: acknowledged
        └── Snooze                  later, without using up an attempt
            └── Throttle            later, together with every event of the same key

``retryable`` tells whether the same call may succeed later without any change.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from streams.quantities import Seconds, When, counted, seconds_of, span_of, spoken

if TYPE_CHECKING:
    from streams.events.receipt import BatchOutcome

OTHER_LOOP = (
    "this pipeline was opened in another event loop: "
    "open and use it inside of one asyncio.run(), or open a twin here: "
    "async with pipeline.twin() as pipeline:"
)
"""Connections belong to one event loop. asyncio's own error does not say so."""


class StreamsError(Exception):
    """Base of every error that this package raises.

    Attributes:
        retryable: whether the same call may succeed later without any change.
        outcome: the state of each item, if ``publish_many`` or ``publish_batches``
            raised this error; None elsewhere.
        is_logged: whether a worker that this error ended has logged it already.
    """

    retryable: ClassVar[bool] = False
    outcome: BatchOutcome | None = None
    is_logged: bool = False


class ConfigurationError(StreamsError, ValueError):
    """A setting, URL or argument is refused; the message names it and says what is accepted."""


class InvalidName(ConfigurationError):
    """A name does not match ``[A-Za-z0-9][A-Za-z0-9._-]{0,99}``."""


class AddressTaken(ConfigurationError):
    """An address cannot be bound: it is in use, or the permission is missing."""


class NoServer(ConfigurationError):
    """The embedded server has no binary to run, or the binary did not come up."""


class EventError(StreamsError, ValueError):
    """An event breaks the rules of the wire format."""


class MalformedEvent(EventError):
    """A stored entry cannot be read as an event.

    ``reason`` is a short stable word (``no-type``, ``bad-meta``, ``bad-json``, ``too-deep`` …).
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class EventTooLarge(EventError):
    """The body of an event is over the limit. ``size`` and ``limit`` are in bytes."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the event body has {size} bytes, the limit is {limit}: "
            "store it elsewhere and publish a reference, "
            "or raise max_event_bytes on producers and workers"
        )
        self.size = size
        self.limit = limit


class InvalidData(EventError):
    """A body does not fit its handler's type, or an upcaster failed on it.

    The message names the field and the problem. It never contains a value of the body.
    """


class InvalidMessage(EventError):
    """A message is malformed, or exceeds a limit of its provider.

    The text names the problem. It contains neither the message nor its recipient.
    """


class PublishError(StreamsError):
    """An event was not published, or may not have been."""


class StreamFull(PublishError):
    """The stream already holds ``max_len`` entries, so the event was not stored.

    Nothing was trimmed. ``accepted`` counts the events of the same call that were
    stored before the limit was reached.
    """

    retryable = True

    def __init__(self, stream: str, max_len: int, accepted: int = 0) -> None:
        stored = counted(accepted, "event of this call was", "events of this call were")
        super().__init__(
            f"stream {stream!r} is full (max_len {max_len}); {stored} stored. "
            "Slow down and publish the rest again, or raise max_len"
        )
        self.stream = stream
        self.max_len = max_len
        self.accepted = accepted


class PublishUnknown(PublishError):
    """The answer to a request was lost: each event is stored once or not at all.

    ``event_ids`` are the ids in doubt. Publishing again may store a second entry with
    the same event id. An event with a ``dedup_id`` is safe to publish again, and the
    producer does so itself. ``accepted`` counts the events of the call that are stored.
    """

    def __init__(
        self, stream: str, event_ids: tuple[str, ...], accepted: int = 0
    ) -> None:
        them = "it" if len(event_ids) == 1 else "they"
        events = counted(len(event_ids), "event")
        super().__init__(
            f"the answer to publishing {events} on {stream!r} was lost: "
            f"{them} may be stored or not. "
            "Give events a dedup_id to make publishing again safe"
        )
        self.stream = stream
        self.event_ids = event_ids
        self.accepted = accepted


class PartlyPublished(PublishUnknown):
    """Some events of the call are not stored: their partitions were unavailable.

    ``event_ids`` are the ids of the events that are not stored. ``accepted`` counts the
    stored events, and ``outcome`` names them.
    """

    def __init__(
        self, stream: str, event_ids: tuple[str, ...], accepted: int = 0
    ) -> None:
        super().__init__(stream, event_ids, accepted)
        away = "are surely not stored: the servers of their partitions are"
        if len(event_ids) == 1:
            away = "is surely not stored: the server of its partition is"

        events = counted(len(event_ids), "event")
        text = (
            f"{events} for {stream!r} {away} away; the others of this call are. "
            "Publish again what the outcome calls not stored"
        )
        self.args = (text,)


class BrokerError(StreamsError):
    """The server refused a command, or could not be reached."""


class BrokerUnavailable(BrokerError):
    """The server cannot be reached, is loading, or is not the primary: a retry helps.

    ``sent`` tells whether the command may have reached the server. ``server`` names the
    server if there are several and it is known; it is '' otherwise.
    """

    retryable = True

    def __init__(self, message: str, *, sent: bool = False, server: str = "") -> None:
        super().__init__(message)
        self.sent = sent
        self.server = server


class PartlyAway(BrokerUnavailable):
    """Some partitions of a stream answered, and others are unavailable.

    ``answer`` is the merged answer of the available partitions. ``partitions`` names
    the missing ones.
    """

    def __init__(
        self,
        message: str,
        answer: object,
        partitions: tuple[str, ...],
        *,
        sent: bool,
        server: str,
    ) -> None:
        super().__init__(message, sent=sent, server=server)
        self.answer: Any = answer
        self.partitions = partitions


class OutOfMemory(BrokerError):
    """The server is at ``maxmemory`` and refused a write. Nothing was written."""

    retryable = True


class GroupMissing(BrokerError):
    """The consumer group, or its stream, does not exist."""

    retryable = True


class AccessDenied(BrokerError):
    """Wrong credentials, or the user lacks a permission; the message says which."""


class WrongCredentials(AccessDenied):
    """The server does not know the user, or the password is wrong.

    Raised only for credentials that the server never accepted. If it accepted them
    before, they are being rotated, which is temporary (``BrokerUnavailable``).
    """


class WrongServer(BrokerError):
    """The server is of another kind than the URL says, or is too old.

    It is a cluster node or a Sentinel, or it differs in TLS. A retry cannot help; the
    message says which URL to use.
    """


class WrongKeyType(BrokerError):
    """A key of this package holds another kind of value: something else writes to it."""


class CommandRefused(BrokerError):
    """The server refused a command for a reason without a class of its own."""


class NotFound(StreamsError, LookupError):
    """No such stream, group, entry or dead letter."""


class GroupDropped(NotFound):
    """The group was dropped, so no consumer would handle the event. Nothing was moved."""


class GroupInUse(StreamsError):
    """A group cannot be dropped while it has live consumers."""


class Unfinished(StreamsError, AssertionError):
    """The pipeline under test still has unfinished events, which the message lists."""


class NotWaiting(StreamsError):
    """An event is not scheduled and not waiting for a retry, so it cannot start early.

    The message says what to do instead. ``id`` is the requested id. ``state`` is
    pending, processing, dead, done or orphaned; it lists several states if several
    events have that id.
    """

    def __init__(self, id: str, state: str, message: str) -> None:
        super().__init__(message)
        self.id = id
        self.state = state


class NotCancelled(NotWaiting):
    """An event cannot be cancelled, because it is not waiting; see ``NotWaiting``."""


class Unavailable(StreamsError):
    """Raise in a handler when a service that it needs is down for every event of a key.

    The attempt counts as a failure. A ``Breaker`` opens at once.

    Args:
        message: which service does not work.
        retry_after: when the event is tried again: seconds, a ``timedelta`` or a
            ``datetime`` with a zone. None: when the handler's ``Retry`` decides.
    """

    def __init__(
        self, message: str = "unavailable", retry_after: When | None = None
    ) -> None:
        super().__init__(message)
        if retry_after is not None:
            self.retry_after = _from_now("Unavailable.retry_after", retry_after, 1e9)


class HandlerSignal(StreamsError):
    """Base of the exceptions with which a handler chooses the outcome of an attempt."""


class Reject(HandlerSignal):
    """Raise in a handler for an event that can never succeed: it is dead at once.

    Args:
        reason: the reason that the dead letter keeps.
    """

    def __init__(self, reason: str = "rejected by the handler") -> None:
        super().__init__(reason)
        self.reason = reason


class Skip(HandlerSignal):
    """Raise in a middleware's ``before`` to acknowledge an event without its handler.

    A handler that raises it ends as if it had returned. A ``failed`` hook that returns
    it drops the failure.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "skipped")
        self.reason = reason


class Snooze(HandlerSignal):
    """Raise in a handler to get the event again later, without using up an attempt.

    Args:
        seconds: when: seconds, a ``timedelta``, or a ``datetime`` with a zone, which is
            compared with this machine's clock.
        reason: the reason that logs and ``streams why`` show.
    """

    def __init__(self, seconds: When, reason: str = "") -> None:
        self.seconds = _from_now("Snooze.seconds", seconds, 1e10)
        text = f"snoozed for {self.seconds:.12g} s"
        super().__init__(f"{text}: {reason}" if reason else text)
        self.reason = reason


class Throttle(Snooze):
    """Raise in a handler when a downstream service asks for a lower rate (HTTP 429).

    No event of the key starts for ``seconds``, this event included. No attempt is used
    up.

    Args:
        limit: the name of one of the handler's limits.
        seconds: for how long, at most a day: seconds or a ``timedelta``.
        key: the key under that limit; None: the event's own key.
    """

    def __init__(self, limit: str, seconds: Seconds, key: str | None = None) -> None:
        if not isinstance(limit, str) or not limit:
            raise ConfigurationError(
                "Throttle takes the name of a limit, e.g. Throttle('tenant', 30), "
                f"not {limit!r}"
            )

        found = seconds_of(seconds)
        if found is None or not 0 <= found <= 86_400:
            raise ConfigurationError(
                f"{span_of('Throttle.seconds', 0, 86_400)}, not {spoken(seconds)}"
            )

        super().__init__(seconds, f"limit {limit} throttled")
        self.limit = limit
        self.key = key


def _from_now(what: str, when: When, most: float) -> float:
    seconds = seconds_of(when, time.time)
    if seconds is None or not 0 <= seconds <= most:
        raise ConfigurationError(
            f"{span_of(what, 0, most, is_moment=True)}, not {spoken(when)}"
        )

    return float(seconds)

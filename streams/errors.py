"""Every error of the package, in one tree.

    StreamsError
    ├── ConfigurationError          a setting, URL or argument that cannot be right
    │   ├── InvalidName             a stream, group or consumer name outside the allowed alphabet
    │   ├── AddressTaken            an address cannot be listened on: another program does, or it is not ours
    │   └── NoServer                no server binary for the embedded server, or it did not start
    ├── EventError
    │   ├── MalformedEvent          a stored entry that cannot be read as an event
    │   ├── EventTooLarge           a body over the limit on bytes
    │   ├── InvalidData             a body that does not fit the handler's type, or that an upcaster refuses
    │   └── InvalidMessage          a message that its provider would refuse
    ├── PublishError
    │   ├── StreamFull              the stream holds ``max_len`` entries; nothing was trimmed
    │   └── PublishUnknown          the answer was lost: the event may or may not be stored
    │       └── PartlyPublished     nothing is in doubt: some partitions have stored theirs, others surely have not
    ├── BrokerError
    │   ├── BrokerUnavailable       passing: connection loss, loading, failover; trying again helps
    │   │   └── PartlyAway          some partitions of a stream are away; it has the answer of the others
    │   ├── OutOfMemory             the server refuses writes that need memory; trying again may help
    │   ├── GroupMissing            the consumer group or the stream behind it is gone
    │   ├── AccessDenied            credentials or permissions: trying again cannot help
    │   │   └── WrongCredentials    the server does not know the user, or the password is another one
    │   ├── WrongServer             another kind of server than the URL says; the message says what to write
    │   ├── WrongKeyType            a key of ours holds something else
    │   └── CommandRefused          any other refusal by the server; roles wait it out as if it were unavailable
    ├── Unavailable                 raised by handlers: the service behind does not answer; opens a ``Breaker``
    ├── Unfinished                  a test's ``drain`` met its deadline
    ├── NotWaiting                  an event that is neither scheduled nor waiting for a retry, or an id of several
    │   └── NotCancelled            the same, where it was to be cancelled
    ├── GroupInUse                  a group that is to be dropped has consumers that are alive
    ├── NotFound                    no such stream, group, entry or dead letter
    │   └── GroupDropped            the group was given up, and would not take what is put back for it
    └── HandlerSignal               raised *by handlers* to choose an outcome
        ├── Reject                  dead letter now, no retry
        ├── Skip                    nothing to do: acknowledged
        └── Snooze                  later, without burning an attempt
            └── Throttle            later, and nothing else of the same key before

``retryable`` on a class says whether the same call may succeed later without anybody changing anything.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from streams.quantities import Seconds, When, counted, seconds_of, span_of, spoken

if TYPE_CHECKING:
    from streams.events.receipt import BatchOutcome

OTHER_LOOP = (
    "this pipeline was opened in another event loop: open and use it inside of one asyncio.run(), or open a twin here: "
    "async with pipeline.twin() as pipeline:"
)
"""What to do where another event loop has opened the connections; asyncio would speak of its futures."""


class StreamsError(Exception):
    """Base of every error that this package raises.

    Attributes:
        retryable: whether the same call may succeed later without anybody changing anything.
        outcome: what became of each item, where ``publish_many`` or ``publish_batches`` raised this; None elsewhere.
        is_logged: whether the log has a line of it already, since a worker ended by it.
    """

    retryable: ClassVar[bool] = False
    outcome: BatchOutcome | None = None
    is_logged: bool = False


class ConfigurationError(StreamsError, ValueError):
    """A setting, URL or argument is refused; the message names it and says what is accepted."""


class InvalidName(ConfigurationError):
    """A name does not match ``[A-Za-z0-9][A-Za-z0-9._-]{0,99}``."""


class AddressTaken(ConfigurationError):
    """An address cannot be listened on: another program serves there, or this one may not."""


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
            f"the event body has {size} bytes, the limit is {limit}: store it elsewhere and publish a reference, "
            "or raise max_event_bytes on producers and workers"
        )
        self.size = size
        self.limit = limit


class InvalidData(EventError):
    """A body does not fit the type that its handler declares, or an upcaster failed on it.

    The message says where and what; it never holds a value of the body.
    """


class InvalidMessage(EventError):
    """A message breaks a limit of its provider, or is none.

    The text names what is wrong; it holds neither the message nor its recipient.
    """


class PublishError(StreamsError):
    """An event was not, or not surely, published."""


class StreamFull(PublishError):
    """The stream already holds ``max_len`` entries. Nothing was trimmed and this event was not stored.

    ``accepted`` counts the events of the same call that were stored before the limit was met.
    """

    retryable = True

    def __init__(self, stream: str, max_len: int, accepted: int = 0) -> None:
        super().__init__(
            f"stream {stream!r} is full (max_len {max_len}); {counted(accepted, 'event')} of this call "
            f"{'was' if accepted == 1 else 'were'} stored. "
            "Slow down and publish the rest again, or raise max_len"
        )
        self.stream = stream
        self.max_len = max_len
        self.accepted = accepted


class PublishUnknown(PublishError):
    """The request left, the answer was lost: the event is stored once or not at all.

    ``event_ids`` are the ids in doubt. Publishing again may store a second entry with the same event id, unless the
    event has a ``dedup_id``: then publishing again is safe, and the producer does so by itself.
    ``accepted`` counts the events of the same call that are surely stored.
    """

    def __init__(
        self, stream: str, event_ids: tuple[str, ...], accepted: int = 0
    ) -> None:
        them = "it" if len(event_ids) == 1 else "they"
        events = counted(len(event_ids), "event")
        super().__init__(
            f"the answer to publishing {events} on {stream!r} was lost: {them} may be stored or"
            " not. Give events a dedup_id to make publishing again safe"
        )
        self.stream = stream
        self.event_ids = event_ids
        self.accepted = accepted


class PartlyPublished(PublishUnknown):
    """Some events of the call are stored and the others surely not: the servers of their partitions are away.

    ``event_ids`` are the ids of those that are not stored, ``accepted`` counts those that are; ``outcome`` says which.
    """

    def __init__(
        self, stream: str, event_ids: tuple[str, ...], accepted: int = 0
    ) -> None:
        super().__init__(stream, event_ids, accepted)
        is_one = len(event_ids) == 1
        away = (
            "is surely not stored: the server of its"
            if is_one
            else "are surely not stored: the servers of their"
        )
        away += " partition is" if is_one else " partitions are"
        self.args = (
            f"{counted(len(event_ids), 'event')} for {stream!r} {away} "
            "away; the others of this call are. Publish again what the outcome calls not stored",
        )


class BrokerError(StreamsError):
    """The server, or the way to it, said no."""


class BrokerUnavailable(BrokerError):
    """Connection loss, a server that loads or fails over, or one that is not the primary: trying again helps.

    ``sent`` tells whether the command may have reached the server; ``server`` names which of several it was, '' where
    there is one only or it is not known.
    """

    retryable = True

    def __init__(self, message: str, *, sent: bool = False, server: str = "") -> None:
        super().__init__(message)
        self.sent = sent
        self.server = server


class PartlyAway(BrokerUnavailable):
    """Some partitions of a stream could be asked, others are away.

    ``answer`` is what those say that are there, put together; ``partitions`` names those that are missing in it.
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
    """The server is at ``maxmemory`` and refuses writes that need memory. Nothing was written."""

    retryable = True


class GroupMissing(BrokerError):
    """The consumer group, or the stream that it belongs to, does not exist (any more)."""

    retryable = True


class AccessDenied(BrokerError):
    """Wrong credentials, or the user lacks a permission; the message says which."""


class WrongCredentials(AccessDenied):
    """The server does not know the user, or the password is another one.

    Only for credentials that it never took: those that it took before are being changed, which is a passing trouble
    (``BrokerUnavailable``).
    """


class WrongServer(BrokerError):
    """What answers is of another kind than the URL says: a node of a cluster, a Sentinel, TLS or none, too old.

    Nothing but a person mends that; the message says what to write instead.
    """


class WrongKeyType(BrokerError):
    """A key of this package holds another kind of value: something else writes to it."""


class CommandRefused(BrokerError):
    """The server refused a command for a reason without a class of its own."""


class NotFound(StreamsError, LookupError):
    """No such stream, group, entry or dead letter."""


class GroupDropped(NotFound):
    """The group was given up, so nothing would take what is put back for it. Nothing was moved."""


class GroupInUse(StreamsError):
    """A group that is to be dropped has consumers that are alive."""


class Unfinished(StreamsError, AssertionError):
    """The pipeline under test did not get quiet in time; the message says what is still unfinished."""


class NotWaiting(StreamsError):
    """An event does not wait for its time, so it cannot start before it; the message says what can be done instead.

    ``id`` is what was asked for; ``state`` is pending, processing, dead, done or orphaned, or what several of that id
    are.
    """

    def __init__(self, id: str, state: str, message: str) -> None:
        super().__init__(message)
        self.id = id
        self.state = state


class NotCancelled(NotWaiting):
    """An event cannot be cancelled as it stands, because it does not wait; as ``NotWaiting``."""


class Unavailable(StreamsError):
    """Raised by a handler: what it needs does not work at the moment, for this event or any other of its key.

    A failure like any other, which a ``Breaker`` takes as the sign to open at once.

    Args:
        message: what does not work.
        retry_after: when the event is tried again: seconds, a ``timedelta`` or a ``datetime`` with a zone; None: as its
            handler's ``Retry`` says.
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
    """Raised by a handler: this event can never succeed. It goes to the dead letters at once.

    Args:
        reason: why, as the dead letter tells it.
    """

    def __init__(self, reason: str = "rejected by the handler") -> None:
        super().__init__(reason)
        self.reason = reason


class Skip(HandlerSignal):
    """Raised by a middleware's ``before``: acknowledge the event without running its handler.

    Raised by a handler it means what a return means; returned by a ``failed`` hook, the failure is let go.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "skipped")
        self.reason = reason


class Snooze(HandlerSignal):
    """Raised by a handler: not now. The event comes back and no attempt is burnt.

    Args:
        seconds: when: seconds, a ``timedelta``, or a ``datetime`` with a zone, by this machine's clock.
        reason: why, as logs and ``streams why`` tell it.
    """

    def __init__(self, seconds: When, reason: str = "") -> None:
        self.seconds = _from_now("Snooze.seconds", seconds, 1e10)
        super().__init__(
            f"snoozed for {self.seconds:.12g} s" + (f": {reason}" if reason else "")
        )
        self.reason = reason


class Throttle(Snooze):
    """Raised by a handler: whoever is behind this wants less.

    Nothing of a key starts for ``seconds``, this event included, and no attempt is burnt.

    Args:
        limit: the name of one of the handler's limits.
        seconds: for how long, at most a day: seconds or a ``timedelta``.
        key: the key under that limit; None: that of the event.
    """

    def __init__(self, limit: str, seconds: Seconds, key: str | None = None) -> None:
        if not isinstance(limit, str) or not limit:
            raise ConfigurationError(
                f"Throttle takes the name of a limit, e.g. Throttle('tenant', 30), not {limit!r}"
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

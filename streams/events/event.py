"""The event: what a producer publishes and what a handler receives.

Attribute names follow CloudEvents 1.0 where it has one (``id``, ``source``, ``type``, ``time``, ``subject``,
``datacontenttype``, ``dataschema``, and its tracing extension ``traceparent`` / ``tracestate``).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypedDict, Unpack

from streams.common.arguments import checked_mapping, checked_seconds
from streams.common.forking import at_fork
from streams.errors import ConfigurationError
from streams.events.attributes import LONGEST_RETRY_DELAY, check_attribute
from streams.quantities import Seconds, When, spoken

if TYPE_CHECKING:
    # Type checkers know the default of a type variable before Python 3.13 does: ``event: Event`` is ``Event[Any]``.
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

_EIGHT_DIGITS = re.compile(r"[0-9]{8}")

META_NAMES = frozenset(
    {
        "source",
        "time",
        "subject",
        "key",
        "tenant",
        "instance",
        "datacontenttype",
        "dataschema",
        "traceparent",
        "tracestate",
        "max_retries",
        "retry_delay",
        "expires",
        "version",
    }
)
"""The names that ``meta`` reserves (wire format, version 1); every other name in ``meta`` is a header."""


class EventAttributes(TypedDict, total=False):
    """The keyword arguments that describe an event, all optional."""

    id: str
    """Event id; unique per event. Made by the producer if absent."""
    priority: int
    """Any integer; it is served on the highest level that is not above it. Default 0."""
    delay: When
    """Seconds until the event enters its stream, a ``timedelta``, or the moment itself as a ``datetime`` with a zone.
    Default 0: at once."""
    dedup_id: str
    """A second event with the same value inside the producer's dedup window is not stored."""
    expires: When
    """Seconds from publishing after which the event must not be handled any more; a ``timedelta`` or ``datetime``, as
    for ``delay``."""
    key: str
    """What the event is about, for order and limits: CloudEvents' ``partitionkey``."""
    tenant: str
    """The tenant that the event belongs to."""
    instance: str
    """Sender, device or account of the tenant."""
    source: str
    """CloudEvents ``source``: who publishes."""
    time: str | datetime
    """Time of the occurrence, RFC 3339 or a ``datetime`` with a zone; the time of the entry id if absent."""
    subject: str
    """CloudEvents ``subject``."""
    datacontenttype: str
    """Media type of the body; ``application/json`` if absent."""
    dataschema: str
    """URI of the body's schema."""
    traceparent: str
    """W3C trace context."""
    tracestate: str
    """W3C trace context."""
    max_retries: int
    """Overrides the handler's ``Retry.max_retries`` for this event."""
    retry_delay: Seconds
    """Overrides the handler's ``Retry.delay`` for this event: seconds or a ``timedelta``."""
    version: str
    """Version of the type's schema, for upcasters."""
    headers: Mapping[str, str | int | float | bool]
    """Further attributes: names of lower-case letters and digits, as CloudEvents extensions."""


_META_FROM_ATTRIBUTES = META_NAMES - {"expires"}
_ALL = frozenset(EventAttributes.__annotations__)
_PLAIN = frozenset({"retry_delay", "time"})
"""Attributes that travel in another form than they may be given in."""
CLOUD_NAMES = frozenset(
    {
        *("specversion", "id", "type", "data", "data_base64"),
        *(
            "partitionkey",
            "maxretries",
            "retrydelay",
            "dataversion",
            "expirytime",
            "priority",
        ),
    }
)
"""What CloudEvents, or our mapping to it, calls something else by; no header may have one of these names."""


_TAKEN = META_NAMES | CLOUD_NAMES


class Event(Generic[T]):
    """An event with its body and metadata.

    To publish, build one with ``Event("order.created", {"id": 1}, key="42", priority=5)``, or by the names ``type`` and
    ``data``. In annotations ``Event`` is ``Event[Any]``; ``Event[Order]`` has its body validated. A handler receives
    one with the facts of the delivery: ``stream``, ``group``, ``entry_id``, ``attempt`` (from 1 on) and ``replays``.

    Attributes:
        type: what happened, e.g. ``order.created``.
        data: the decoded body (JSON value; ``str`` or ``bytes`` for other media types).
        raw: the body's bytes as stored; ``b""`` on an event that was not stored yet.
        id: event id; stays the same through retries and replays. Empty until published, if not given.
        priority: as published; on a received event, the level that it was read from.
        meta: the metadata as a plain dictionary, wire names.
        delay: when it enters its stream, to publish with.
        dedup_id: to publish with; not stored with the event.
        expires_in: when it is too late for it, to publish with; a received event has ``expires``.
    """

    __slots__ = (
        "attempt",
        "data",
        "dedup_id",
        "delay",
        "entry_id",
        "expires_in",
        "group",
        "id",
        "meta",
        "priority",
        "raw",
        "replays",
        "stream",
        "type",
    )

    def __init__(
        self, type: str, data: T, **attributes: Unpack[EventAttributes]
    ) -> None:
        self.type = type
        self.data: T = data
        self.raw = b""
        self.id = attributes.get("id", "")
        self.priority = attributes.get("priority", 0)
        self.delay: When = attributes.get("delay", 0.0)
        self.dedup_id = attributes.get("dedup_id")
        self.expires_in = attributes.get("expires")
        self.meta = meta_of(attributes) if attributes else {}
        self.stream = ""
        self.group = ""
        self.entry_id = ""
        self.attempt = 0
        self.replays = 0

    def __repr__(self) -> str:
        """Name the event without its body, which may be personal."""
        return f"<Event {self.type} id={self.id or '-'} entry={self.entry_id or '-'} attempt={self.attempt}>"

    def __class_getitem__(cls, item: Any) -> Any:
        return super().__class_getitem__(item)  # type: ignore[misc]

    @property
    def key(self) -> str | None:
        """What the event is about, for order and limits."""
        return self.meta.get("key")

    @property
    def tenant(self) -> str | None:
        """The tenant that the event belongs to."""
        return self.meta.get("tenant")

    @property
    def instance(self) -> str | None:
        """The instance (sender, device, account) of the tenant."""
        return self.meta.get("instance")

    @property
    def subject(self) -> str | None:
        """CloudEvents ``subject``."""
        return self.meta.get("subject")

    @property
    def source(self) -> str | None:
        """CloudEvents ``source``: who published."""
        return self.meta.get("source")

    @property
    def time(self) -> str | None:
        """RFC 3339 time of the occurrence, if the publisher gave one."""
        return self.meta.get("time")

    @property
    def version(self) -> str | None:
        """Version of the type's schema."""
        return self.meta.get("version")

    @property
    def expires(self) -> float | None:
        """Unix time (seconds, server clock) after which the event must not be handled; None: never."""
        return self.meta.get("expires")

    @property
    def headers(self) -> dict[str, Any]:
        """Every attribute in ``meta`` that the wire format does not reserve."""
        return {
            name: value for name, value in self.meta.items() if name not in META_NAMES
        }


def meta_of(attributes: EventAttributes) -> dict[str, Any]:
    """The part of the attributes that travels in ``meta``, without ``expires`` (the producer makes it absolute).

    Raises:
        ConfigurationError: an attribute is unknown or has a value that it cannot have, or a header has a name that the
            wire format reserves or forbids.
    """
    meta: dict[str, Any] = {}
    for name, value in attributes.items():
        if name not in _ALL:
            raise ConfigurationError(
                f"an event has no attribute {name!r}; it has {', '.join(sorted(EventAttributes.__annotations__))}"
            )
        if value is None:
            continue
        if name in _PLAIN:
            value = _plain(name, value)
        check_attribute(name, value)
        if name in _META_FROM_ATTRIBUTES:
            meta[name] = value
    for name, value in checked_mapping(
        "headers", attributes.get("headers"), "headers={'trial': True}"
    ).items():
        if name in _TAKEN or not (
            isinstance(name, str)
            and name.isascii()
            and name.isalnum()
            and name == name.lower()
        ):
            raise ConfigurationError(
                f"header {name!r}: a header's name has lower-case letters and digits only and is none of "
                f"{', '.join(sorted(_TAKEN))}"
            )
        if not isinstance(value, (str, int, float, bool)) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            raise ConfigurationError(
                f"header {name!r}: the value is a text, finite number or boolean, not {type(value).__name__}"
            )
        meta[name] = value
    return meta


def _plain(name: str, value: object) -> object:
    """An attribute as it travels."""
    if name == "retry_delay":
        return checked_seconds(name, value, 0, LONGEST_RETRY_DELAY)
    if name == "time" and isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigurationError(
                f"time is a text or a datetime with a zone, not {spoken(value)}"
            )
        return value.isoformat()
    return value


def random_hex(count: int) -> str:
    """``count`` random bytes in hexadecimal, without a number of eight digits: that would be masked in logs.

    It ends with a letter, so that no digits that are put behind it make such a number of it.
    """
    while True:
        text = os.urandom(count).hex()
        if text[-1].isalpha() and not _EIGHT_DIGITS.search(text):
            return text


class _Ids:
    """Event ids: 64 random bits per process start, then a counter; they sort by publishing order within a process."""

    def __init__(self) -> None:
        self._renew()
        at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._prefix = random_hex(8)
        self._count = 0

    def next(self) -> str:
        self._count = count = self._count + 1
        return f"{self._prefix}-{count:x}"


new_event_id = _Ids().next
"""Make an event id. One uuid4 costs 2 µs, this a tenth of it."""

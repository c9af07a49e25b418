"""The event: what a producer publishes and what a handler receives.

Attributes have the names of CloudEvents 1.0 (``id``, ``source``, ``type``, ``time``,
``subject``, ``datacontenttype``, ``dataschema``) and of its tracing extension
(``traceparent``, ``tracestate``), as far as it has them.
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
    # Only type checkers know this default before Python 3.13: ``Event`` is ``Event[Any]``.
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
"""The names that ``meta`` reserves (wire format, version 1). All others are headers."""


class EventAttributes(TypedDict, total=False):
    """The keyword arguments that describe an event, all optional."""

    id: str
    """Event id, unique per event. The producer creates one if it is absent."""
    priority: int
    """Any integer. The event goes to the highest level that is not above it. Default 0."""
    delay: When
    """The time until the event enters its stream: seconds, a ``timedelta``, or a
    ``datetime`` with a zone. Default 0: at once."""
    dedup_id: str
    """A second event with the same value in the producer's dedup window is not stored."""
    expires: When
    """The time from publishing after which the event must not be handled: seconds, a
    ``timedelta``, or a ``datetime`` with a zone."""
    key: str
    """The subject of the event, for order and limits: CloudEvents' ``partitionkey``."""
    tenant: str
    """The tenant that the event belongs to."""
    instance: str
    """Sender, device or account of the tenant."""
    source: str
    """CloudEvents ``source``: the publishing system."""
    time: str | datetime
    """Time of the occurrence: RFC 3339, or a ``datetime`` with a zone. Default: the time
    of the entry id."""
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
    """Further attributes, with names of lower-case letters and digits (CloudEvents)."""


_META_FROM_ATTRIBUTES = META_NAMES - {"expires"}
_ALL = frozenset(EventAttributes.__annotations__)
_PLAIN = frozenset({"retry_delay", "time"})
"""Attributes whose stored form is different from the form of an argument."""
CLOUD_NAMES = frozenset(
    {
        "specversion",
        "id",
        "type",
        "data",
        "data_base64",
        "partitionkey",
        "maxretries",
        "retrydelay",
        "dataversion",
        "expirytime",
        "priority",
    }
)
"""Names that CloudEvents, or the mapping to it, uses. No header may have one of them."""
_TAKEN = META_NAMES | CLOUD_NAMES
_HEADER = re.compile(r"[a-z0-9]+")


class Event(Generic[T]):
    """An event with its body and metadata.

    To publish one, create it with
    ``Event("order.created", {"id": 1}, key="42", priority=5)``, or with the keywords
    ``type`` and ``data``. In annotations ``Event`` is ``Event[Any]``, and
    ``Event[Order]`` has its body validated. A received event has the facts of its
    delivery: ``stream``, ``group``, ``entry_id``, ``attempt`` (from 1 on) and
    ``replays``.

    Attributes:
        type: the kind of occurrence, e.g. ``order.created``.
        data: the decoded body (JSON value; ``str`` or ``bytes`` for other media types).
        raw: the body's bytes as stored; ``b""`` on an event that was not stored yet.
        id: the event id, which retries and replays keep. Empty until the event is
            published, if none was given.
        priority: the given priority; on a received event, the level that it came from.
        meta: the metadata as a plain dictionary with wire names.
        delay: for publishing: the time until the event enters its stream.
        dedup_id: for publishing; it is not stored with the event.
        expires_in: for publishing: the time until the event expires. A received event has
            ``expires``.
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
        ids = f"id={self.id or '-'} entry={self.entry_id or '-'}"
        return f"<Event {self.type} {ids} attempt={self.attempt}>"

    def __class_getitem__(cls, item: Any) -> Any:
        return super().__class_getitem__(item)  # type: ignore[misc]

    @property
    def key(self) -> str | None:
        """The subject of the event, for order and limits."""
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
        """CloudEvents ``source``: the publishing system."""
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
        """Unix time (server clock) after which the event must not be handled, or None."""
        return self.meta.get("expires")

    @property
    def headers(self) -> dict[str, Any]:
        """Every attribute in ``meta`` that the wire format does not reserve."""
        return {
            name: value for name, value in self.meta.items() if name not in META_NAMES
        }


def meta_of(attributes: EventAttributes) -> dict[str, Any]:
    """The attributes that are stored in ``meta``.

    ``expires`` is not among them, because the producer makes it absolute.

    Raises:
        ConfigurationError: an attribute is unknown or has a wrong value, or a header has
            a name that the wire format reserves or forbids.
    """
    meta: dict[str, Any] = {}
    for name, value in attributes.items():
        if name not in _ALL:
            raise ConfigurationError(
                f"an event has no attribute {name!r}; it has {', '.join(sorted(_ALL))}"
            )

        if value is None:
            continue

        if name in _PLAIN:
            value = _plain(name, value)

        check_attribute(name, value)
        if name in _META_FROM_ATTRIBUTES:
            meta[name] = value

    given = attributes.get("headers")
    headers = checked_mapping("headers", given, "headers={'trial': True}")
    for name, value in headers.items():
        _check_header(name, value)

    return meta | headers


def _check_header(name: object, value: object) -> None:
    is_name = isinstance(name, str) and _HEADER.fullmatch(name) is not None
    if not is_name or name in _TAKEN:
        raise ConfigurationError(
            f"header {name!r}: a header's name has lower-case letters and digits only "
            f"and is none of {', '.join(sorted(_TAKEN))}"
        )

    is_plain = isinstance(value, (str, int, float))
    if not is_plain or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigurationError(
            f"header {name!r}: the value is a text, finite number or boolean, "
            f"not {type(value).__name__}"
        )


def _plain(name: str, value: object) -> object:
    """An attribute in its stored form."""
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
    """``count`` random bytes in hexadecimal, which no log line masks.

    Logs mask numbers of eight digits, so that the result contains none. It ends with
    one of a to f, so that digits behind it do not form such a number.
    """
    while True:
        text = os.urandom(count).hex()
        if text[-1].isalpha() and not _EIGHT_DIGITS.search(text):
            return text


class _Ids:
    """Event ids: 64 random bits per process and a counter.

    The ids of a process sort by the order of publishing.
    """

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
"""Create an event id, in a tenth of the time of a uuid4 (2 µs)."""

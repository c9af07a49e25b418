"""Conversion between events and CloudEvents 1.0 in the JSON format.

See ``docs/wire-format.md``.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from streams.errors import EventError, MalformedEvent
from streams.events.attributes import RULES
from streams.events.codec import BYTES_TYPE, JSON_TYPE, check_id, check_meta, check_type
from streams.events.event import CLOUD_NAMES, Event

_TO_CLOUD = {
    "key": "partitionkey",
    "max_retries": "maxretries",
    "retry_delay": "retrydelay",
    "version": "dataversion",
}
_FROM_CLOUD = {cloud: ours for ours, cloud in _TO_CLOUD.items()}
_CORE = {"specversion", "id", "type", "data", "data_base64", "priority", "expirytime"}
_BAD = "bad-cloudevent"
_LAST_TIME = 253_402_300_799
"""The last second that RFC 3339 can write, in the year 9999."""


def to_cloudevent(
    event: Event[Any], default_source: str = "/streams"
) -> dict[str, Any]:
    """The event as a CloudEvents 1.0 JSON object; ``default_source`` if it has no source.

    ``expires`` becomes the extension ``expirytime`` (RFC 3339), and ``priority`` an
    integer extension. A header is left out if CloudEvents, or this mapping, uses its name
    for something else.
    """
    cloud: dict[str, Any] = {"specversion": "1.0", "id": event.id, "type": event.type}
    cloud["source"] = event.source or default_source
    for name, value in event.meta.items():
        if name == "expires":
            last = datetime.fromtimestamp(min(value, _LAST_TIME), UTC)
            cloud["expirytime"] = last.isoformat()
        elif name != "source" and name not in CLOUD_NAMES:
            cloud[_TO_CLOUD.get(name, name)] = value

    if event.priority:
        cloud["priority"] = event.priority

    if isinstance(event.data, (bytes, bytearray, memoryview)):
        cloud["data_base64"] = base64.b64encode(event.data).decode()
        cloud.setdefault("datacontenttype", BYTES_TYPE)
    else:
        cloud["data"] = event.data
        if event.meta.get("datacontenttype") is None:
            cloud["datacontenttype"] = JSON_TYPE

    return cloud


def from_cloudevent(cloud: Mapping[str, Any]) -> Event[Any]:
    """An event to publish from a CloudEvents 1.0 JSON object.

    Raises:
        MalformedEvent: ``specversion`` is not 1.0, a required attribute is missing, or an
            attribute cannot be read.
    """
    cloud = {
        name: value
        for name, value in cloud.items()
        if value is not None or name == "data"
    }

    if cloud.get("specversion") != "1.0":
        raise MalformedEvent(_BAD, "'specversion' is not \"1.0\"")

    for name in ("id", "source", "type"):
        if not isinstance(cloud.get(name), str) or not cloud[name]:
            raise MalformedEvent(_BAD, f"{name!r} is missing or not a text")

    ident = _cloud_text(cloud, "id", check_id)
    priority = cloud.get("priority", 0)
    if not RULES["priority"].fits(priority):
        raise MalformedEvent(_BAD, "'priority' is not an integer")

    kind = _cloud_text(cloud, "type", check_type)
    event: Event[Any] = Event(kind, _cloud_data(cloud), id=ident, priority=priority)

    meta = {}
    for name, value in cloud.items():
        if name not in _CORE:
            meta[_FROM_CLOUD.get(name, name)] = value

    if meta.get("datacontenttype") == JSON_TYPE and "data_base64" not in cloud:
        del meta["datacontenttype"]

    if "expirytime" in cloud:
        meta["expires"] = _cloud_time(cloud["expirytime"])

    check_meta(meta)
    event.meta = meta
    return event


def _cloud_text(
    cloud: Mapping[str, Any], name: str, check: Callable[[str], str]
) -> str:
    try:
        return check(cloud[name])
    except EventError as error:
        raise MalformedEvent(_BAD, str(error)) from None


def _cloud_data(cloud: Mapping[str, Any]) -> Any:
    if "data_base64" not in cloud:
        return cloud.get("data")
    if "data" in cloud:
        raise MalformedEvent(_BAD, "it has both 'data' and 'data_base64'")

    try:
        return base64.b64decode(cloud["data_base64"], validate=True)
    except (ValueError, TypeError):
        raise MalformedEvent(_BAD, "'data_base64' is no base64 text") from None


def _cloud_time(text: Any) -> float:
    try:
        time = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        time = None

    if time is None or time.tzinfo is None:
        raise MalformedEvent(_BAD, "'expirytime' is no RFC 3339 time with an offset")
    return time.timestamp()

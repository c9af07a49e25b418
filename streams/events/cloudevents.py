"""Between an event and a CloudEvents 1.0 object in the JSON event format (``docs/wire-format.md``)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from streams.errors import EventError, MalformedEvent
from streams.events.codec import BYTES_TYPE, JSON_TYPE, check_id, check_meta, check_type
from streams.events.event import CLOUD_NAMES, Event, EventAttributes

_TO_CLOUD = {
    "key": "partitionkey",
    "max_retries": "maxretries",
    "retry_delay": "retrydelay",
    "version": "dataversion",
}
_FROM_CLOUD = {cloud: ours for ours, cloud in _TO_CLOUD.items()}
_CORE = {"specversion", "id", "type", "data", "data_base64", "priority", "expirytime"}
_LAST_TIME = 253_402_300_799
"""The last second that RFC 3339 can write, in the year 9999."""


def to_cloudevent(
    event: Event[Any], default_source: str = "/streams"
) -> dict[str, Any]:
    """The event as a CloudEvents 1.0 JSON object (JSON event format); ``default_source`` if it has no source.

    ``expires`` becomes the extension ``expirytime`` (RFC 3339); ``priority`` an integer extension. An unknown name in
    ``meta`` that CloudEvents, or this mapping, uses for something else is left out.
    """
    cloud: dict[str, Any] = {"specversion": "1.0", "id": event.id, "type": event.type}
    cloud["source"] = event.source or default_source
    for name, value in event.meta.items():
        if name == "expires":
            cloud["expirytime"] = datetime.fromtimestamp(
                min(value, _LAST_TIME), UTC
            ).isoformat()
        elif name != "source" and name not in CLOUD_NAMES:
            cloud[_TO_CLOUD.get(name, name)] = value
    if event.priority:
        cloud["priority"] = event.priority
    content_type = event.meta.get("datacontenttype")
    if isinstance(event.data, (bytes, bytearray, memoryview)):
        cloud["data_base64"] = base64.b64encode(event.data).decode()
        cloud.setdefault("datacontenttype", BYTES_TYPE)
    else:
        cloud["data"] = event.data
        if content_type is None:
            cloud["datacontenttype"] = JSON_TYPE
    return cloud


def from_cloudevent(cloud: Mapping[str, Any]) -> Event[Any]:
    """An event to publish from a CloudEvents 1.0 JSON object.

    Raises:
        MalformedEvent: ``specversion`` is not 1.0, a required attribute is missing, or one cannot be read.
    """
    cloud = {
        name: value
        for name, value in cloud.items()
        if value is not None or name == "data"
    }
    if cloud.get("specversion") != "1.0":
        raise MalformedEvent("bad-cloudevent", "'specversion' is not \"1.0\"")
    for name in ("id", "source", "type"):
        if not isinstance(cloud.get(name), str) or not cloud[name]:
            raise MalformedEvent("bad-cloudevent", f"{name!r} is missing or not a text")
    attributes: EventAttributes = {"id": _cloud_text(cloud, "id", check_id)}
    priority = cloud.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise MalformedEvent("bad-cloudevent", "'priority' is not an integer")
    attributes["priority"] = priority
    event: Event[Any] = Event(
        _cloud_text(cloud, "type", check_type), _cloud_data(cloud), **attributes
    )
    meta = {
        _FROM_CLOUD.get(name, name): value
        for name, value in cloud.items()
        if name not in _CORE
    }
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
        raise MalformedEvent("bad-cloudevent", str(error)) from None


def _cloud_data(cloud: Mapping[str, Any]) -> Any:
    if "data_base64" not in cloud:
        return cloud.get("data")
    if "data" in cloud:
        raise MalformedEvent("bad-cloudevent", "it has both 'data' and 'data_base64'")
    try:
        return base64.b64decode(cloud["data_base64"], validate=True)
    except (ValueError, TypeError):
        raise MalformedEvent(
            "bad-cloudevent", "'data_base64' is no base64 text"
        ) from None


def _cloud_time(text: Any) -> float:
    try:
        time = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        time = None
    if time is None or time.tzinfo is None:
        raise MalformedEvent(
            "bad-cloudevent", "'expirytime' is no RFC 3339 time with an offset"
        )
    return time.timestamp()

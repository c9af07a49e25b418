"""Between an event and the fields of a stream entry: wire format, version 1 (``docs/wire-format.md``)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from streams.errors import EventError, EventTooLarge, MalformedEvent
from streams.event import META_NAMES, Event, EventAttributes

MAX_EVENT_BYTES = 1024 * 1024
MAX_NESTING = 64
JSON_TYPE = "application/json"
BYTES_TYPE = "application/octet-stream"

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[{\]}]")
_STRUCTURED = re.compile(r"(?:application|text)/(?:[\w.+-]+\+)?json(?:\s*;.*)?", re.IGNORECASE)
_TEXTS = ("source", "time", "subject", "key", "tenant", "instance", "datacontenttype", "dataschema",
          "traceparent", "tracestate", "version")  # fmt: skip


def is_json(content_type: str | None) -> bool:
    """Whether a body of this media type is JSON; an absent type is."""
    return content_type is None or content_type == JSON_TYPE or _STRUCTURED.fullmatch(content_type) is not None


def encode_body(data: Any, limit: int = MAX_EVENT_BYTES) -> bytes:
    """The body's bytes. ``bytes`` pass as they are, everything else becomes JSON.

    Raises:
        EventError: ``data`` is not JSON serialisable (the message has type names only, never values).
        EventTooLarge: the result is over ``limit`` bytes.

    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        body = bytes(data)
    else:
        try:
            body = orjson.dumps(data)
        except TypeError as error:
            raise EventError(f"the body cannot be written as JSON: {error}") from None
    if len(body) > limit:
        raise EventTooLarge(len(body), limit)
    return body


def encode_meta(meta: Mapping[str, Any]) -> bytes:
    """The ``meta`` field.

    Raises:
        MalformedEvent: an attribute has a value that the wire format forbids.

    """
    _check_meta(meta)
    try:
        return orjson.dumps(meta)
    except TypeError as error:
        raise EventError(f"the metadata cannot be written as JSON: {error}") from None


def check_type(name: str) -> str:
    """Return an event type if it is allowed: 1 to 200 printable characters.

    Raises:
        EventError: it is not.

    """
    if not isinstance(name, str) or not name or len(name) > 200 or not name.isprintable():
        raise EventError("an event's type is a text of 1 to 200 printable characters, e.g. order.created")
    return name


def decode(fields: Sequence[bytes], max_bytes: int = MAX_EVENT_BYTES, max_nesting: int = MAX_NESTING) -> Event[Any]:
    """The event in the fields (name, value, name, value …) of a stream entry.

    ``group`` of the result is the one group that a replay is meant for, else ''.

    Raises:
        MalformedEvent: a required field is missing, or a field cannot be read.
        EventTooLarge: the body is over ``max_bytes``; nothing of it was parsed.

    """
    event: Event[Any] = Event.__new__(Event)
    if len(fields) == 6 and fields[0] == b"type" and fields[2] == b"id" and fields[4] == b"data":
        named: Mapping[bytes, bytes] | None = None
        kind, event_id, body, meta = fields[1], fields[3], fields[5], None
    else:
        named = dict(zip(fields[::2], fields[1::2], strict=False))
        kind, event_id, body, meta = (
            named.get(b"type"),
            named.get(b"id", b""),
            named.get(b"data"),
            named.get(b"meta"),
        )
    if not kind:
        raise MalformedEvent("no-type", "the entry has no field 'type'")
    if body is None:
        raise MalformedEvent("no-data", "the entry has no field 'data'")
    if len(body) > max_bytes:
        raise EventTooLarge(len(body), max_bytes)
    try:
        event.type = kind.decode()
        event.id = event_id.decode()
    except UnicodeDecodeError:
        raise MalformedEvent("bad-text", "'type' or 'id' is not UTF-8") from None
    event.meta = _decode_meta(meta, max_bytes) if meta else Event._EMPTY  # noqa: SLF001 - one shared empty dictionary
    event.raw = body
    event.data = _decode_body(body, event.meta.get("datacontenttype"), max_nesting)
    event.replays = _count(named.get(b"replays")) if named is not None else 0
    event.group = named.get(b"group", b"").decode("utf-8", "replace") if named is not None else ""
    event.delay = 0.0
    event.dedup_id = None
    event.expires_in = None
    return event


def _count(text: bytes | None) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) < 10 else 0


def _decode_body(body: bytes, content_type: str | None, max_nesting: int) -> Any:
    if not is_json(content_type):
        if content_type is not None and content_type.startswith("text/"):
            try:
                return body.decode()
            except UnicodeDecodeError:
                raise MalformedEvent("bad-text", "the body is not UTF-8 text") from None
        return body
    return parse_json(body, max_nesting, "data")


def parse_json(text: bytes, max_nesting: int, what: str) -> Any:
    """Parse JSON after checking its nesting.

    Raises:
        MalformedEvent: it is no JSON, or nested deeper than ``max_nesting``.

    """
    if text.count(b"[") + text.count(b"{") > max_nesting and _depth(text) > max_nesting:
        raise MalformedEvent("too-deep", f"{what!r} is nested deeper than {max_nesting} levels")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # The parser's own text may quote the body: say where, not what.
        raise MalformedEvent("bad-json", f"{what!r} is no JSON (line {error.lineno}, column {error.colno})") from None


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", text)):
        if bracket.group() in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _decode_meta(text: bytes, max_bytes: int) -> dict[str, Any]:
    if len(text) > max_bytes:
        raise EventTooLarge(len(text), max_bytes)
    meta = parse_json(text, MAX_NESTING, "meta")
    if not isinstance(meta, dict):
        raise MalformedEvent("bad-meta", "'meta' is not a JSON object")
    _check_meta(meta)
    return meta


def _check_meta(meta: Mapping[str, Any]) -> None:
    for name in _TEXTS:
        if name in meta and not isinstance(meta[name], str):
            raise MalformedEvent("bad-meta", f"{name!r} is a text")
    for name in ("expires", "retry_delay"):
        value = meta.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
            raise MalformedEvent("bad-meta", f"{name!r} is a number of seconds, 0 or more")
    retries = meta.get("max_retries", 0)
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= 1_000_000:
        raise MalformedEvent("bad-meta", "'max_retries' is an integer from 0 to 1000000")


_TO_CLOUD = {
    "key": "partitionkey",
    "max_retries": "maxretries",
    "retry_delay": "retrydelay",
    "version": "dataversion",
}
_FROM_CLOUD = {cloud: ours for ours, cloud in _TO_CLOUD.items()}
_CORE = {"specversion", "id", "type", "data", "data_base64", "priority", "expirytime"}


def to_cloudevent(event: Event[Any], default_source: str = "/streams") -> dict[str, Any]:
    """The event as a CloudEvents 1.0 JSON object (JSON event format).

    ``expires`` becomes the extension ``expirytime`` (RFC 3339); ``priority`` an integer extension.
    """
    cloud: dict[str, Any] = {"specversion": "1.0", "id": event.id, "type": event.type}
    cloud["source"] = event.source or default_source
    for name, value in event.meta.items():
        if name == "expires":
            cloud["expirytime"] = datetime.fromtimestamp(value, UTC).isoformat()
        elif name != "source":
            cloud[_TO_CLOUD.get(name, name)] = value
    if event.priority:
        cloud["priority"] = event.priority
    content_type = event.meta.get("datacontenttype")
    if isinstance(event.data, (bytes, bytearray)):
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
        MalformedEvent: ``specversion`` is not 1.0, or a required attribute is missing.

    """
    if cloud.get("specversion") != "1.0":
        raise MalformedEvent("bad-cloudevent", "'specversion' is not \"1.0\"")
    for name in ("id", "source", "type"):
        if not isinstance(cloud.get(name), str) or not cloud[name]:
            raise MalformedEvent("bad-cloudevent", f"{name!r} is missing or not a text")
    if "data_base64" in cloud:
        data: Any = base64.b64decode(cloud["data_base64"], validate=True)
    else:
        data = cloud.get("data")
    attributes: EventAttributes = {"id": cloud["id"]}
    if isinstance(cloud.get("priority"), int):
        attributes["priority"] = cloud["priority"]
    event: Event[Any] = Event(check_type(cloud["type"]), data, **attributes)
    meta = {_FROM_CLOUD.get(name, name): value for name, value in cloud.items() if name not in _CORE}
    if meta.get("datacontenttype") == JSON_TYPE:
        del meta["datacontenttype"]
    if "expirytime" in cloud:
        meta["expires"] = datetime.fromisoformat(cloud["expirytime"]).timestamp()
    _check_meta(meta)
    event.meta = meta
    return event


__all__ = ["META_NAMES", "check_type", "decode", "encode_body", "encode_meta", "from_cloudevent", "is_json",
           "parse_json", "to_cloudevent"]  # fmt: skip

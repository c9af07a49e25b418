"""Between an event and the fields of a stream entry: wire format, version 1 (``docs/wire-format.md``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from streams.errors import EventError, EventTooLarge, MalformedEvent, StreamsError
from streams.events.attributes import RULES, sentence
from streams.events.event import Event
from streams.events.jsonable import not_finite, plain

MAX_EVENT_BYTES = 1024 * 1024
MAX_NESTING = 64
JSON_TYPE = "application/json"
BYTES_TYPE = "application/octet-stream"

_dumps = partial(orjson.dumps, default=plain)

# Possessive, and a string that is never closed ends with the text: both keep the time linear in the size.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb"[\[{\]}]")
_STRUCTURED = re.compile(
    r"(?:application|text)/(?:[\w.+-]+\+)?json(?:\s*;.*)?", re.IGNORECASE
)
_TEXTS = (
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
    "version",
)


def is_json(content_type: str | None) -> bool:
    """Whether a body of this media type is JSON; an absent type is."""
    return (
        content_type is None
        or content_type == JSON_TYPE
        or _STRUCTURED.fullmatch(content_type) is not None
    )


def encode_body(
    data: Any, limit: int = MAX_EVENT_BYTES, content_type: str | None = None
) -> bytes:
    """The body's bytes. ``bytes`` pass as they are, text of a media type that is not JSON as UTF-8, all else as JSON.

    Raises:
        EventError: ``data`` is not JSON serialisable (the message has type names only, never values).
        MalformedEvent: it is nested so deep that no consumer would take it.
        EventTooLarge: the result is over ``limit`` bytes.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        body = bytes(data)
    elif isinstance(content_type, str) and not is_json(content_type):
        body = _encode_text(data, content_type)
    else:
        body = encode_json(data)
    if len(body) > limit:
        raise EventTooLarge(len(body), limit)
    return body


def _encode_text(data: Any, content_type: str) -> bytes:
    if not isinstance(data, str):
        raise EventError(
            f"a body of type {content_type} is text or bytes, not {type(data).__name__}"
        )
    try:
        return data.encode()
    except UnicodeEncodeError:
        raise EventError(
            "the body cannot be written as UTF-8: it holds half a surrogate pair"
        ) from None


def encode_json(data: Any) -> bytes:
    """The body's bytes where they are JSON; of any length.

    Raises:
        EventError: ``data`` is not JSON serialisable.
        MalformedEvent: it is nested so deep that no consumer would take it.
    """
    try:
        body: bytes = _dumps(data)
    except TypeError as error:
        cause = error.__cause__
        raise EventError(
            f"the body cannot be written as JSON: {error if cause is None else cause}"
        ) from None
    _check_body(body, data)
    return body


def encode_all(items: Sequence[Any]) -> list[bytes]:
    """As ``encode_json`` for each of them; faster where none has an object, a list or a null inside.

    Raises:
        EventError: as ``encode_json``, for the first that it refuses.
    """
    try:
        bodies = list(map(_dumps, items))
    except TypeError:
        # One of them raises, and says why.
        return [encode_json(item) for item in items]
    together = b"".join(bodies)
    if (
        together.find(b"null") >= 0
        or together.find(b"[") >= 0
        or together.find(b":{") >= 0
    ):
        for body, item in zip(bodies, items, strict=True):
            _check_body(body, item)
    return bodies


def _check_body(body: bytes, data: Any) -> None:
    if body.find(b"null") >= 0 and not_finite(data):
        raise EventError(
            "the body cannot be written as JSON: it holds a number that is NaN or infinite"
        )
    _check_depth(body, MAX_NESTING, "data")


def encode_meta(meta: Mapping[str, Any]) -> bytes:
    """The ``meta`` field.

    Raises:
        MalformedEvent: an attribute has a value that the wire format forbids.
    """
    check_meta(meta)
    try:
        return orjson.dumps(meta)
    except TypeError as error:
        raise EventError(f"the metadata cannot be written as JSON: {error}") from None


def check_type(name: str) -> str:
    """Return an event type if it is allowed: 1 to 200 printable characters.

    Raises:
        EventError: it is not.
    """
    if not RULES["type"].fits(name):
        raise EventError(sentence("type"))
    return name


def check_id(ident: str, what: str = "id") -> str:
    """Return an event id or dedup id if it is allowed: 1 to 500 printable characters.

    Raises:
        EventError: it is not.
    """
    if not RULES["id"].fits(ident):
        raise EventError(f"{what} is {RULES['id'].words}")
    return ident


def decode(
    fields: Sequence[bytes],
    max_bytes: int = MAX_EVENT_BYTES,
    max_nesting: int = MAX_NESTING,
) -> Event[Any]:
    """The event in the fields (name, value, name, value …) of a stream entry.

    ``group`` of the result is the one group that a replay is meant for, else ''.

    Raises:
        MalformedEvent: a required field is missing, or a field cannot be read.
        EventTooLarge: the body is over ``max_bytes``; nothing of it was parsed.
    """
    event: Event[Any] = Event.__new__(Event)
    kind: bytes | None
    event_id: bytes
    body: bytes | None
    meta: bytes | None
    if (
        len(fields) == 6
        and fields[0] == b"type"
        and fields[2] == b"id"
        and fields[4] == b"data"
    ):
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
    event.meta = _decode_meta(meta, max_bytes) if meta else {}
    event.raw = body
    event.data = _decode_body(body, event.meta.get("datacontenttype"), max_nesting)
    event.replays = _count(named.get(b"replays")) if named is not None else 0
    event.group = (
        named.get(b"group", b"").decode("utf-8", "replace") if named is not None else ""
    )
    event.delay = 0.0
    event.dedup_id = None
    event.expires_in = None
    event.priority = 0
    event.stream = event.entry_id = ""
    event.attempt = 0
    return event


def read_meta(
    fields: Sequence[bytes], max_bytes: int = MAX_EVENT_BYTES
) -> dict[str, Any]:
    """The metadata in the fields of a stream entry, whatever its body is; empty if there are none to read."""
    try:
        meta = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"meta")
        return _decode_meta(meta, max_bytes) if meta else {}
    except StreamsError:
        return {}


def _count(text: bytes | None) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) < 10 else 0


def _decode_body(body: bytes, content_type: str | None, max_nesting: int) -> Any:
    if not is_json(content_type):
        if content_type is not None and content_type.lower().startswith("text/"):
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
    _check_depth(text, max_nesting, what)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # The parser's own text may quote the body: say where, not what.
        raise MalformedEvent(
            "bad-json",
            f"{what!r} is no JSON (line {error.lineno}, column {error.colno})",
        ) from None


def _check_depth(text: bytes, most: int, what: str) -> None:
    if most and text.rfind(b"{") <= 0 and 91 not in text:
        # One object without another in it, or no object: most bodies, told faster than by counting.
        return
    if text.count(b"[") + text.count(b"{") > most and _depth(text) > most:
        raise MalformedEvent(
            "too-deep", f"{what!r} is nested deeper than {most} levels"
        )


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
    check_meta(meta)
    return meta


def check_meta(meta: Mapping[str, Any]) -> None:
    """Look at the attributes that have a meaning.

    Raises:
        MalformedEvent: one has a value that the wire format forbids.
    """
    for name in _TEXTS:
        if name in meta and not isinstance(meta[name], str):
            raise MalformedEvent("bad-meta", f"{name!r} is a text")
    for name in ("expires", "retry_delay"):
        value = meta.get(name, 0)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 <= value < 1e12
        ):
            raise MalformedEvent(
                "bad-meta", f"{name!r} is a number of seconds, 0 or more"
            )
    retries = meta.get("max_retries", 0)
    if (
        isinstance(retries, bool)
        or not isinstance(retries, int)
        or not 0 <= retries <= 1_000_000
    ):
        raise MalformedEvent(
            "bad-meta", "'max_retries' is an integer from 0 to 1000000"
        )

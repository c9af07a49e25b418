"""Conversion between events and the fields of stream entries: wire format, version 1.

See ``docs/wire-format.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from streams.common.arguments import is_integer, is_number
from streams.errors import EventError, EventTooLarge, MalformedEvent, StreamsError
from streams.events.attributes import MOST_RETRIES, RULES, sentence
from streams.events.event import Event
from streams.events.jsonable import not_finite, plain

MAX_EVENT_BYTES = 1024 * 1024
MAX_NESTING = 64
JSON_TYPE = "application/json"
BYTES_TYPE = "application/octet-stream"

_BAD_META = "bad-meta"

_dumps = partial(orjson.dumps, default=plain)

# Possessive quantifiers and the end of text as a closing quote keep the time linear.
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
    """Whether a body of this media type is JSON. It is for an absent type."""
    if content_type is None or content_type == JSON_TYPE:
        return True
    return _STRUCTURED.fullmatch(content_type) is not None


def encode_body(
    data: Any, limit: int = MAX_EVENT_BYTES, content_type: str | None = None
) -> bytes:
    """The bytes of a body.

    ``bytes`` stay as they are. Text is encoded as UTF-8 if its media type is not JSON.
    Everything else is encoded as JSON.

    Raises:
        EventError: ``data`` is not JSON serialisable (the message has type names only,
            never values).
        MalformedEvent: ``data`` is nested deeper than consumers accept.
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
    """The bytes of a JSON body, of any length.

    Raises:
        EventError: ``data`` is not JSON serialisable.
        MalformedEvent: ``data`` is nested deeper than consumers accept.
    """
    try:
        body: bytes = _dumps(data)
    except TypeError as error:
        cause = error.__cause__ or error
        raise EventError(f"the body cannot be written as JSON: {cause}") from None

    _check_body(body, data)
    return body


def encode_all(items: Sequence[Any]) -> list[bytes]:
    """Encode each item with ``encode_json``; faster for flat items without a null.

    Raises:
        EventError: see ``encode_json``; for the first item that it refuses.
    """
    try:
        bodies = list(map(_dumps, items))
    except TypeError:
        # This raises for the first bad item, with its reason.
        return [encode_json(item) for item in items]

    together = b"".join(bodies)
    # ``find`` is faster than ``in``, which first tries the text as a number.
    if max(map(together.find, (b"null", b"[", b":{"))) >= 0:
        for body, item in zip(bodies, items, strict=True):
            _check_body(body, item)

    return bodies


def _check_body(body: bytes, data: Any) -> None:
    if body.find(b"null") >= 0 and not_finite(data):
        raise EventError(
            "the body cannot be written as JSON: "
            "it holds a number that is NaN or infinite"
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

    ``group`` of the result is the target group of a replay, else ''.

    Raises:
        MalformedEvent: a required field is missing, or a field cannot be read.
        EventTooLarge: the body is over ``max_bytes``; it was not parsed.
    """
    event: Event[Any] = Event.__new__(Event)
    kind: bytes | None
    body: bytes | None
    meta: bytes | None
    # Most entries have these fields only. Without a dictionary they take half the time.
    if (
        len(fields) == 6
        and fields[0] == b"type"
        and fields[2] == b"id"
        and fields[4] == b"data"
    ):
        kind, event_id, body, meta = fields[1], fields[3], fields[5], None
        event.replays = 0
        event.group = ""
    else:
        named = dict(zip(fields[::2], fields[1::2], strict=False))
        kind = named.get(b"type")
        event_id = named.get(b"id", b"")
        body = named.get(b"data")
        meta = named.get(b"meta")
        event.replays = _count(named.get(b"replays"))
        event.group = named.get(b"group", b"").decode("utf-8", "replace")

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
    """The metadata in the fields of a stream entry; empty if they cannot be read."""
    try:
        meta = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"meta")
        return _decode_meta(meta, max_bytes) if meta else {}
    except StreamsError:
        return {}


def _count(text: bytes | None) -> int:
    if text is None or not text.isdigit() or len(text) >= 10:
        return 0
    return int(text)


def _decode_body(body: bytes, content_type: str | None, max_nesting: int) -> Any:
    if content_type is None or is_json(content_type):
        return parse_json(body, max_nesting, "data")
    if not content_type.lower().startswith("text/"):
        return body

    try:
        return body.decode()
    except UnicodeDecodeError:
        raise MalformedEvent("bad-text", "the body is not UTF-8 text") from None


def parse_json(text: bytes, max_nesting: int, what: str) -> Any:
    """Parse JSON after checking its nesting.

    Raises:
        MalformedEvent: the text is not JSON, or nested deeper than ``max_nesting``.
    """
    _check_depth(text, max_nesting, what)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # The parser's message may quote the body, so that only the place is kept.
        place = f"line {error.lineno}, column {error.colno}"
        raise MalformedEvent("bad-json", f"{what!r} is no JSON ({place})") from None


def _check_depth(text: bytes, most: int, what: str) -> None:
    if most and text.rfind(b"{") <= 0 and 91 not in text:
        # A flat body, which most bodies are, needs no counting.
        return

    if text.count(b"[") + text.count(b"{") > most and _depth(text) > most:
        said = f"{what!r} is nested deeper than {most} levels"
        raise MalformedEvent("too-deep", said)


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
        raise MalformedEvent(_BAD_META, "'meta' is not a JSON object")

    check_meta(meta)
    return meta


def check_meta(meta: Mapping[str, Any]) -> None:
    """Check the attributes that the wire format defines.

    Raises:
        MalformedEvent: an attribute has a value that the wire format forbids.
    """
    for name in _TEXTS:
        if name in meta and not isinstance(meta[name], str):
            raise MalformedEvent(_BAD_META, f"{name!r} is a text")

    for name in ("expires", "retry_delay"):
        value = meta.get(name, 0)
        if not is_number(value, 0, 1e12) or value == 1e12:
            said = f"{name!r} is a number of seconds, 0 or more"
            raise MalformedEvent(_BAD_META, said)

    if not is_integer(meta.get("max_retries", 0), 0, MOST_RETRIES):
        said = f"'max_retries' is an integer from 0 to {MOST_RETRIES}"
        raise MalformedEvent(_BAD_META, said)

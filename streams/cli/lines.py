"""JSON lines to events: each becomes an event, or is refused without being quoted."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, cast

from streams.errors import EventTooLarge, MalformedEvent, StreamsError
from streams.events.attributes import RULES, check_attribute, sentence
from streams.events.cloudevents import from_cloudevent
from streams.events.codec import (
    MAX_NESTING,
    check_type,
    encode_body,
    encode_meta,
    parse_json,
)
from streams.events.event import Event, EventAttributes
from streams.settings import Settings

_CHUNK = 256 * 1024
_ENVELOPE = 64 * 1024
"""Bytes that a line may have beside its body."""


class LineRefused(Exception):  # noqa: N818 - an outcome, not a fault of the program
    """A line that is no event. ``reason`` is a stable word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Line(NamedTuple):
    """A line of input; ``text`` is None if it is longer than the limit."""

    number: int
    text: bytes | None


def read_lines(source: BinaryIO, limit: int) -> Iterator[list[Line]]:
    """The lines of a stream of bytes, as many at once as are there; empty ones are left out.

    Lines that arrive slowly are given out as they arrive. Memory is bounded by ``limit`` bytes
    per line.
    """
    read: Callable[[int], bytes] = getattr(source, "read1", source.read)
    rest, count, overlong = b"", 0, False
    while chunk := read(_CHUNK):
        found: list[Line] = []
        *whole, rest = (rest + chunk).split(b"\n")
        for text in whole:
            count += 1
            if overlong or len(text) > limit:
                found.append(Line(count, None))
            elif text.strip():
                found.append(Line(count, text))
            overlong = False

        if len(rest) > limit:
            rest, overlong = b"", True

        if found:
            yield found

    if overlong or rest.strip():
        yield [Line(count + 1, None if overlong else rest)]


def line_limit(settings: Settings) -> int:
    """The longest line that can hold an event: escapes may need six bytes for one."""
    return settings.max_event_bytes * 6 + _ENVELOPE


@dataclass(frozen=True)
class Parser:
    """Makes events of lines.

    Attributes:
        type: of lines that do not name one; with it, a line without ``type`` and
            ``data`` is a body as a whole.
        shared: attributes of every event whose line does not give its own.
        settings: limits and levels.
    """

    type: str | None = None
    shared: EventAttributes = field(default_factory=lambda: EventAttributes())
    settings: Settings = field(default_factory=Settings)

    def parse(self, text: bytes | None) -> Event[Any]:
        """The event of a line.

        Raises:
            LineRefused: there is none.
        """
        try:
            if text is None:
                raise LineRefused(
                    "too-large",
                    f"the line is longer than {line_limit(self.settings)} bytes",
                )

            return self.checked(self._event(_json(text)))
        except EventTooLarge as error:
            raise LineRefused("too-large", str(error)) from None
        except MalformedEvent as error:
            raise LineRefused(error.reason, error.detail) from None
        except StreamsError as error:
            raise LineRefused("bad-attribute", str(error)) from None

    def checked(self, event: Event[Any]) -> Event[Any]:
        """The event, if only the server can refuse it.

        A batch of such events fails as a whole or not at all.

        Raises:
            StreamsError: the event breaks a limit or the wire format.
        """
        limit = self.settings.max_event_bytes
        encode_body(event.data, limit)
        check_type(event.type)
        # As a moment it is the producer's.
        for name in event.meta.keys() & RULES.keys() - {"expires"}:
            check_attribute(name, event.meta[name])

        if event.meta and len(encode_meta(event.meta)) > limit:
            raise LineRefused("too-large", f"the attributes are over {limit} bytes")

        self.settings.levels.level_for(event.priority)
        return event

    def _event(self, value: Any) -> Event[Any]:
        if isinstance(value, dict) and "specversion" in value:
            return self._from_cloud(value)

        enveloped = isinstance(value, dict) and ("type" in value or "data" in value)
        if self.type is not None and not enveloped:
            return Event(self.type, value, **self.shared)

        if not isinstance(value, dict):
            raise LineRefused(
                "not-an-object",
                "a line is a JSON object with type and data (or give --type)",
            )

        kind = value.get("type", self.type)
        if not isinstance(kind, str) or not kind:
            raise LineRefused(
                "no-type", "'type' is missing or not a text (or give --type)"
            )

        if "data" not in value:
            raise LineRefused("no-data", "'data' is missing")

        own = {
            name: given for name, given in value.items() if name not in ("type", "data")
        }
        check_attributes(own)
        return Event(
            kind, value["data"], **cast(EventAttributes, {**self.shared, **own})
        )

    def _from_cloud(self, value: Mapping[str, Any]) -> Event[Any]:
        try:
            event = from_cloudevent(value)
        except StreamsError:
            raise
        except (ValueError, TypeError, AttributeError):
            raise LineRefused(
                "bad-cloudevent",
                "data_base64, expirytime or another attribute is malformed",
            ) from None

        if not event.priority:
            event.priority = self.shared.get("priority", 0)

        event.delay = self.shared.get("delay", 0.0)
        event.dedup_id = self.shared.get("dedup_id")
        return event


def _json(text: bytes) -> Any:
    try:
        return parse_json(text.removeprefix(b"\xef\xbb\xbf"), MAX_NESTING, "line")
    except MalformedEvent as error:
        if error.reason == "bad-json":
            raise LineRefused(
                "not-json",
                f"the line is no JSON {error.detail.rpartition(' is no JSON ')[2]}",
            ) from None
        raise


def check_attributes(given: Mapping[str, Any]) -> None:
    """Refuse a name that is no attribute, and a value of the wrong kind.

    Raises:
        LineRefused: the message names our attribute, never what the line says.
    """
    for name, value in given.items():
        if name not in EventAttributes.__annotations__:
            near = difflib.get_close_matches(name, EventAttributes.__annotations__, 1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else "put attributes of your own under 'headers'"
            )
            raise LineRefused(
                "bad-attribute",
                f"a name beside type and data is no attribute of an event: {hint}",
            )

        if name in RULES and not RULES[name].fits(value):
            raise LineRefused("bad-attribute", sentence(name))

        if name == "headers" and not isinstance(value, dict):
            raise LineRefused("bad-attribute", "headers is an object")


__all__ = [
    "Line",
    "LineRefused",
    "Parser",
    "check_attributes",
    "line_limit",
    "read_lines",
]

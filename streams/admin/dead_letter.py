"""One dead letter, and which of them are meant."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from streams.broker.admin.dead_letters import StoredLetter
from streams.common.masking import masked
from streams.errors import EventError
from streams.events.codec import decode, is_json
from streams.events.names import member
from streams.policy.retry import AttemptRecord


@dataclass(slots=True)
class DeadLetter:
    """An event that failed for good.

    Attributes:
        id: of the dead letter, which ``show``, ``replay`` and ``discard`` take.
        reason: a stable word: retries-used-up, stalled, rejected, not-retryable,
            malformed, too-large, expired, invalid, no-handler.
        died_at: Unix time, seconds.
        level, entry_id: where the event was.
        event_id, type: of the event; '' where it cannot be read.
        failures, stalls: attempts that raised, and deliveries whose consumer went
            silent.
        errors: the latest errors, oldest first; messages are masked.
        consumer: the worker that moved it here.
        replays: how often it was replayed before.
        size: bytes of the body.
        meta: metadata as published, without the body.
        fields: the stored fields, names and values as bytes.
        stream: where it is; of a stream with partitions, the partition's name.
    """

    id: str
    reason: str
    died_at: float
    level: int
    entry_id: str
    event_id: str
    type: str
    failures: int
    stalls: int
    errors: list[dict[str, Any]]
    consumer: str
    replays: int
    size: int
    meta: dict[str, Any]
    fields: list[tuple[bytes, bytes]] = field(repr=False)
    stream: str = ""

    @property
    def attempts(self) -> int:
        """Attempts that were started."""
        return self.failures + self.stalls

    @property
    def last_error(self) -> str:
        """The latest error in one line."""
        if not self.errors:
            return ""

        error = self.errors[-1]

        return f"{error.get('type', '')}: {error.get('message', '')}".rstrip(": ")

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON."""
        return is_json(self.meta.get("datacontenttype"))

    def as_dict(self, *, body: bool = False) -> dict[str, Any]:
        """As plain JSON types; the stored fields, and with them the body, only with ``body``.

        Bytes that are no UTF-8 become ``{"base64": ...}``.
        """
        plain = asdict(self)
        stored = plain.pop("fields")
        if body:
            plain["fields"] = [[_text(name), _text(value)] for name, value in stored]

        return plain


REASONS = (
    "retries-used-up",
    "stalled",
    "rejected",
    "not-retryable",
    "malformed",
    "too-large",
    "expired",
    "invalid",
    "no-handler",
)
"""Why dead letters died; a retry policy of an application may have words of its own besides."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant. An attribute that is not given does not narrow.

    Attributes:
        type, reason, event_id, tenant: equal.
        error: part of the latest error's class or message, case ignored.
        text: part of what is shown of the dead letter, case ignored: event id, type,
            errors with their tracebacks, metadata with long numbers masked. Not of the
            body.
        level: the level.
        since, until: Unix seconds; when the dead letter came.
    """

    type: str | None = None
    reason: str | None = None
    error: str | None = None
    event_id: str | None = None
    tenant: str | None = None
    level: int | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    def in_words(self) -> str:
        """The filter in one line: ``all``, or the facts of a dead letter; times in UTC."""
        given = {
            name: value for name, value in asdict(self).items() if value is not None
        }
        for name in ("since", "until"):
            if name in given:
                given[name] = _moment(given[name])

        return ", ".join(f"{name} {value}" for name, value in given.items()) or "all"

    def takes(self, letter: DeadLetter) -> bool:
        """Whether the dead letter is meant."""
        return (
            (self.type is None or letter.type == self.type)
            and (self.reason is None or letter.reason == self.reason)
            and (self.error is None or self.error.lower() in letter.last_error.lower())
            and (self.event_id is None or letter.event_id == self.event_id)
            and (self.tenant is None or letter.meta.get("tenant") == self.tenant)
            and (self.level is None or letter.level == self.level)
            and (self.since is None or letter.died_at >= self.since)
            and (self.until is None or letter.died_at <= self.until)
            and (self.text is None or self.text.lower() in _shown(letter))
        )


def _moment(at: float) -> str:
    try:
        # Not ISO 8601: its digits would be masked like those of a phone number.
        return format_datetime(datetime.fromtimestamp(at, UTC), usegmt=True)
    except (ValueError, OverflowError, OSError):
        return str(at)


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def letter_of(stored: StoredLetter, stream: str = "") -> DeadLetter:
    """Read what is stored, on which stream."""
    record = AttemptRecord.from_json(stored.record)
    fields = list(zip(stored.fields[::2], stored.fields[1::2], strict=False))
    named = dict(fields)
    meta: dict[str, Any] = {}
    with contextlib.suppress(EventError):
        # Only the metadata is wanted: a body that cannot be read is often why the dead
        # letter is here.
        own = named.get(b"meta", b"")
        meta = dict(decode([b"type", b"x", b"data", b"0", b"meta", own]).meta)

    replays = named.get(b"replays", b"0")

    return DeadLetter(
        id=stored.letter_id,
        reason=stored.reason,
        died_at=stored.at,
        level=stored.level,
        entry_id=stored.entry_id,
        event_id=named.get(b"id", b"").decode(errors="replace")
        or member(stored.level, stored.entry_id),
        type=named.get(b"type", b"").decode(errors="replace"),
        failures=record.failures,
        stalls=record.stalls,
        errors=record.errors,
        consumer=stored.consumer,
        replays=int(replays) if replays.isdigit() and len(replays) < 10 else 0,
        size=len(named.get(b"data", b"")),
        meta=meta,
        fields=fields,
        stream=stream,
    )


def _shown(letter: DeadLetter) -> str:
    """The parts of a dead letter that every viewer is shown, in lower case."""
    parts = [letter.type, *map(str, letter.meta.values())]
    parts += [str(value) for error in letter.errors for value in error.values()]

    return (letter.event_id + "\n" + masked("\n".join(parts))).lower()

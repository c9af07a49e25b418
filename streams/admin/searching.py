"""Looking for events by key, tenant, instance, subject or source, at a bounded cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.admin.operating import Operating
from streams.admin.status import EntryState
from streams.broker.admin.listing import Listing
from streams.broker.server.shards import Away, away_index, each
from streams.errors import (
    BrokerUnavailable,
    ConfigurationError,
    EventError,
    InvalidName,
    NotFound,
    StreamsError,
)
from streams.events.codec import decode
from streams.events.names import checked_name

LOOKED_AT = 500
"""Entries of each level, and dead letters of each group, that are looked at: the newest."""
_DEPTH = 2000
_STREAMS = 20
_MOST = 50
_ATTRIBUTES = ("key", "tenant", "instance", "subject", "source")


@dataclass(slots=True)
class Match:
    """An event that carries what was looked for.

    Attributes:
        stream, group: where; ``group`` is '' for a stored event, whichever groups still
            need it.
        place: ``level|entry id``, ``level|event id`` of a scheduled event, or the id of
            the dead letter.
        event_id, type: of the event.
        by: the attribute that is equal.
    """

    stream: str
    group: str
    place: str
    event_id: str
    type: str
    by: str


@dataclass(slots=True)
class SearchResult:
    """Outcome of a search.

    Attributes:
        states: where the event of that id stands.
        matches: events that carry the text, the newest first, at most 50 per stream.
        left_out: streams that were not looked at; name one of them to look there.
        away: shards of a cluster that could not be asked.
    """

    states: list[EntryState] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    away: list[Away] = field(default_factory=list)


class Search:
    """Searches streams.

    Args:
        pipeline: open while it is used.
    """

    def __init__(self, pipeline: Operating) -> None:
        self._pipeline = pipeline

    async def search(self, text: str, stream: str = "") -> SearchResult:
        """Events with this id, entry id, key, tenant, instance, subject or source.

        They are looked for on one stream, or on the first 20.

        Per stream 2 commands, and at most 4 per level and group, more than
        ``Status.find`` needs for 2,000 entries.

        Raises:
            ConfigurationError: the text is empty.
        """
        if not text:
            raise ConfigurationError(
                "find what? Give an id, a key, a tenant, an instance, a subject or a "
                "source"
            )

        found = SearchResult()

        try:
            wanted = await self._wanted(stream)
        except BrokerUnavailable as error:
            found.away.append(away_index(error))
            return found

        found.left_out = wanted[_STREAMS:]
        parts, found.away = await each(
            self._pipeline.broker,
            wanted[:_STREAMS],
            lambda name: self._search(name, text),
        )

        for states, matches in parts:
            found.states += states
            found.matches += matches

        return found

    async def _wanted(self, stream: str) -> list[str]:
        status = self._pipeline.status()
        if not stream:
            return list(await status.streams())
        if not _is_name(stream) or not await status.levels(stream):
            return []

        return list(await status.streams_of(stream))

    async def _search(
        self, stream: str, text: str
    ) -> tuple[list[EntryState], list[Match]]:
        try:
            states = await self._pipeline.status().find(
                stream, text, depth=_DEPTH, partition=0
            )
        except (NotFound, EventError, ConfigurationError):
            states = []  # It cannot be an id there.

        known = {state.event_id for state in states}
        matches = [
            match
            for match in await self._carried(stream, text)
            if match.event_id not in known
        ]

        return [state for state in states if state.state != "done"], matches

    async def _carried(self, stream: str, text: str) -> list[Match]:
        row = await self._pipeline.status().stream(stream, partition=0)
        levels = await self._pipeline.status().levels(stream)
        listing = Listing(self._pipeline.broker, self._pipeline.broker.keys(stream))
        found: list[Match] = []
        pages = [await listing.scheduled(0, LOOKED_AT)]
        pages += [await listing.newest(level, LOOKED_AT) for level in levels]

        for page in pages:
            for listed in page:
                try:
                    event = decode(listed.fields)
                except StreamsError:
                    continue

                if by := _carries(event.id, event.meta, text):
                    place = f"{listed.level}|{listed.place}"
                    name = event.id or place
                    found.append(Match(stream, "", place, name, event.type, by))

        for group in filter(None, (row.group for row in row.groups)):
            dead = self._pipeline.dead_letters(stream, group, partition=0)
            async for letter in dead.latest(LOOKED_AT):
                if by := _carries(letter.event_id, letter.meta, text):
                    name = letter.event_id
                    found.append(Match(stream, group, letter.id, name, letter.type, by))

        return found[:_MOST]


def _is_name(text: str) -> bool:
    try:
        return bool(checked_name(text, "stream"))
    except InvalidName:
        return False


def _carries(event_id: str | None, meta: Mapping[str, Any], text: str) -> str:
    if event_id == text:
        return "id"

    return next((name for name in _ATTRIBUTES if meta.get(name) == text), "")

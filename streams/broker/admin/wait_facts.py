"""Facts about an entry that waits, as records with named fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from streams.broker.admin.inspect import FoundEntry
from streams.broker.admin.pauses import StoredPause
from streams.broker.admin.workers import WorkerFacts
from streams.broker.server.stored import pairs

MOST_COUNTED = 1000
"""Entries ahead of one that are counted, at most."""


@dataclass(frozen=True, slots=True)
class LevelFacts:
    """One level for one group.

    Attributes:
        last_read: the last entry id that the group was given.
        unread: entries not read yet; None where the server cannot tell.
        lined_up: entries that were read and wait for their key.
    """

    last_read: str
    unread: int | None
    lined_up: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """The state of one group, which all of its entries share.

    Attributes:
        stream, group: names.
        now: the server's Unix time.
        pauses: all of the stream.
        workers: of the group.
        levels: those that the group has.
        order_by, fair_by: the attributes by which it lines events up; () for none.
        orders: the attributes by which events may be queued: the declared ones, and
            those of before a deploy.
        ranked: the levels that ranks in such rows stand for.
        limits: names of its limits.
        queues: ``name=key`` to the concurrency, of queues for a slot; 200 of them at most.
        swept_at: Unix time (s) of the last sweep of a reclaimer; 0.0 if there was none for
            about a minute.
    """

    stream: str
    group: str
    now: float
    pauses: Sequence[StoredPause]
    workers: Sequence[WorkerFacts]
    levels: Mapping[int, LevelFacts]
    order_by: tuple[str, ...]
    fair_by: tuple[str, ...]
    limits: tuple[str, ...]
    queues: Mapping[str, int]
    orders: tuple[tuple[str, ...], ...] = ()
    ranked: tuple[str, ...] = ()
    swept_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Holder:
    """One entry that has a slot.

    Attributes:
        entry: ``level|entry id``.
        since: Unix time (s) from which on it has the slot.
        worker: that the entry is pending with; '' for none.
        silent: seconds since that worker was heard of.
    """

    entry: str
    since: float
    worker: str
    silent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The queue for a slot that an entry stands in.

    Attributes:
        name: ``name=key`` of the limit.
        rank: how many entries are before it.
        concurrency: how many slots there are.
        taken: how many of them are taken.
        holders: the entries that have slots, the longest first; 10 at most.
        joined: Unix time (s) at which the entry joined the queue.
    """

    name: str
    rank: int
    concurrency: int
    taken: int
    holders: Sequence[Holder] = ()
    joined: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """The facts about one entry.

    Attributes:
        found: where it stands.
        order_key: the key whose order is kept, as it is stored; None if it has none.
        head: the entry of that key that runs or is next, as it is stored.
        behind: entries of the key between that one and this one; 1,000 are counted at most.
        ahead: entries of its level that start before it; 1,000 are counted at most.
        turns: how many other keys take turns with its own.
        queue: for a slot, that it stands in.
        has_slot: it has a slot.
        throttled: limits whose key is throttled, ``name=key`` to the Unix time (s) of the end.
    """

    found: FoundEntry
    order_key: str | None = None
    head: str | None = None
    behind: int = 0
    ahead: int = 0
    turns: int = 0
    queue: Queue | None = None
    has_slot: bool = False
    throttled: Mapping[str, float] = field(default_factory=dict)

    @property
    def member(self) -> str:
        """``level|entry id``."""
        return f"{self.found.level}|{self.found.entry_id}"


def attributes(fields: Sequence[bytes]) -> dict[str, str]:
    """Type and text metadata of a stored event; metadata that cannot be read are left out."""
    named = pairs(fields)
    try:
        meta = orjson.loads(named.get("meta") or b"{}")
    except orjson.JSONDecodeError:
        meta = {}

    found = {"type": named.get("type", b"").decode("utf-8", "replace")}
    if isinstance(meta, dict):
        named_texts = {
            name: text for name, text in meta.items() if isinstance(text, str)
        }
        found = named_texts | found

    return found

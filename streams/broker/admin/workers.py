"""The workers of a group, by their own notes and by the server's rows of their consumers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.broker.admin.replies import ConsumerReply
from streams.broker.server.stored import texts

HEARD = 35.0
"""Seconds after which a silent worker counts as gone: three of its notes are missing."""
LEASE = 30.0
"""Seconds of a lease at least, if none is known; as in ``leases.inc.lua``."""
_ANNOUNCED = re.compile(r"([0-9]{1,12}) [0-9]{1,20}")

Notes = Mapping[str, Mapping[str, Any]]
"""The last note of each worker, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """One worker of a group.

    Attributes:
        name: of its consumer.
        is_alive: it was heard of lately.
        levels: those that it reads.
        free: how many more handlers could start; None if its note does not say.
        in_hand: entries that are pending with it.
        concurrency: how many handlers it runs at once; None if its note does not say.
        lease: seconds of its leases.
        said_at: Unix time (s) of its note; 0.0 if there is none.
        runs: ``level|entry id`` of its longest runs, to the Unix time (s) at which each had
            begun at the latest.
        runs_all: ``runs`` has every run of that time.
        heard: seconds since it was heard of.
        kept_for: the suspect that runs alone in its process, as stream/group and
            ``level|entry id``; '' for none.
    """

    name: str
    is_alive: bool
    levels: frozenset[int]
    free: int | None
    in_hand: int
    concurrency: int | None = None
    lease: float = LEASE
    said_at: float = 0.0
    runs: Mapping[str, float] = field(default_factory=dict)
    runs_all: bool = False
    heard: float = 0.0
    kept_for: str = ""

    @property
    def is_full(self) -> bool:
        """Whether it cannot start a handler now, as far as is known."""
        if self.free is None or self.concurrency is None:
            # A worker of an older version may be full once it holds an entry.
            return self.in_hand > 0

        return self.free <= 0 or self.in_hand >= self.concurrency


@dataclass(slots=True)
class _Consumer:
    """The server's rows of one consumer, over all levels."""

    levels: set[int] = field(default_factory=set)
    pending: int = 0
    silent: float = math.inf


def workers_of(
    notes: Notes,
    consumers: Mapping[int, Iterable[ConsumerReply]],
    leases: Mapping[str, float],
    now: float,
) -> list[WorkerFacts]:
    """The workers of a group, by name.

    Args:
        notes: of the workers.
        consumers: of the group, by level.
        leases: consumer to the seconds of its leases.
        now: the server's Unix time.
    """
    found = {name: _Consumer() for name in notes}
    for level, rows in consumers.items():
        for row in rows:
            if not row.is_worker:
                continue

            consumer = found.setdefault(row.name, _Consumer())
            consumer.levels.add(level)
            consumer.pending += row.pending
            consumer.silent = min(consumer.silent, row.silent)

    longest = max(LEASE, *leases.values()) if leases else LEASE
    workers = []

    for name, consumer in sorted(found.items()):
        note = notes.get(name, {})
        lease = leases.get(name, float(note.get("lease", longest)))
        workers.append(_worker(name, note, consumer, lease, now))

    return workers


def _worker(
    name: str, note: Mapping[str, Any], consumer: _Consumer, lease: float, now: float
) -> WorkerFacts:
    said_at = float(note.get("at", 0.0))
    heard = max(0.0, min(now - said_at, consumer.silent))
    runs = note.get("runs", {})

    return WorkerFacts(
        name=name,
        is_alive=heard <= HEARD,
        levels=frozenset(note.get("levels", consumer.levels)),
        free=note.get("free"),
        in_hand=consumer.pending,
        concurrency=note.get("concurrency"),
        lease=lease,
        said_at=said_at,
        runs=runs,
        runs_all="runs" in note and len(runs) >= note.get("busy", 0),
        heard=heard,
        kept_for=note.get("kept_for", ""),
    )


def leases_of(reply: Sequence[bytes] | None) -> dict[str, float]:
    """Consumer to the seconds of its announced leases; rows of another form are left out."""
    found = {}
    for name, text in texts(reply).items():
        if announced := _ANNOUNCED.fullmatch(text):
            found[name] = int(announced[1]) / 1000

    return found

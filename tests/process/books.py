"""What a stream still holds, and whether that and what was handled are what was published."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import Any

import redis

from streams.broker.keys import Keys
from tests.process.worker_app import GROUP, LEVELS


def unfinished(client: redis.Redis, keys: Keys, group: str = GROUP) -> dict[str, int]:
    """Stored entries, pending entries, retry rows, attempt rows and scheduled events, where there are any."""
    found: dict[str, int] = {}
    for level in LEVELS:
        found[f"stored {level}"] = client.xlen(keys.level(level))
        with contextlib.suppress(redis.ResponseError):
            found[f"pending {level}"] = client.xpending(keys.level(level), group)[
                "pending"
            ]
    found["retry"] = client.zcard(keys.retry(group))
    found["attempts"] = client.hlen(keys.attempts(group))
    found["scheduled"] = client.zcard(keys.scheduled())
    found["scheduled-fields"] = client.hlen(keys.scheduled_fields())
    return {name: count for name, count in found.items() if count}


def dead_letters(
    client: redis.Redis, keys: Keys, group: str = GROUP
) -> dict[str, dict[str, Any]]:
    """Event id to reason and record; an event that died twice fails the books here."""
    letters: dict[str, dict[str, Any]] = {}
    for _, fields in client.xrange(keys.dead(group)):
        event_id = fields[b"id"].decode()
        assert event_id not in letters, f"{event_id} has two dead letters"
        letters[event_id] = {
            "reason": fields[b"reason"].decode(),
            **json.loads(fields[b"record"]),
        }
    return letters


def balance(
    published: Iterable[str],
    done: Iterable[str],
    dead: Iterable[str],
    started: Iterable[str],
) -> None:
    """Compare sets of event ids: done and dead share nothing and together are what was published."""
    expected, done, dead, started = set(published), set(done), set(dead), set(started)
    assert started <= expected, f"made up: {started - expected}"
    assert not done & dead, f"done and dead: {done & dead}"
    assert done | dead == expected, (
        f"lost: {expected - done - dead}; unexpected: {(done | dead) - expected}"
    )

"""Rows that say nothing, for each key of a group."""

from __future__ import annotations

from collections.abc import Callable

from streams.broker.keys import Keys

TOO_LARGE = "0|99999999999999999999-0"

Command = tuple[object, ...]


def of_entries(keys: Keys) -> list[Command]:
    return [
        (
            "ZADD",
            keys.retry("g"),
            1,
            "0|abc",
            2,
            TOO_LARGE,
            3,
            "junk",
            "-inf",
            "0|0",
            "+inf",
            "0|1",
            4,
            "0|01-1",
        ),
        (
            "HSET",
            keys.attempts("g"),
            "0|abc",
            "{",
            TOO_LARGE,
            "[]",
            "0|1-1",
            '{"failures":"x"}',
        ),
        (
            "HSET",
            keys.sweep("g"),
            "owner",
            "me",
            "until",
            "x",
            "seen",
            "y",
            "cursor:0",
            "z",
        ),
    ]


def of_scheduled(keys: Keys) -> list[Command]:
    return [
        ("ZADD", keys.scheduled(), 1, "0|a", 2, "0|b", 3, "0|c", "-inf", "d"),
        (
            "HSET",
            keys.scheduled_fields(),
            "0|a",
            b"\xc1",
            "0|b",
            b"\x05",
            "0|c",
            b"\x91\xa1x",
            "d",
            b"\x92\x01\x02",
        ),
    ]


def of_slots(keys: Keys) -> list[Command]:
    busy, queue = (
        keys.busy_prefix("g") + "tenant=t",
        keys.queue_prefix("g") + "tenant=t",
    )
    return [
        ("ZADD", busy, "9e15", "0|abc", "inf", TOO_LARGE),
        ("ZADD", queue, 1, "0|abc", 2, TOO_LARGE),
        ("HSET", keys.queues("g"), "tenant=t", "many", "x", "", "tenant=u", "1e99"),
        (
            "HSET",
            keys.admissions("g"),
            "0|abc",
            "{",
            TOO_LARGE,
            '{"slots":[1,{}]}',
            "x",
            "[]",
            "0|1-1",
            '{"slots":{"a":1}}',
        ),
    ]


def of_keys(keys: Keys) -> list[Command]:
    rows = (
        "a",
        "k1",
        "k1\1",
        "k1\1" + "00junk\1t",
        "k1\1" + "01!\1t",
        "k1\1" + "02!\1t",
        "k9\1" + "L12:x",
        "z",
    )
    return [
        (
            "ZADD",
            keys.behind("g"),
            *(part for row in rows for part in (0, row)),
            "-inf",
            "zz",
            "inf",
            "",
            5,
            "k5\1",
        ),
        ("HSET", keys.heads("g"), "k1", "0|abc", "k9", "held by me", "k8", TOO_LARGE),
    ]


def of_turns(keys: Keys) -> list[Command]:
    return [
        (
            "ZADD",
            keys.lane("g", 0),
            0,
            "a",
            0,
            "t\1junk",
            0,
            "t\1",
            0,
            "z\1M1234567890123-@0",
            "inf",
            "",
            "-inf",
            "zz",
        ),
        ("ZADD", keys.ring("g", 0), "-inf", "t", "+inf", "u"),
        (
            "HSET",
            keys.rules("g"),
            "cursor",
            "x",
            "from:0",
            "y",
            "levels",
            "a,b",
            "weight:t",
            "nan",
            "weight:u",
            "-1",
        ),
        ("HSET", keys.rules("g"), "ways", b"\xff|;\0"),
    ]


GARBAGE: dict[str, Callable[[Keys], list[Command]]] = {
    "retry attempts sweep": of_entries,
    "scheduled-fields": of_scheduled,
    "busy queue queues": of_slots,
    "behind heads": of_keys,
    "lane ring rules": of_turns,
}
"""What the doctor calls them, to what writes them."""

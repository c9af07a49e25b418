"""Throw bent entries at everything that reads what is stored, for a bounded time: ``make fuzz SECONDS=60 SEED=7``.

Whatever stands in an entry, it is an event or a ``MalformedEvent`` (an ``EventError``), soon, and nothing else: what
another program wrote must not end a worker. Inputs are valid ones that were bent a few times; a finding prints its own.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable

from streams.errors import StreamsError
from streams.events.cloudevents import from_cloudevent
from streams.events.codec import decode, read_meta
from streams.events.names import parse_member, parse_scope
from streams.policy.ordering import Lanes
from streams.policy.retry import AttemptRecord

Fields = list[bytes]
_SLOW = 1.0
_BODY = b'{"id":1,"lines":[1,2,{"a":null}]}'
_META = b'{"key":"k","tenant":"t","subject":"s","headers":{"a":"b"},"max_retries":3,"expires":1e12,"retry_delay":0.5}'
_SEEDS: tuple[Fields, ...] = (
    [b"type", b"order.created", b"id", b"0123456789abcdef-1", b"data", _BODY, b"meta", _META],
    [b"type", b"t", b"data", b"\x00\xff", b"meta", b'{"datacontenttype":"application/octet-stream"}'],
    [b"type", b"t", b"data", "olá ção".encode(), b"meta", b'{"datacontenttype":"text/plain; charset=utf-8"}'],
    [b"type", b"t", b"data", b"[[[[[[[[[[1]]]]]]]]]]", b"replays", b"2", b"group", b"g"],
)  # fmt: skip
_WORDS = (
    b"", b"{", b"}", b"[", b'"', b"\\u0000", b"\\ud800", b"\xff", b"\x00", b"1e999", b"-0", b"NaN", b"null", b"9" * 400,
    b"[" * 5000, b'{"a":' * 3000, b"\xed\xa0\x80", b"data", b"meta", b"type", b"traceparent", b"=?", b"\n",
    b"\xe2\x80\xa8",
)  # fmt: skip
_RECORD = b'{"failures":1,"stalls":0,"first":1.5,"last":2.5,"errors":[{"at":1,"attempt":1,"error":"E","message":"m"}]}'


def bent(text: bytes, lot: random.Random) -> bytes:
    """Some bytes, bent a few times."""
    made = bytearray(text)
    for _ in range(lot.randint(1, 4)):
        at = lot.randrange(len(made) + 1)
        match lot.randrange(5):
            case 0:
                made[at : at + 1] = bytes([lot.randrange(256)])
            case 1:
                made[at:at] = lot.choice(_WORDS)
            case 2:
                del made[at : at + lot.randint(1, 8)]
            case 3:
                made[at:at] = made[: lot.randint(0, 40)]
            case _:
                made[at:] = made[at:][::-1]
    return bytes(made)


def entry(lot: random.Random) -> Fields:
    """An entry with one or some of its parts bent, missing or doubled."""
    fields = list(lot.choice(_SEEDS))
    for _ in range(lot.randint(1, 3)):
        at = lot.randrange(len(fields)) if fields else 0
        match lot.randrange(6):
            case 0:
                del fields[at : at + lot.randint(1, 2)]
            case 1:
                fields[at:at] = fields[at : at + 2]
            case _:
                fields[at : at + 1] = [bent(fields[at] if fields else b"", lot)]
    return fields


def cloudevent(lot: random.Random) -> dict[str, object]:
    """A CloudEvent of which some members are bent, missing or of another kind."""
    whole: dict[str, object] = {
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": "2026-01-01T00:00:00Z", "subject": "s",
        "datacontenttype": "application/json", "data": {"a": 1}, "key": "k",
    }  # fmt: skip
    for _ in range(lot.randint(1, 3)):
        name = lot.choice(list(whole))
        odd: tuple[object, ...] = (
            None,
            1,
            -1.5,
            True,
            [],
            {},
            [[]],
            {"": None},
            10**400,
        )
        whole[name] = lot.choice(
            (*odd, bent(str(whole[name]).encode(), lot).decode("utf-8", "replace"))
        )
    if lot.random() < 0.2:
        whole.pop(lot.choice(list(whole)))
    if lot.random() < 0.2:
        whole["data_base64"] = lot.choice(("AAA=", "no base64!", 7, "é"))
    return whole


def targets(
    lot: random.Random,
) -> list[tuple[str, Callable[[], object], tuple[object, ...]]]:
    """What reads stored things, each with something to read."""
    fields, text = entry(lot), bent(lot.choice((_META, _RECORD)), lot)
    words = text.decode("utf-8", "replace")
    cloud = cloudevent(lot)
    return [
        ("decode", lambda: decode(fields), (fields,)),
        ("read_meta", lambda: read_meta(fields), (fields,)),
        (
            "order_key",
            lambda: Lanes(order_by=("key", "tenant")).order_key(fields),
            (fields,),
        ),
        ("from_json", lambda: AttemptRecord.from_json(text), (text,)),
        ("from_cloudevent", lambda: from_cloudevent(cloud), (cloud,)),
        ("parse_member", lambda: parse_member(words), (words,)),
        ("parse_scope", lambda: parse_scope(words), (words,)),
    ]


def run(seconds: float, seed: int) -> tuple[int, list[str]]:
    """Fuzz for so long; how many were read, and what was found."""
    lot = random.Random(seed)
    found: list[str] = []
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end and not found:
        for name, read, given in targets(lot):
            began = time.process_time()
            try:
                read()
            except StreamsError:
                pass
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
                found.append(f"{name}{given!r} raised {error!r}")
            if time.process_time() - began > _SLOW:
                found.append(
                    f"{name}{given!r} took {time.process_time() - began:.1f} s"
                )
            count += 1
    return count, found


def main() -> int:
    """Fuzz, and say what was found."""
    parser = argparse.ArgumentParser(description="Throw bent entries at the decoder.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    options = parser.parse_args()
    from tests.fuzz_rows import run_rows

    count, found = run(options.seconds / 2, options.seed)
    print(f"seed {options.seed}: {count:,} read, {len(found)} findings")
    groups, rows = run_rows(options.seconds / 2, options.seed)
    print(f"seed {options.seed}: rows in {groups:,} groups, {len(rows)} findings")
    found += rows
    for each in found:
        print(each[:2000])
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

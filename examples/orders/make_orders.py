"""Makes ``orders.jsonl``: 2,400 lines of invented orders, good ones and every kind of bad one.

    python make_orders.py --seed 7 --output orders.jsonl

The same seed makes the same file. No person is behind any of it; the phone numbers are from the range kept for fiction.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LINES = 2400
BUSY, REFUSED, IMPOSSIBLE, UNHANDLED, DELAYED, CLOUD, DEDUP, REPEATED = (
    120,
    25,
    10,
    6,
    12,
    12,
    40,
    8,
)
TENANTS = ("acme", "globex", "initech", "umbrella", "hooli")
PRIORITIES = (0, 0, 0, 0, 1, 1, 5, 5, 10, 3, 7, 12)
"""Levels and integers between them, which go to the level below."""

MALFORMED = (
    '{"type":"order.created","data":{"order":"X-1","total":12.5',
    '{"data":{"order":"X-2","total":12.5}}',
    '["order.created",{"order":"X-3","total":12.5}]',
    '{"type":"order.created","data":{"order":"X-4","total":NaN}}',
    '{"type":"order.created","priority":1}',
    '{"type":"order.created","data":{"order":"X-6"},"prioritty":5}',
    '{"type":"order.created","data":{"order":"X-7"},"priority":"high"}',
    '{"type":"order.created","data":{"order":"X-8"},"delay":-3}',
    '{"type":"","data":{"order":"X-9"}}',
    '{"type":"order.created","data":' + "[" * 80 + "]" * 80 + "}",
    '{"specversion":"1.0","type":"order.created","data":{"order":"X-11"}}',
    "order.created;X-12;12.50",
    '{"type":"order.created","data":{"order":"X-13"},"headers":["a"]}',
    '{"type":42,"data":{"order":"X-14"}}',
    "null",
)


def order(rng: random.Random, number: int) -> dict[str, Any]:
    """An ordinary order."""
    return {
        "order": f"A-{10_000 + number}",
        "customer": f"C-{rng.randrange(400):04}",
        "phone": f"+1-202-555-01{rng.randrange(100):02}",
        "total": round(rng.uniform(5, 250), 2),
        "card": "good",
        "takes_ms": rng.randint(10, 60),
    }


def good_lines(rng: random.Random, count: int) -> Iterator[dict[str, Any]]:
    """Lines that can be published; the fate of each is drawn without replacement."""
    fates = (
        ["busy"] * BUSY
        + ["refused"] * REFUSED
        + ["impossible"] * IMPOSSIBLE
        + ["unhandled"] * UNHANDLED
    )
    fates += ["delayed"] * DELAYED + ["cloud"] * CLOUD + ["dedup"] * DEDUP
    fates += [""] * (count - len(fates))
    rng.shuffle(fates)
    for number, fate in enumerate(fates, 1):
        body = order(rng, number)
        line: dict[str, Any] = {"type": "order.created"}
        if priority := rng.choice(PRIORITIES):
            line["priority"] = priority
        line |= {"tenant": rng.choice(TENANTS), "key": body["customer"]}
        if fate in ("busy", "refused"):
            body["card"] = fate
        elif fate == "impossible":
            body["total"] = -body["total"]
        elif fate == "unhandled":
            line["type"] = "order.archived"
        elif fate == "delayed":
            line["delay"] = rng.choice((1.0, 1.5, 2.0))
        elif fate == "dedup":
            line["dedup_id"] = body["order"]
        elif fate == "cloud":
            line["partitionkey"] = line.pop("key")
            line = {
                "specversion": "1.0",
                "id": f"evt-{number}",
                "source": "/shop",
                **line,
            }
        yield {**line, "data": body}


def make(seed: int) -> list[str]:
    """Every line of the file."""
    rng = random.Random(seed)
    malformed = [text for text in MALFORMED for _ in range(2)]
    good = list(good_lines(rng, LINES - REPEATED - len(malformed)))
    lines = [json.dumps(line, separators=(",", ":")) for line in good]
    once = [line for line in lines if '"dedup_id"' in line]
    for text in malformed + rng.sample(once, REPEATED):
        lines.insert(rng.randrange(len(lines)), text)
    return lines


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("orders.jsonl")
    )
    given = parser.parse_args()
    given.output.write_text("\n".join(make(given.seed)) + "\n", "utf-8")


if __name__ == "__main__":
    main()

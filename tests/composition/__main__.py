"""Thousands of seeds: ``python -m tests.composition --seeds 5000``. Prints what failed, and what was reached."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
import traceback
from collections import Counter

import pytest

from tests.composition import clock, workers
from tests.composition.reached import MANY, OFTEN, SELDOM
from tests.composition.run import Run
from tests.servers import BINARIES, Server, server_label


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.composition")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--minutes",
        type=float,
        default=0.0,
        help="stop after so long on each server, seeds or not",
    )
    parser.add_argument(
        "--on", default="", help="only servers of this name: redis, valkey"
    )
    parser.add_argument(
        "--story", action="store_true", help="print the story of each seed that failed"
    )
    options = parser.parse_args()
    logging.getLogger("streams").setLevel(logging.CRITICAL + 1)
    failed = 0
    for binary in BINARIES:
        if server_label(binary).startswith(options.on):
            failed += _on(binary, options)
    return min(failed, 1)


def _on(binary: str, options: argparse.Namespace) -> int:
    seen: Counter[str] = Counter()
    failed, played, began = 0, 0, time.monotonic()
    until = began + 60 * options.minutes if options.minutes else float("inf")
    server = Server(binary)
    with pytest.MonkeyPatch.context() as patch:
        clock.install(patch)
        workers.install(patch)
        server.start()
        try:
            for seed in range(options.first, options.first + options.seeds):
                if time.monotonic() > until:
                    break
                failed += _play(seed, server.url, seen, options)
                played += 1
        finally:
            server.close()
    took = time.monotonic() - began
    print(
        f"{server_label(binary)}: {played} seeds, {failed} failed, {took / max(1, played):.3f} s each"
    )
    for name, count in sorted(seen.items()):
        print(f"  {count:7}  {name}")
    missing = (
        [name for name in (*OFTEN, *SELDOM) if not seen[name]] if played >= MANY else []
    )
    if missing:
        print(f"no seed came to: {', '.join(missing)}")
    return failed + len(missing)


def _play(seed: int, url: str, seen: Counter[str], options: argparse.Namespace) -> int:
    run = Run(seed, url, f"c{seed}")
    try:
        asyncio.run(run.play())
    except Exception:  # noqa: BLE001 - whatever it is, the seed failed
        run.books.wrong.append(traceback.format_exc())
    seen.update(run.books.seen)
    if not run.books.wrong:
        return 0
    print(f"seed {seed}:", *run.books.wrong[:6], sep="\n  ")
    if options.story:
        print(*run.books.story, sep="\n")
    sys.stdout.flush()
    return 1


if __name__ == "__main__":
    sys.exit(main())

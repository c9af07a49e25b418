"""Minutes of seeded trouble on every topology, and the books of it: ``make chaos SECONDS=60 SEED=7 ON=cluster``.

On each topology first a quiet run, in which nothing breaks and nothing may be handled twice; then one in which
something breaks all the time. The seed decides what, when, and what is published; processes decide the rest, so a seed
repeats the trouble and not every interleaving. Ends with 1 if an invariant does not hold, and with the shortest story
that shows it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter

from tests.chaos.faults import FAULTS, LOSES, QUIET, clock_jumps
from tests.chaos.ground import Ground
from tests.chaos.history import SECOND, History, Judge, slice_of
from tests.servers import BINARIES, server_label

_SHOWN = 5


async def quiet(kind: str, seed: int, seconds: float) -> History:
    """Nothing breaks."""
    async with Ground(kind, seed) as ground:
        await asyncio.sleep(seconds)
        return await ground.settle()


async def chaos(kind: str, seed: int, seconds: float) -> History:
    """Something breaks all the time, one thing after the other, now and then two at once."""
    lot = random.Random(f"faults {seed} {kind}")
    async with Ground(kind, seed) as ground:
        faults = [
            breaks
            for breaks in FAULTS[kind]
            if breaks is not clock_jumps or ground.can_move_clock
        ]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(lot.uniform(0.2, 1.5))
            breaks = lot.choice(faults)
            await ground.suffer(
                breaks, lot, loses=breaks in LOSES, repeats=breaks not in QUIET
            )
        return await ground.settle()


def books(history: History) -> str:
    """A run in a line."""
    done = history.done
    missing = sum(
        event not in done and event not in history.dead
        for event in history.acknowledged
    )
    faults = Counter(fault.kind for fault in history.faults)
    parts = {
        "acknowledged": len(history.acknowledged), "unknown": len(history.unknown), "refused": history.refused,
        "done": len(done), "dead": len(history.dead), "twice": sum(count > 1 for count in done.values()),
        "missing": missing, "drained in": f"{history.seconds_to_drain:.1f} s",
    }  # fmt: skip
    words = ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
        for name, value in parts.items()
    )
    lost = [
        (at - fault.began) / SECOND
        for event, at in history.acknowledged.items()
        for fault in history.faults
        if fault.loses
        and event not in done
        and event not in history.dead
        and abs(at - fault.began) < 5 * SECOND
    ]
    if lost:
        words += f" (acknowledged {min(lost):+.3f} to {max(lost):+.3f} s from the loss of a primary)"
    return words + (
        f"; faults: {', '.join(f'{n} {kind}' for kind, n in sorted(faults.items()))}"
        if faults
        else ""
    )


def judged(title: str, history: History) -> bool:
    """Print the books of a run; whether everything holds."""
    print(f"{title}: {books(history)}", flush=True)
    violations = Judge(history).violations()
    if violations:
        shortest = min(violations, key=lambda found: len(slice_of(history, found)))
        print(
            f"  {len(violations)} violations: {dict(Counter(found.invariant for found in violations))}"
        )
        for found in sorted(violations, key=lambda found: found.event)[:_SHOWN]:
            print(f"  {found.invariant}: {found.event} {found.what}")
        print(
            f"  the shortest story, of {shortest.event or 'the whole run'} ({shortest.invariant}):"
        )
        for line in slice_of(history, shortest):
            print(f"  {line}")
    return not violations


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description="Seeded trouble, and the books of it.")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--on", default=",".join(FAULTS))
    options = parser.parse_args()
    print(f"{server_label(BINARIES[0])}, seed {options.seed}", flush=True)
    good = True
    for kind in options.on.split(","):
        history = asyncio.run(quiet(kind, options.seed, min(10.0, options.seconds)))
        good &= judged(f"{kind}, quiet", history)
        again = sum(count > 1 for count in history.done.values())
        if again or history.unknown or history.refused:
            print(
                f"  a quiet run has no duplicates, no doubts and no refusals; this one has {again} duplicates"
            )
            good = False
        good &= judged(
            f"{kind}, {options.seconds:g} s of faults",
            asyncio.run(chaos(kind, options.seed, options.seconds)),
        )
    print(
        "everything holds"
        if good
        else f"NOT everything holds; repeat with SEED={options.seed}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

"""Judge running handlers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streams.doctor.finding import Bounds, Finding
from streams.quantities import counted

_ALIVE = 60.0
"""Seconds for which a worker's note counts; it writes one every ten."""


def judge_runs(
    stream: str,
    group: str,
    workers: Mapping[str, Mapping[str, Any]],
    now: float,
    bounds: Bounds,
) -> Iterator[Finding]:
    """Report handlers that run for long. Their leases are renewed, so no other check shows them.

    Args:
        stream: of the group.
        group: whose workers these are.
        workers: the last note of each, by name.
        now: the server's Unix time.
        bounds: ``running`` says which runs are long.
    """
    for name, said in sorted(workers.items()):
        if now - float(said.get("at", 0.0)) > _ALIVE:
            continue

        long = {
            place: now - since
            for place, since in said.get("runs", {}).items()
            if now - since > bounds.running
        }
        if not long:
            continue

        place, seconds = max(long.items(), key=lambda row: row[1])

        others = ""
        if len(long) > 1:
            others = f", and {counted(len(long) - 1, 'more runs', 'more run')} for long"

        free = ""
        if said.keys() >= {"free", "concurrency"}:
            are = "is" if said["free"] == 1 else "are"
            handlers = counted(said["concurrency"], "handler")
            free = f"; {said['free']} of its {handlers} {are} free"

        what = f"the handler of {place} runs for {round(seconds / 60)} min on {name}{others}{free}"
        todo = (
            f"streams show {stream} '{place}'; if it hangs, see 'A handler that hangs' in"
            " docs/failure-modes.md"
        )
        yield Finding("long-running", "warning", f"{stream}/{group}", what, todo)

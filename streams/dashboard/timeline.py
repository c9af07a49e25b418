"""The life of one event, as far as anybody knows it, in the order of time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.admin.queries import shown
from streams.admin.status import EntryState

_TRACEPARENT = re.compile(
    r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to an event, or will: at Unix seconds ``at``, a word for it, and more."""

    at: float
    what: str
    more: str = ""


def timeline(states: Sequence[EntryState]) -> list[Moment]:
    """What happened in every group: stored, each error that is kept, when it died, when it is due."""
    found: list[Moment] = []
    for state in states:
        where = state.group or state.stream
        if state.entry_id:
            stored = int(state.entry_id.partition("-")[0]) / 1000
            again = (
                f"{state.dead_letter.replays}"
                if state.dead_letter and state.dead_letter.replays
                else ""
            )
            found.append(Moment(stored, "put back" if again else "stored", again))
        for error in state.errors:
            kind = str(error.get("kind", "failed"))
            found.append(
                Moment(
                    _number(error.get("at")),
                    "failed",
                    f"{where}: {shown(kind)} {shown(error.get('type', ''))}",
                )
            )
        if state.dead_letter is not None:
            found.append(
                Moment(
                    state.dead_letter.died_at,
                    "dead",
                    f"{where}: {state.dead_letter.reason}",
                )
            )
        if state.consumer and state.silent is not None:
            found.append(Moment(0.0, "with a worker", f"{where}: {state.consumer}"))
        if state.due:
            found.append(Moment(state.due, "due", where))
    # What is going on has no time of its own: it stands behind what is over, and before what is due.
    return sorted(
        dict.fromkeys(found), key=lambda row: (row.what == "due", not row.at, row.at)
    )


def trace_of(meta: Mapping[str, Any]) -> str:
    """The id of the trace that an event belongs to; '' if it has none."""
    found = _TRACEPARENT.fullmatch(str(meta.get("traceparent", "")))
    return found[1] if found else ""


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0

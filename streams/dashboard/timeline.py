"""The life of one event, as far as it is known, in the order of time."""

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
    """A step in the life of an event: its Unix time, a word for it, and more."""

    at: float
    what: str
    more: str = ""


def timeline(states: Sequence[EntryState]) -> list[Moment]:
    """The steps in every group: when it was stored, failed, died and is due."""
    found: list[Moment] = []

    for state in states:
        where, letter = state.group or state.stream, state.dead_letter
        if state.entry_id:
            stored = int(state.entry_id.partition("-")[0]) / 1000
            again = str(letter.replays) if letter and letter.replays else ""
            found.append(Moment(stored, "put back" if again else "stored", again))

        for error in state.errors:
            says = (
                f"{shown(error.get('kind', 'failed'))} {shown(error.get('type', ''))}"
            )
            found.append(Moment(_number(error.get("at")), "failed", f"{where}: {says}"))

        if letter is not None:
            found.append(Moment(letter.died_at, "dead", f"{where}: {letter.reason}"))

        if state.consumer and state.silent is not None:
            found.append(Moment(0.0, "with a worker", f"{where}: {state.consumer}"))

        if state.due:
            found.append(Moment(state.due, "due", where))

    # A step that goes on has no time: it stands behind the past, and before the future.
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

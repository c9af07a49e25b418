"""``streams cancel``: take events out that are scheduled or wait for a retry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from streams.admin.cancellations import Cancellation
from streams.admin.status import EntryState
from streams.cli.common import (
    StreamName,
    examples,
    finish,
    moment,
    one_line,
    person,
    remark,
    say,
    write_json,
)
from streams.cli.exit_codes import Exit, exit_code
from streams.cli.options import OnPartition, with_options
from streams.cli.pause import place
from streams.errors import NotFound, NotWaiting
from streams.pipeline import Pipeline

HELP = (
    "Cancel events that are scheduled, or that wait for a retry."
    "\n\nA cancelled event is gone; who cancelled it is in the stream's audit record. "
    "Another group that still needs it"
    " keeps it. What is pending, processing, dead or done is refused, with what can "
    "be done instead."
    + examples(
        "streams cancel orders 7d3e5f0a1b2c3d4e-1",
        "streams cancel orders '10|1893456000000-0' --group billing",
    )
)


Ids = Annotated[
    list[str],
    typer.Argument(
        metavar="ID...",
        help="Event ids, entry ids, or LEVEL|ENTRY-ID.",
        show_default=False,
    ),
]
InGroup = Annotated[
    str,
    typer.Option(
        "--group",
        help="Where it waits for a retry, if it does in several.",
        show_default=False,
    ),
]


@with_options
def cancel(
    stream: StreamName, ids: Ids, *, group: InGroup = "", at: OnPartition
) -> None:
    """Cancel events; see HELP."""

    async def main(pipeline: Pipeline) -> Cancellation:
        cancellations = pipeline.cancellations(
            stream, by=person(), partition=at.partition
        )
        return await cancellations.cancel_many(ids, group)

    outcome = at.ask(main)
    if at.as_json:
        cancelled = [_plain(id, state) for id, state in outcome.cancelled.items()]
        refused = [
            {"id": id, "state": getattr(error, "state", None), "message": str(error)}
            for id, error in outcome.refused.items()
        ]
        write_json({"stream": stream, "cancelled": cancelled, "refused": refused})
    else:
        for id, state in outcome.cancelled.items():
            say(f"cancelled {one_line(id)} on {where(state)}: {was(state)}")
    end(ids, outcome.refused, at)


def where(state: EntryState) -> str:
    """The place of an event in words."""
    return place(state.stream, state.group, state.level)


def was(state: EntryState) -> str:
    """The state of an event until now in words."""
    due = f", due {moment(state.due)}" if state.due is not None else ""
    return f"it was {state.state}{due}"


def end(
    ids: list[str], refused: Mapping[str, NotWaiting | NotFound], at: OnPartition
) -> None:
    """Say which events were refused; then the command ends, if any was."""
    errors = list(refused.values())
    if not at.as_json:
        for error in errors:
            remark(one_line(f"streams: {error}"))
    if errors:
        # One id: the code says what is wrong with it. Several: done in part.
        finish(exit_code(errors[0]) if len(set(ids)) == 1 else Exit.FAILED)


def _plain(id: str, state: EntryState) -> dict[str, Any]:
    names = (
        "stream",
        "state",
        "group",
        "level",
        "entry_id",
        "event_id",
        "type",
        "due",
        "failures",
        "stalls",
    )
    return {"id": id, **{name: getattr(state, name) for name in names}}

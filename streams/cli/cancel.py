"""``streams cancel`` and ``streams run-now``, on events that wait for their time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from streams.admin.actions import ACTIONS
from streams.admin.status import EntryState
from streams.cli.common import (
    StreamName,
    argument,
    examples,
    finish,
    moment,
    one_line,
    option,
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

CANCEL_HELP = (
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
RUN_NOW_HELP = (
    "Let events run now that are scheduled, or that wait for a retry."
    "\n\nThey are due at once, and start when it is their turn; limits, pauses and "
    "the order of keys hold as ever. Who"
    " was impatient is in the stream's audit record."
    + examples(
        "streams run-now orders 7d3e5f0a1b2c3d4e-1",
        "streams run-now orders '10|1893456000000-0' --group billing",
    )
)
Ids = Annotated[
    list[str], argument("ID...", "Event ids, entry ids, or LEVEL|ENTRY-ID.")
]
InGroup = Annotated[str, option("Where it waits for a retry, if it does in several.")]
Refused = Mapping[str, NotWaiting | NotFound]


@with_options
async def cancel(
    pipeline: Pipeline,
    stream: StreamName,
    ids: Ids,
    *,
    group: InGroup = "",
    at: OnPartition,
) -> None:
    """Cancel events; see CANCEL_HELP."""
    cancellations = pipeline.cancellations(
        stream,
        by=person(),
        partition=at.partition,
    )

    outcome = await cancellations.cancel_many(ids, group)

    if at.as_json:
        names = "stream state group level entry_id event_id type due failures stalls"
        cancelled = [
            {"id": id, **{name: getattr(state, name) for name in names.split()}}
            for id, state in outcome.cancelled.items()
        ]

        refused = [
            {"id": id, "state": getattr(error, "state", None), "message": str(error)}
            for id, error in outcome.refused.items()
        ]

        write_json({"stream": stream, "cancelled": cancelled, "refused": refused})
    else:
        for id, state in outcome.cancelled.items():
            say(f"cancelled {one_line(id)} on {_where(state)}: {_was(state)}")

    _end(ids, outcome.refused, at)


@with_options
async def run_now(
    pipeline: Pipeline,
    stream: StreamName,
    ids: Ids,
    *,
    group: InGroup = "",
    at: OnPartition,
) -> None:
    """Let events run now; see RUN_NOW_HELP."""
    target = at.target(pipeline, stream)
    hurried: dict[str, EntryState] = {}
    refused: dict[str, NotWaiting | NotFound] = {}

    for id in dict.fromkeys(ids):
        try:
            given = {"id": id, "group": group}
            hurried[id] = await ACTIONS["run-now"].run(target, given)
        except (NotWaiting, NotFound) as error:
            refused[id] = error

    if at.as_json:
        rows = [
            {
                "id": id,
                "stream": state.stream,
                "was": state.state,
                "group": state.group,
                "level": state.level,
                "due": state.due,
            }
            for id, state in hurried.items()
        ]

        told = [{"id": id, "message": str(error)} for id, error in refused.items()]
        write_json({"stream": stream, "due_now": rows, "refused": told})
    else:
        for id, state in hurried.items():
            say(f"{one_line(id)} on {_where(state)} is due now: {_was(state)}")

    _end(ids, refused, at)


def _where(state: EntryState) -> str:
    return place(state.stream, state.group, state.level)


def _was(state: EntryState) -> str:
    if state.due is None:
        return f"it was {state.state}"

    return f"it was {state.state}, due {moment(state.due)}"


def _end(ids: list[str], refused: Refused, at: OnPartition) -> None:
    """Say which events were refused; then the command ends, if any was."""
    errors = list(refused.values())

    if not at.as_json:
        for error in errors:
            remark(one_line(f"streams: {error}"))

    if errors:
        # One id: the code says what is wrong with it. Several: done in part.
        finish(exit_code(errors[0]) if len(set(ids)) == 1 else Exit.FAILED)

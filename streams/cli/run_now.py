"""``streams run-now``: let events run before their time."""

from __future__ import annotations

from typing import Any

from streams.admin.status import EntryState
from streams.cli.cancel import Ids, InGroup, end, was, where
from streams.cli.common import StreamName, examples, one_line, person, say, write_json
from streams.cli.options import OnPartition, with_options
from streams.errors import NotFound, NotWaiting
from streams.pipeline import Pipeline

HELP = (
    "Let events run now that are scheduled, or that wait for a retry."
    "\n\nThey are due at once, and start when it is their turn; limits, pauses and "
    "the order of keys hold as ever. Who"
    " was impatient is in the stream's audit record."
    + examples(
        "streams run-now orders 7d3e5f0a1b2c3d4e-1",
        "streams run-now orders '10|1893456000000-0' --group billing",
    )
)


@with_options
def run_now(
    stream: StreamName, ids: Ids, *, group: InGroup = "", at: OnPartition
) -> None:
    """Let events run now; see HELP."""
    refused: dict[str, NotWaiting | NotFound] = {}

    async def main(pipeline: Pipeline) -> dict[str, EntryState]:
        hurried: dict[str, EntryState] = {}
        for id in dict.fromkeys(ids):
            try:
                hurried[id] = await pipeline.run_now(
                    stream, id, group, by=person(), partition=at.partition
                )
            except (NotWaiting, NotFound) as error:
                refused[id] = error
        return hurried

    hurried = at.ask(main)
    if at.as_json:
        rows = [_plain(id, state) for id, state in hurried.items()]
        told = [{"id": id, "message": str(error)} for id, error in refused.items()]
        write_json({"stream": stream, "due_now": rows, "refused": told})
    else:
        for id, state in hurried.items():
            say(f"{one_line(id)} on {where(state)} is due now: {was(state)}")
    end(ids, refused, at)


def _plain(id: str, state: EntryState) -> dict[str, Any]:
    return {
        "id": id,
        "stream": state.stream,
        "was": state.state,
        "group": state.group,
        "level": state.level,
        "due": state.due,
    }

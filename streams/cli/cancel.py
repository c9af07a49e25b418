"""``streams cancel``: take events out that are scheduled or wait for a retry."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from streams.admin.cancellations import Cancellation
from streams.admin.status import EntryState
from streams.cli.common import (
    AsJson,
    Namespace,
    PartitionNumber,
    StreamName,
    Url,
    connected,
    examples,
    finish,
    moment,
    person,
    remark,
    run,
    say,
    write_json,
)
from streams.cli.exit_codes import Exit, exit_code
from streams.cli.pause import one_line, place

HELP = (
    "Cancel events that are scheduled, or that wait for a retry."
    "\n\nA cancelled event is gone; who cancelled it is in the stream's audit record. Another group that still needs it"
    " keeps it. What is pending, processing, dead or done is refused, with what can be done instead."
    + examples(
        "streams cancel orders 7d3e5f0a1b2c3d4e-1",
        "streams cancel orders '10|1893456000000-0' --group billing",
    )
)


def cancel(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...",
            help="Event ids, entry ids, or LEVEL|ENTRY-ID.",
            show_default=False,
        ),
    ],
    *,
    group: Annotated[
        str,
        typer.Option(
            "--group",
            help="Where it waits for a retry, if it does in several.",
            show_default=False,
        ),
    ] = "",
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Cancel events; see HELP."""

    async def main() -> Cancellation:
        async with connected(url, namespace) as pipeline:
            return await pipeline.cancellations(
                stream, by=person(), partition=partition
            ).cancel_many(ids, group)

    outcome = run(main)
    if as_json:
        write_json(
            {
                "stream": stream,
                "cancelled": [
                    _plain(id, state) for id, state in outcome.cancelled.items()
                ],
                "refused": [
                    {
                        "id": id,
                        "state": getattr(error, "state", None),
                        "message": str(error),
                    }
                    for id, error in outcome.refused.items()
                ],
            }
        )
    else:
        for id, state in outcome.cancelled.items():
            where = place(state.stream, state.group, state.level)
            due = f", due {moment(state.due)}" if state.due is not None else ""
            say(f"cancelled {one_line(id)} on {where}: it was {state.state}{due}")
        for error in outcome.refused.values():
            remark(one_line(f"streams: {error}"))
    if outcome.refused:
        # One id: the code says what is wrong with it. Several: done in part.
        finish(
            exit_code(next(iter(outcome.refused.values())))
            if len(set(ids)) == 1
            else Exit.FAILED
        )


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

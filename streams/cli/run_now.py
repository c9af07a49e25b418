"""``streams run-now``: let events run before their time."""

from __future__ import annotations

from typing import Annotated, Any

import typer

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
from streams.errors import NotFound, NotWaiting

HELP = (
    "Let events run now that are scheduled, or that wait for a retry."
    "\n\nThey are due at once, and start when it is their turn; limits, pauses and the order of keys hold as ever. Who"
    " was impatient is in the stream's audit record."
    + examples(
        "streams run-now orders 7d3e5f0a1b2c3d4e-1",
        "streams run-now orders '10|1893456000000-0' --group billing",
    )
)


def run_now(  # noqa: PLR0913 - each is an option of the command
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
    """Let events run now; see HELP."""

    async def main() -> tuple[dict[str, EntryState], dict[str, NotWaiting | NotFound]]:
        hurried: dict[str, EntryState] = {}
        refused: dict[str, NotWaiting | NotFound] = {}
        async with connected(url, namespace) as pipeline:
            for id in dict.fromkeys(ids):
                try:
                    hurried[id] = await pipeline.run_now(
                        stream, id, group, by=person(), partition=partition
                    )
                except (NotWaiting, NotFound) as error:
                    refused[id] = error
        return hurried, refused

    hurried, refused = run(main)
    if as_json:
        rows: list[dict[str, Any]] = [
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
            where = place(state.stream, state.group, state.level)
            due = f", due {moment(state.due)}" if state.due is not None else ""
            say(f"{one_line(id)} on {where} is due now: it was {state.state}{due}")
        for error in refused.values():
            remark(one_line(f"streams: {error}"))
    if refused:
        finish(
            exit_code(next(iter(refused.values())))
            if len(set(ids)) == 1
            else Exit.FAILED
        )

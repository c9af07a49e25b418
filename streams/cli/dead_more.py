"""``streams dead edit`` and ``streams dead replays``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from streams.admin.outcomes import Outcomes, ReplayView
from streams.cli import dead
from streams.cli.common import (
    cell,
    check_group,
    examples,
    moment,
    say,
    stdout,
    table,
    write_json,
)
from streams.cli.dead_options import LetterId, letters_of
from streams.cli.options import OneGroup, OnPartition, with_options
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline

app = dead.app


@app.command(
    "edit",
    help="Put one dead letter back with another body."
    "\n\nThe rest of the event stays, its id too. The body comes from --data, or from "
    "standard input; it has to be JSON"
    " unless the event's media type says otherwise. dead show --body prints the "
    "present one."
    + examples(
        "streams dead edit orders billing 1893456000000-0 --data '{\"id\": 1}'",
        "streams dead edit orders billing 1893456000000-0 < mended.json",
    ),
)
@with_options
def edit(
    of: OneGroup,
    ident: LetterId,
    *,
    data: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The body.", show_default="standard input"),
    ] = None,
    at: OnPartition,
) -> None:
    """Edit and replay a dead letter."""
    text = sys.stdin.read() if data is None else data

    async def main(pipeline: Pipeline) -> str:
        letters = await letters_of(pipeline, of, at.partition)
        letter = await letters.show(ident)
        try:
            body = orjson.loads(text) if letter.is_json else text
        except orjson.JSONDecodeError as error:
            raise ConfigurationError(f"the body is no JSON: {error}") from None
        return await letters.replay_edited(ident, body)

    place = at.ask(main)
    if at.as_json:
        write_json({"replayed": ident, "entry": place})
    else:
        say(f"replayed {ident} with another body: it is {place} of {of.stream}")


@app.command(
    "replays",
    help="Show what became of the dead letters that were put back."
    "\n\nOne line for each replay, the latest first. What ended was handled or "
    "cancelled: nothing of it is kept."
    " Of one with more than 500 events, what became of the first 500 is told."
    + examples(
        "streams dead replays orders billing",
        "streams dead replays orders billing --json",
    ),
)
@with_options
def replays(
    of: OneGroup,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 10,
    at: OnPartition,
) -> None:
    """Show replays."""

    async def main(pipeline: Pipeline) -> list[ReplayView]:
        await check_group(pipeline, of.stream, of.group, at.partition)
        outcomes = Outcomes(pipeline, of.stream)
        return await outcomes.replays(of.group, limit, at.partition)

    found = at.ask(main)
    if at.as_json:
        write_json({"replays": [asdict(row) | {"now": dict(row.now)} for row in found]})
        return
    made = table(
        "AT",
        "BY",
        ">PUT BACK",
        ">ENDED",
        ">WAITING",
        ">PROCESSING",
        ">RETRYING",
        ">DEAD AGAIN",
    )
    for row in found:
        counts = (
            row.now[name]
            for name in ("ended", "waiting", "processing", "retrying", "dead")
        )
        made.add_row(moment(row.at), cell(row.by), str(row.count), *map(str, counts))
    stdout().print(made)

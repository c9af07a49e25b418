"""``streams find``, ``streams workers`` and ``streams audit``: lists in a terminal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from streams.admin.queries import Item, Queries, WorkerView, ident, shown, shown_facts
from streams.admin.searching import LOOKED_AT, Match, Search
from streams.admin.status import EntryState
from streams.cli.common import (
    StreamName,
    cell,
    examples,
    moment,
    option,
    remark,
    show_table,
    span,
    stdout,
    table,
    tell_away,
    write_json,
)
from streams.cli.options import OnPartition, OnServer, with_options
from streams.cli.show import place_of, plain_state
from streams.errors import NotFound
from streams.pipeline import Pipeline

FIND_HELP = (
    "Find events by id, key, tenant, instance, subject or source, on any stream."
    "\n\nBy what they carry, the newest 500 entries of each level and the newest 500 "
    "dead letters are looked at, on at"
    " most 20 streams."
    + examples(
        "streams find 7d3e5f0a1b2c3d4e-1", "streams find acme --stream orders --json"
    )
)
WORKERS_HELP = (
    "Show who works for which group, as they said last; they speak every ten seconds."
    "\n\nA worker that has said nothing for 30 seconds is marked silent: it was "
    "killed, cut off, or stopped with its"
    " machine. After an hour it is shown no more."
    "\n\nWith --in-hand also what each has in hand, what runs longest first: for how "
    "long its handler runs at least,"
    " and when its lease was renewed last."
    + examples("streams workers", "streams workers --in-hand --json")
)
AUDIT_HELP = (
    "Show what operators did on a stream, the latest first."
    "\n\nWho put events back, cancelled, paused or looked at a body: in terminals, on "
    "the dashboard and by the API."
    + examples("streams audit orders", "streams audit orders --limit 200 --json")
)


@with_options
async def find(
    pipeline: Pipeline,
    text: Annotated[str, typer.Argument(metavar="TEXT", show_default=False)],
    *,
    stream: Annotated[str, option("Only this one.")] = "",
    at: OnServer,
) -> None:
    """Find events; see FIND_HELP."""
    found = await Search(pipeline).search(text, stream)
    if at.as_json:
        matches = [
            asdict(match) | {"type": shown(match.type)} for match in found.matches
        ]
        write_json(
            {
                "states": [plain_state(state, body=False) for state in found.states],
                "matches": matches,
                "left_out": found.left_out,
                "away": [shard.as_plain() for shard in found.away],
            }
        )
        tell_away(found.away)
        return

    rows: list[tuple[EntryState | Match, str, str]] = [
        (state, state.state, "id") for state in found.states
    ]
    rows += [
        (match, "dead" if match.group else "stored", match.by)
        for match in found.matches
    ]
    if not rows and not found.away:
        raise NotFound(
            f"no event has this id, and none of the next {LOOKED_AT} scheduled, of the "
            "newest of each level and of the "
            "dead letters of each group carries it as its key, tenant, instance, "
            "subject or source"
        )

    made = table("WHERE", "STATE", "EVENT", "TYPE", "BY")
    for event, stands, by in rows:
        facts = (place_of(event), stands, ident(event.event_id), shown(event.type), by)
        made.add_row(*map(cell, facts))

    stdout().print(made)
    if found.left_out:
        remark(f"not looked at: {', '.join(found.left_out)}; name one with --stream")

    tell_away(found.away)


@with_options
async def workers(
    pipeline: Pipeline,
    *,
    in_hand: Annotated[
        bool, option("Also what each has in hand.", "--in-hand")
    ] = False,
    at: OnServer,
) -> None:
    """Show workers; see WORKERS_HELP."""
    queries = Queries(pipeline)
    found = [
        (w, await queries.in_hand(w.stream, w.group, w.name) if in_hand else [])
        for w in await queries.workers()
    ]
    away = queries.away

    if at.as_json:
        plain = [
            asdict(worker) | {"in_hand": list(map(_plain, items))}
            for worker, items in found
        ]
        write_json({"workers": plain, "away": [shard.as_plain() for shard in away]})
    else:
        show_table(
            workers_table(found),
            names={"WORKER": 14, "GROUP": 10, "HOST": 6},
            spare=("VERSION", "HOST", "DONE", "DONE/S"),
        )
        if any(items for _, items in found):
            stdout().print()
            names = {"IN HAND OF": 14, "EVENT": 14, "TYPE": 10}
            show_table(in_hand_table(found), names=names, spare=())

    tell_away(away)


def workers_table(found: list[tuple[WorkerView, list[Item]]]) -> Table:
    """One line for each worker."""
    made = table(
        "WORKER",
        "GROUP",
        "HOST",
        ">PID",
        "VERSION",
        ">BUSY",
        ">DONE",
        ">DONE/S",
        ">LAST HEARD OF",
    )
    for worker, _ in found:
        said = worker.said
        mark = "[red]silent[/] " if worker.state == "silent" else ""
        made.add_row(
            mark + cell(worker.name),
            cell(f"{worker.stream}/{worker.group}"),
            *(cell(said.get(name, "")) for name in ("host", "pid", "version")),
            f"{said.get('busy', 0)} / {said.get('concurrency', 0)}",
            str(said.get("done", 0)),
            str(said.get("rate", "")),
            span(worker.silent),
        )

    return made


def in_hand_table(found: list[tuple[WorkerView, list[Item]]]) -> Table:
    """One line for each event that a worker runs, those of a worker together."""
    rows = (
        (
            cell(worker.name),
            cell(ident(item.event_id)),
            cell(shown(item.type)),
            span(item.runs),
            "" if item.listed.silent is None else f"{span(item.listed.silent)} ago",
        )
        for worker, items in found
        for item in items
    )
    columns = ("IN HAND OF", "EVENT", "TYPE", ">RUNS FOR", ">LEASE RENEWED")
    return table(*columns, rows=rows)


@with_options
async def audit(
    pipeline: Pipeline,
    stream: StreamName,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    before: Annotated[str, option("Go on before this row.")] = "",
    at: OnPartition,
) -> None:
    """Show the audit record; see AUDIT_HELP."""
    await pipeline.status().existing(stream)
    stored = await Queries(pipeline).audit(stream, before, limit, at.partition)
    rows = [(place, shown_facts(facts)) for place, facts in stored]
    if at.as_json:
        write_json({"rows": [{"id": place, **facts} for place, facts in rows]})
        return

    made = table("AT", "WHAT", "BY", "*MORE")
    for place, facts in rows:
        done = moment(int(place.partition("-")[0]) / 1000)
        action, by = facts.pop("action", ""), facts.pop("by", "")
        more = " ".join(f"{name}={value}" for name, value in facts.items())
        made.add_row(done, *map(cell, (action, by, more)))

    stdout().print(made)


def _plain(item: Item) -> dict[str, Any]:
    listed = item.listed
    return {
        "entry": f"{listed.level}|{listed.place}",
        "event_id": item.event_id,
        "type": shown(item.type),
        "runs": item.runs,
        "silent": listed.silent,
        "deliveries": listed.deliveries,
    }

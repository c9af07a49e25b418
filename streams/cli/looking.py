"""``streams find``, ``streams workers`` and ``streams audit``: what the dashboard shows, in a terminal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from streams.admin.queries import Item, Queries, WorkerView, ident, shown, shown_facts
from streams.admin.searching import LOOKED_AT, Search, SearchResult
from streams.broker.server.shards import Away
from streams.cli.common import (
    StreamName,
    cell,
    examples,
    moment,
    remark,
    show_table,
    span,
    stdout,
    table,
    tell_away,
    write_json,
)
from streams.cli.options import OnPartition, OnServer, with_options
from streams.cli.show import plain_state
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
def find(
    text: Annotated[str, typer.Argument(metavar="TEXT", show_default=False)],
    *,
    stream: Annotated[
        str, typer.Option("--stream", help="Only this one.", show_default=False)
    ] = "",
    at: OnServer,
) -> None:
    """Find events; see FIND_HELP."""
    found = at.ask(lambda pipeline: Search(pipeline).search(text, stream))
    if at.as_json:
        states = [plain_state(state, body=False) for state in found.states]
        write_json(
            {
                "states": states,
                "matches": [
                    asdict(match) | {"type": shown(match.type)}
                    for match in found.matches
                ],
                "left_out": found.left_out,
                "away": [shard.as_plain() for shard in found.away],
            }
        )
        tell_away(found.away)
        return
    _none_found(found)
    made = table("WHERE", "STATE", "EVENT", "TYPE", "BY")
    for state in found.states:
        where = f"{state.stream}/{state.group}".rstrip("/")
        made.add_row(
            *map(
                cell,
                (where, state.state, ident(state.event_id), shown(state.type), "id"),
            )
        )
    for match in found.matches:
        where = f"{match.stream}/{match.group}".rstrip("/")
        stands = "dead" if match.group else "stored"
        made.add_row(
            *map(
                cell,
                (where, stands, ident(match.event_id), shown(match.type), match.by),
            )
        )
    stdout().print(made)
    if found.left_out:
        remark(f"not looked at: {', '.join(found.left_out)}; name one with --stream")
    tell_away(found.away)


def _none_found(found: SearchResult) -> None:
    """End with a sentence if there is nothing to show, and nothing that could not be asked."""
    if not found.states and not found.matches and not found.away:
        raise NotFound(
            f"no event has this id, and none of the next {LOOKED_AT} scheduled, of the "
            "newest of each level and of the "
            "dead letters of each group carries it as its key, tenant, instance, "
            "subject or source"
        )


@with_options
def workers(
    *,
    in_hand: Annotated[
        bool, typer.Option("--in-hand", help="Also what each has in hand.")
    ] = False,
    at: OnServer,
) -> None:
    """Show workers; see WORKERS_HELP."""

    async def main(
        pipeline: Pipeline,
    ) -> tuple[list[tuple[WorkerView, list[Item]]], list[Away]]:
        queries = Queries(pipeline)
        workers = await queries.workers()
        found = [
            (w, await queries.in_hand(w.stream, w.group, w.name) if in_hand else [])
            for w in workers
        ]
        return found, queries.away

    found, away = at.ask(main)
    if at.as_json:
        plain = [
            asdict(worker) | {"in_hand": list(map(_plain, items))}
            for worker, items in found
        ]
        write_json({"workers": plain, "away": [shard.as_plain() for shard in away]})
        tell_away(away)
        return
    names = {"WORKER": 14, "GROUP": 10, "HOST": 6}
    show_table(
        workers_table(found), names=names, spare=("VERSION", "HOST", "DONE", "DONE/S")
    )
    if any(items for _, items in found):
        stdout().print()
        show_table(
            in_hand_table(found),
            names={"IN HAND OF": 14, "EVENT": 14, "TYPE": 10},
            spare=(),
        )
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
            cell(said.get("host", "")),
            cell(said.get("pid", "")),
            cell(said.get("version", "")),
            f"{said.get('busy', 0)} / {said.get('concurrency', 0)}",
            str(said.get("done", 0)),
            str(said.get("rate", "")),
            span(worker.silent),
        )
    return made


def in_hand_table(found: list[tuple[WorkerView, list[Item]]]) -> Table:
    """One line for each event that a worker has in hand, those of a worker together."""
    made = table("IN HAND OF", "EVENT", "TYPE", ">RUNS FOR", ">LEASE RENEWED")
    for worker, items in found:
        for item in items:
            runs = "" if item.runs is None else span(item.runs)
            renewed = (
                f"{span(item.listed.silent)} ago"
                if item.listed.silent is not None
                else ""
            )
            made.add_row(
                *map(
                    cell,
                    (
                        worker.name,
                        ident(item.event_id),
                        shown(item.type),
                        runs,
                        renewed,
                    ),
                )
            )
    return made


@with_options
def audit(
    stream: StreamName,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    before: Annotated[
        str, typer.Option(help="Go on before this row.", show_default=False)
    ] = "",
    at: OnPartition,
) -> None:
    """Show the audit record; see AUDIT_HELP."""

    async def main(pipeline: Pipeline) -> list[tuple[str, dict[str, str]]]:
        await pipeline.status().existing(stream)
        return await Queries(pipeline).audit(stream, before, limit, at.partition)

    rows = at.ask(main)
    if at.as_json:
        write_json(
            {"rows": [{"id": place, **shown_facts(facts)} for place, facts in rows]}
        )
        return
    made = table("AT", "WHAT", "BY", "*MORE")
    for place, stored in rows:
        facts = shown_facts(stored)
        more = " ".join(
            f"{name}={value}"
            for name, value in facts.items()
            if name not in ("action", "by")
        )
        done = moment(int(place.partition("-")[0]) / 1000)
        made.add_row(
            done, *map(cell, (facts.get("action", ""), facts.get("by", ""), more))
        )
    stdout().print(made)


def _plain(item: Item) -> dict[str, Any]:
    entry = f"{item.listed.level}|{item.listed.place}"
    return {
        "entry": entry,
        "event_id": item.event_id,
        "type": shown(item.type),
        "runs": item.runs,
        "silent": item.listed.silent,
        "deliveries": item.listed.deliveries,
    }

"""``streams keys``: the ordered keys of a group, and how a held one goes on."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

import typer

from streams.admin.ordered_keys import OrderedKey
from streams.admin.partitioned import in_part
from streams.cli.common import (
    AsJson,
    GroupName,
    Namespace,
    PartitionNumber,
    StreamName,
    Url,
    cell,
    connected,
    examples,
    moment,
    person,
    run,
    say,
    stdout,
    table,
    tell_missing,
    write_json,
)
from streams.common.masking import masked

app = typer.Typer(
    help="Show the keys whose order a group keeps, and let held ones go on.",
    no_args_is_help=True,
)

KeyName = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="The key, its parts joined by commas.", show_default=False
    ),
]


@app.command(
    "ls",
    help="Show the keys that are held because an event of theirs died."
    "\n\nWith --all also those at work. The keys with the most behind them come first; long numbers in keys are masked."
    + examples(
        "streams keys ls whatsapp sender",
        "streams keys ls whatsapp sender --all --limit 20",
    ),
)
def ls(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Keys at work too.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="Keys to show.")
    ] = 100,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show ordered keys."""

    async def main() -> tuple[list[OrderedKey], tuple[str, ...]]:
        async with connected(url, namespace) as pipeline:
            keys = pipeline.ordered_keys(stream, group, partition=partition)
            return await in_part(keys.list(limit, state=None if everything else "held"))

    rows, away = run(main)
    found = [replace(key, key=masked(key.key)) for key in rows]
    if as_json:
        write_json(
            {
                "stream": stream,
                "group": group,
                "keys": [asdict(key) for key in found],
                "away": away,
            }
        )
        tell_missing(stream, away)
        return
    if not found:
        say(
            f"no key of {stream}/{group} is "
            + ("at work or held" if everything else "held")
        )
        tell_missing(stream, away)
        return
    shown = table("KEY", "STATE", "BEHIND", "EVENT", "SINCE")
    for key in found:
        since = moment(key.since) if key.since else ""
        shown.add_row(
            cell(key.key),
            key.state,
            str(key.behind),
            cell(key.event_id or key.head),
            since,
        )
    stdout().print(shown)
    tell_missing(stream, away)


@app.command(
    "release",
    help="Try the dead event of a held key again; what waits behind it follows in order."
    + examples("streams keys release whatsapp sender 5511999999999"),
)
def release(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    key: KeyName,
    *,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Replay the head of a held key."""

    async def main() -> str:
        async with connected(url, namespace) as pipeline:
            return await pipeline.ordered_keys(
                stream, group, by=person(), partition=partition
            ).release(key)

    place = run(main)
    if as_json:
        write_json(
            {"stream": stream, "group": group, "key": masked(key), "entry": place}
        )
    else:
        say(
            f"released {masked(key)} of {stream}/{group}: its dead event is tried again as {place}"
        )


@app.command(
    "skip",
    help="Let a held key go on without its dead event, which stays among the dead letters."
    + examples("streams keys skip whatsapp sender 5511999999999"),
)
def skip(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    key: KeyName,
    *,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Let a held key go on."""

    async def main() -> None:
        async with connected(url, namespace) as pipeline:
            await pipeline.ordered_keys(
                stream, group, by=person(), partition=partition
            ).skip(key)

    run(main)
    if as_json:
        write_json(
            {"stream": stream, "group": group, "key": masked(key), "skipped": True}
        )
    else:
        say(
            f"skipped the dead event of {masked(key)} of {stream}/{group}; it stays among the dead letters"
        )

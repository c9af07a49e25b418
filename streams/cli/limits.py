"""``streams limits``: what limits a group has, who waits, and changing them while it runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from streams.admin.limits import LimitInfo
from streams.admin.partitioned import in_part
from streams.broker.admin.limits import KeyState
from streams.cli.common import (
    AsJson,
    GroupName,
    Namespace,
    PartitionNumber,
    StreamName,
    Url,
    cell,
    check_group,
    connected,
    examples,
    moment,
    person,
    run,
    say,
    seconds,
    stdout,
    table,
    tell_missing,
    write_json,
)
from streams.common.masking import masked
from streams.errors import ConfigurationError

app = typer.Typer(
    help="Show the limits of a group and who waits for them, and change them.",
    no_args_is_help=True,
)

LimitName = Annotated[
    str, typer.Argument(help="Name of the limit.", show_default=False)
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="Only for this key, its parts joined by commas.",
        show_default=False,
    ),
]


@app.command(
    "ls",
    help="Show the limits of a group: what its handlers declare, and what is set instead."
    "\n\nWith --waiting also the keys that have the longest to wait, which walks through the keys of the server. Long"
    " numbers in keys are masked."
    + examples(
        "streams limits ls whatsapp sender",
        "streams limits ls whatsapp sender --waiting 20",
    ),
)
def ls(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    *,
    waiting: Annotated[
        int, typer.Option("--waiting", min=0, max=10_000, help="Keys to show.")
    ] = 0,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show the limits of a group."""

    async def main() -> tuple[list[LimitInfo], list[KeyState], tuple[str, ...]]:
        async with connected(url, namespace) as pipeline:
            limits = pipeline.limits(stream, group, partition=partition)
            infos, away = await in_part(limits.list())
            if not infos and not away:
                await check_group(pipeline, stream, group, partition)
            states, _ = await in_part(limits.waiting(waiting)) if waiting else ([], ())
            return infos, states, away

    infos, states, away = run(main)
    infos = [
        LimitInfo(
            i.name, i.declared, i.set, {masked(key): to for key, to in i.keys.items()}
        )
        for i in infos
    ]
    states = [state._replace(key=masked(state.key)) for state in states]
    if as_json:
        write_json(
            {
                "stream": stream,
                "group": group,
                "limits": [asdict(info) for info in infos],
                "waiting": [state._asdict() for state in states],
                "away": away,
            }
        )
        tell_missing(stream, away)
        return
    if not infos:
        say(f"{stream}/{group} has no limits")
        tell_missing(stream, away)
        return
    shown = table("LIMIT", "KEY", "DECLARED", "SET")
    for info in infos:
        shown.add_row(cell(info.name), "", cell(info.declared), cell(info.set))
        for key, to in info.keys.items():
            shown.add_row("", cell(key), "", cell(to))
    stdout().print(shown)
    if states:
        shown = table("LIMIT", "KEY", "LAST RESERVED START", "THROTTLED UNTIL")
        for state in states:
            shown.add_row(
                cell(state.limit),
                cell(state.key),
                moment(state.waiting_until) if state.waiting_until else "",
                moment(state.throttled_until) if state.throttled_until else "",
            )
        stdout().print(shown)
    tell_missing(stream, away)


@app.command(
    "set",
    help="Set a limit for all workers, now and until it is reset; for all its keys or for one."
    "\n\nIt holds with the next read of each worker. Events that wait for the limit get a new time, which walks through"
    " all that waits."
    + examples(
        "streams limits set whatsapp sender instance 20/s --burst 5",
        "streams limits set whatsapp sender tenant 1/s --key acme",
    ),
)
def set_(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    name: LimitName,
    rate: Annotated[
        str,
        typer.Argument(help="Count per time: 60/s, 1/6s, 5000/h.", show_default=False),
    ],
    *,
    burst: Annotated[
        int | None,
        typer.Option(
            "--burst", help="How many at once after a quiet time.", show_default=False
        ),
    ] = None,
    key: Key = None,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Set a limit."""

    async def main() -> str:
        async with connected(url, namespace) as pipeline:
            return await pipeline.limits(
                stream, group, by=person(), partition=partition
            ).set(name, rate, burst, key=key)

    before = run(main)
    if as_json:
        write_json(
            {
                "stream": stream,
                "group": group,
                "limit": name,
                "key": key and masked(key),
                "before": before,
            }
        )
    else:
        say(
            f"set {_where(name, key)} of {stream}/{group} to {rate}"
            + (f"; it was set to {before}" if before else "")
        )


@app.command(
    "reset",
    help="Back to what the handlers declare."
    + examples("streams limits reset whatsapp sender instance"),
)
def reset(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    name: LimitName,
    *,
    key: Key = None,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Take back what was set."""

    async def main() -> str:
        async with connected(url, namespace) as pipeline:
            return await pipeline.limits(
                stream, group, by=person(), partition=partition
            ).reset(name, key=key)

    before = run(main)
    if as_json:
        write_json(
            {
                "stream": stream,
                "group": group,
                "limit": name,
                "key": key and masked(key),
                "before": before,
            }
        )
    elif before:
        say(f"reset {_where(name, key)} of {stream}/{group}; it was set to {before}")
    else:
        say(f"nothing was set for {_where(name, key)} of {stream}/{group}")


@app.command(
    "throttle",
    help="Let nothing of a key start for a time, or end that with --off."
    "\n\nAs a handler does with Throttle when its provider says to wait. At most a day; what waits costs no attempt,"
    " and is looked at anew when the throttle ends or is lifted."
    + examples(
        "streams limits throttle whatsapp sender instance 10m --key 15550001",
        "streams limits throttle whatsapp sender instance --key 15550001 --off",
    ),
)
def throttle(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    group: GroupName,
    name: LimitName,
    span: Annotated[
        float | None,
        typer.Argument(
            parser=seconds(0, 86_400),
            metavar="[SPAN]",
            help="For how long: seconds, 90s, 10m.",
            show_default=False,
        ),
    ] = None,
    *,
    key: Annotated[
        str,
        typer.Option(
            "--key",
            help="Of which key, its parts joined by commas.",
            show_default=False,
        ),
    ],
    off: Annotated[bool, typer.Option("--off", help="Lift it.")] = False,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Throttle a key."""
    if (span is None) != off:
        raise ConfigurationError(
            "give either a span, such as 10m, for how long nothing starts, or --off, which lifts it"
        )

    async def main() -> float:
        async with connected(url, namespace) as pipeline:
            limits = pipeline.limits(stream, group, by=person(), partition=partition)
            return await limits.throttle(name, key, span or 0.0)

    until = run(main)
    if as_json:
        write_json(
            {
                "stream": stream,
                "group": group,
                "limit": name,
                "key": masked(key),
                "until": until if span else None,
            }
        )
    elif span:
        where = _where(name, key)
        say(
            f"throttled {where} of {stream}/{group} until {moment(until)}; --off lifts it"
        )
    else:
        say(f"{_where(name, key)} of {stream}/{group} is not throttled any more")


def _where(name: str, key: str | None) -> str:
    return name if key is None else f"{name} for {masked(key)}"

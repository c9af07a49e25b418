"""``streams limits``: the limits of a group, and the keys that wait for them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import typer
from rich.table import Table

from streams.admin.limits import LimitInfo
from streams.admin.partitioned import in_part
from streams.broker.admin.limits import KeyState
from streams.cli.common import (
    argument,
    cell,
    check_group,
    examples,
    moment,
    option,
    say,
    seconds,
    stdout,
    table,
    tell_missing,
    write_json,
)
from streams.cli.options import OneGroup, OnPartition, with_options
from streams.common.masking import masked
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline

app = typer.Typer(
    help="Show the limits of a group and who waits for them, and change them.",
    no_args_is_help=True,
)

LimitName = Annotated[str, argument(None, "Name of the limit.")]
Key = Annotated[str | None, option("Only for this key, its parts joined by commas.")]


@dataclass(frozen=True, kw_only=True)
class LimitOptions(OnPartition):
    """Options of ``set``."""

    burst: Annotated[int | None, option("How many at once after a quiet time.")] = None
    key: Key = None


@app.command(
    "ls",
    help="Show the limits of a group: what its handlers declare, and what is set instead."
    "\n\nWith --waiting also the keys that have the longest to wait, which walks "
    "through the keys of the server. Long"
    " numbers in keys are masked."
    + examples(
        "streams limits ls orders billing",
        "streams limits ls orders billing --waiting 20",
    ),
)
@with_options
async def ls(
    pipeline: Pipeline,
    of: OneGroup,
    *,
    waiting: Annotated[int, typer.Option(min=0, max=10_000, help="Keys to show.")] = 0,
    at: OnPartition,
) -> None:
    """Show the limits of a group."""
    limits = of.on(pipeline, at).limits()
    infos, away = await in_part(limits.list())

    if not infos and not away:
        await check_group(pipeline, of.stream, of.group, at.partition)

    states, _ = await in_part(limits.waiting(waiting)) if waiting else ([], ())

    infos = [
        replace(info, keys={masked(key): to for key, to in info.keys.items()})
        for info in infos
    ]

    states = [state._replace(key=masked(state.key)) for state in states]

    if at.as_json:
        plain = {
            "limits": list(map(asdict, infos)),
            "waiting": [state._asdict() for state in states],
        }

        write_json({**asdict(of), **plain, "away": away})
    elif not infos:
        say(f"{of} has no limits")
    else:
        stdout().print(_limits_table(infos))
        if states:
            stdout().print(_keys_table(states))

    tell_missing(of.stream, away)


def _limits_table(infos: list[LimitInfo]) -> Table:
    shown = table("LIMIT", "KEY", "DECLARED", "SET")

    for info in infos:
        shown.add_row(cell(info.name), "", cell(info.declared), cell(info.set))

        for key, to in info.keys.items():
            shown.add_row("", cell(key), "", cell(to))

    return shown


def _keys_table(states: list[KeyState]) -> Table:
    rows = (
        (
            cell(state.limit),
            cell(state.key),
            moment(state.waiting_until) if state.waiting_until else "",
            moment(state.throttled_until) if state.throttled_until else "",
        )
        for state in states
    )

    return table("LIMIT", "KEY", "LAST RESERVED START", "THROTTLED UNTIL", rows=rows)


@app.command(
    "set",
    help="Set a limit for all workers, now and until it is reset; for all its keys or for one."
    "\n\nIt holds with the next read of each worker. Events that wait for the limit "
    "get a new time, which walks through"
    " all that waits."
    + examples(
        "streams limits set orders billing tenant 20/s --burst 5",
        "streams limits set orders billing tenant 1/s --key acme",
    ),
)
@with_options
async def set_(
    pipeline: Pipeline,
    of: OneGroup,
    name: LimitName,
    rate: Annotated[str, argument(None, "Count per time: 60/s, 1/6s, 5000/h.")],
    *,
    how: LimitOptions,
) -> None:
    """Set a limit."""
    key = how.key
    limits = of.on(pipeline, how).limits()

    before = await limits.set(name, rate, how.burst, key=key)
    where = _where(of, name, key)
    was = f"; it was set to {before}" if before else ""
    how.tell(
        _plain(of, name, key) | {"before": before},
        f"set {where} to {rate}{was}",
    )


@app.command(
    "reset",
    help="Back to what the handlers declare."
    + examples("streams limits reset orders billing tenant"),
)
@with_options
async def reset(
    pipeline: Pipeline,
    of: OneGroup,
    name: LimitName,
    *,
    key: Key = None,
    at: OnPartition,
) -> None:
    """Take back what was set."""
    before = await of.on(pipeline, at).limits().reset(name, key=key)
    where = _where(of, name, key)
    at.tell(
        _plain(of, name, key) | {"before": before},
        f"reset {where}; it was set to {before}"
        if before
        else f"nothing was set for {where}",
    )


@app.command(
    "throttle",
    help="Let nothing of a key start for a time, or end that with --off."
    "\n\nAs a handler does with Throttle when its provider says to wait. At most a "
    "day; what waits costs no attempt,"
    " and is looked at anew when the throttle ends or is lifted."
    + examples(
        "streams limits throttle orders billing tenant 10m --key acme",
        "streams limits throttle orders billing tenant --key acme --off",
    ),
)
@with_options
def throttle(
    of: OneGroup,
    name: LimitName,
    span: Annotated[
        float | None,
        argument(
            "[SPAN]",
            "For how long: seconds, 90s, 10m.",
            parser=seconds(0, 86_400),
        ),
    ] = None,
    *,
    key: Annotated[str, option("Of which key, its parts joined by commas.")],
    off: Annotated[bool, option("Lift it.", "--off")] = False,
    at: OnPartition,
) -> None:
    """Throttle a key."""
    if (span is None) != off:
        raise ConfigurationError(
            "give either a span, such as 10m, for how long nothing starts, "
            "or --off, which lifts it"
        )

    until = at.ask(
        lambda pipeline: of.on(pipeline, at).limits().throttle(name, key, span or 0.0)
    )

    where = _where(of, name, key)
    at.tell(
        _plain(of, name, key) | {"until": until if span else None},
        f"throttled {where} until {moment(until)}; --off lifts it"
        if span
        else f"{where} is not throttled any more",
    )


def _plain(of: OneGroup, name: str, key: str | None) -> dict[str, Any]:
    """A limit as plain JSON types; the key is masked."""
    return {**asdict(of), "limit": name, "key": key and masked(key)}


def _where(of: OneGroup, name: str, key: str | None) -> str:
    if key is None:
        return f"{name} of {of}"

    return f"{name} for {masked(key)} of {of}"

"""``streams pause`` and ``streams resume``: hold back a stream, a group or a level, and let it go on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, cast

import typer

from streams.admin.partitioned import in_part
from streams.admin.pauses import Pause, PausedAttribute, Pausing, Resumption
from streams.cli.common import (
    AsJson,
    Namespace,
    PartitionNumber,
    StreamName,
    Url,
    connected,
    examples,
    moment,
    person,
    remark,
    run,
    say,
    tell_missing,
    write_json,
)
from streams.common.masking import masked
from streams.errors import ConfigurationError

PAUSE_HELP = (
    "Hold back a stream, a group, a level, or what has a type, tenant, instance, subject or key."
    "\n\nWithin a second no worker starts anything of it, busy or idle, running now or started later. Events are kept,"
    " no attempt is burnt, running handlers finish, and publishing goes on. What is paused already stays as it was."
    "\n\n--list shows what is paused, and how many events were put aside for it, which walks through all that waits."
    + examples(
        "streams pause orders",
        "streams pause orders --group billing --reason 'the bank is down'",
        "streams pause orders --level 0",
        "streams pause orders --tenant acme",
        "streams pause orders --list",
    )
)
RESUME_HELP = (
    "Let what was paused go on, within a second."
    "\n\nEnds the pause of exactly what is named: a paused level stays paused when its stream is resumed. What remains"
    " paused is said; --all ends every pause of the stream. Resuming what is not paused changes nothing, says"
    " so, and ends with 0, as every command does that has nothing left to do."
    + examples(
        "streams resume orders --group billing",
        "streams resume orders --tenant acme",
        "streams resume orders --all",
    )
)

Group = Annotated[
    str, typer.Option("--group", help="Only this group.", show_default=False)
]
Level = Annotated[
    int | None, typer.Option("--level", help="Only this level.", show_default=False)
]


def _only(name: str) -> Any:
    return typer.Option(
        f"--{name}", help=f"Only events of this {name}.", show_default=False
    )


Type = Annotated[str | None, _only("type")]
Tenant = Annotated[str | None, _only("tenant")]
Instance = Annotated[str | None, _only("instance")]
Subject = Annotated[str | None, _only("subject")]
Key = Annotated[str | None, _only("key")]


def pause(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    *,
    group: Group = "",
    level: Level = None,
    type: Type = None,
    tenant: Tenant = None,
    instance: Instance = None,
    subject: Subject = None,
    key: Key = None,
    reason: Annotated[
        str,
        typer.Option(
            "--reason",
            help="Why; whoever looks at the stream will see it.",
            show_default=False,
        ),
    ] = "",
    show: Annotated[
        bool, typer.Option("--list", help="Only show what is paused.")
    ] = False,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Pause; see PAUSE_HELP."""
    attribute = _attribute(
        type=type, tenant=tenant, instance=instance, subject=subject, key=key
    )
    if show:
        if group or level is not None or attribute or reason:
            raise ConfigurationError(
                "--list shows every pause of the stream: give it alone"
            )
        _list(stream, partition, as_json=as_json, url=url, namespace=namespace)
        return

    async def main() -> Pausing:
        async with connected(url, namespace) as pipeline:
            pauses = pipeline.pauses(stream, by=person(), partition=partition)
            return await pauses.pause(
                group=group, level=level, reason=reason, **attribute
            )

    outcome = run(main)
    if as_json:
        write_json({"stream": stream, "new": outcome.new, **_plain(outcome.pause)})
    elif outcome.new:
        say(f"paused {named(stream, outcome.pause)}")
    else:
        say(
            f"{named(stream, outcome.pause)} was paused already, {story(outcome.pause)}"
        )


def _list(
    stream: str,
    partition: int | None,
    *,
    as_json: bool,
    url: str | None,
    namespace: str | None,
) -> None:
    async def main() -> tuple[list[Pause], dict[str, int], tuple[str, ...]]:
        async with connected(url, namespace) as pipeline:
            pauses = pipeline.pauses(stream, partition=partition)
            found, away = await in_part(pauses.list())
            held, _ = (
                await in_part(pauses.held())
                if any(pause.attribute for pause in found)
                else ({}, ())
            )
            return found, held, away

    found, held, away = run(main)
    if as_json:
        rows = [{**_plain(p), "held": held.get(p.scope, 0)} for p in found]
        write_json({"stream": stream, "pauses": rows, "away": away})
        tell_missing(stream, away)
        return
    for pause in found:
        count = f", {held.get(pause.scope, 0)} put aside" if pause.attribute else ""
        say(f"paused: {named(stream, pause)}, {story(pause)}{count}")
    if not found:
        say(f"nothing of {stream} is paused")
    tell_missing(stream, away)


def resume(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    *,
    group: Group = "",
    level: Level = None,
    type: Type = None,
    tenant: Tenant = None,
    instance: Instance = None,
    subject: Subject = None,
    key: Key = None,
    everything: Annotated[
        bool, typer.Option("--all", help="End every pause of the stream.")
    ] = False,
    partition: PartitionNumber = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Resume; see RESUME_HELP."""
    attribute = _attribute(
        type=type, tenant=tenant, instance=instance, subject=subject, key=key
    )
    if everything and (group or level is not None or attribute):
        raise ConfigurationError(
            "--all ends every pause of the stream: give it alone, or --group, --level and the others without it"
        )

    async def main() -> Resumption:
        async with connected(url, namespace) as pipeline:
            pauses = pipeline.pauses(stream, by=person(), partition=partition)
            return await (
                pauses.resume_all()
                if everything
                else pauses.resume(group=group, level=level, **attribute)
            )

    outcome = run(main)
    if as_json:
        parts = {
            name: [_plain(pause) for pause in getattr(outcome, name)]
            for name in ("resumed", "remaining")
        }
        write_json({"stream": stream, **parts})
        return
    for ended in outcome.resumed:
        say(f"resumed {named(stream, ended)}, {story(ended)}")
    if not outcome.resumed:
        words = "".join(
            f", {name} {masked(str(value))}" for name, value in attribute.items()
        )
        say(f"nothing was resumed: {place(stream, group, level)}{words} is not paused")
    for other in outcome.remaining:
        remark(f"still paused: {named(stream, other)}, {story(other)}")


def _attribute(**given: str | None) -> PausedAttribute:
    return cast(
        "PausedAttribute",
        {name: value for name, value in given.items() if value is not None},
    )


def _plain(pause: Pause) -> dict[str, Any]:
    """A pause as plain JSON types; long numbers are masked."""
    return {**asdict(pause), "scope": masked(pause.scope), "value": masked(pause.value)}


def named(stream: str, pause: Pause) -> str:
    """What is paused, e.g. ``orders, group billing, tenant acme``; of partitions those that it holds, if not all."""
    if pause.partitions:
        stream = f"{stream}, partition {' '.join(map(str, pause.partitions))}"
    if pause.attribute:
        return f"{place(stream, pause.group, None)}, {pause.attribute} {masked(one_line(pause.value))}"
    if not pause.group and pause.level is None and pause.scope != "stream":
        return f"{stream}, {pause.scope}"
    return place(stream, pause.group, pause.level)


def place(stream: str, group: str, level: int | None) -> str:
    """Stream, group and level in words."""
    return (
        stream
        + (f", group {group}" if group else "")
        + ("" if level is None else f", level {level}")
    )


def story(pause: Pause) -> str:
    """Who, since when and why."""
    why = f": {one_line(pause.reason)}" if pause.reason else ""
    return f"by {one_line(pause.by)} since {moment(pause.at)}{why}"


def one_line(text: str) -> str:
    """Text that cannot break the line or command the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)

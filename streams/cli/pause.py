"""``streams pause`` and ``streams resume``: hold back a stream, a group or a level, and let it go on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from streams.cli.common import (
    AsJson,
    Namespace,
    StreamName,
    Url,
    connected,
    examples,
    moment,
    person,
    remark,
    run,
    say,
    write_json,
)
from streams.errors import ConfigurationError
from streams.pauses import Pause, Pausing, Resumption

PAUSE_HELP = (
    "Hold back a stream, a group, a level, or a level of one group."
    "\n\nWithin a second no worker starts anything of it, busy or idle, running now or started later. Events are kept,"
    " no attempt is burnt, running handlers finish, and publishing goes on. What is paused already stays as it was."
    + examples(
        "streams pause orders",
        "streams pause orders --group billing --reason 'the bank is down'",
        "streams pause orders --level 0",
    )
)
RESUME_HELP = (
    "Let what was paused go on, within a second."
    "\n\nEnds the pause of exactly what is named: a paused level stays paused when its stream is resumed. What remains"
    " paused is said; --all ends every pause of the stream. Resuming what is not paused changes nothing."
    + examples("streams resume orders --group billing", "streams resume orders --all")
)

Group = Annotated[str, typer.Option("--group", help="Only this group.", show_default=False)]
Level = Annotated[int | None, typer.Option("--level", help="Only this level.", show_default=False)]


def pause(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    *,
    group: Group = "",
    level: Level = None,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; whoever looks at the stream will see it.", show_default=False)
    ] = "",
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Pause; see PAUSE_HELP."""

    async def main() -> Pausing:
        async with connected(url, namespace) as pipeline:
            return await pipeline.pauses(stream, by=person()).pause(group=group, level=level, reason=reason)

    outcome = run(main)
    if as_json:
        write_json({"stream": stream, "new": outcome.new, **asdict(outcome.pause)})
    elif outcome.new:
        say(f"paused {named(stream, outcome.pause)}")
    else:
        say(f"{named(stream, outcome.pause)} was paused already, {story(outcome.pause)}")


def resume(  # noqa: PLR0913 - each is an option of the command
    stream: StreamName,
    *,
    group: Group = "",
    level: Level = None,
    everything: Annotated[bool, typer.Option("--all", help="End every pause of the stream.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Resume; see RESUME_HELP."""
    if everything and (group or level is not None):
        raise ConfigurationError(
            "--all ends every pause of the stream: give it alone, or --group and --level without it"
        )

    async def main() -> Resumption:
        async with connected(url, namespace) as pipeline:
            pauses = pipeline.pauses(stream, by=person())
            return await (pauses.resume_all() if everything else pauses.resume(group=group, level=level))

    outcome = run(main)
    if as_json:
        write_json({"stream": stream, **asdict(outcome)})
        return
    for ended in outcome.resumed:
        say(f"resumed {named(stream, ended)}, {story(ended)}")
    if not outcome.resumed:
        say(f"nothing was resumed: {place(stream, group, level)} is not paused")
    for other in outcome.remaining:
        remark(f"still paused: {named(stream, other)}, {story(other)}")


def named(stream: str, pause: Pause) -> str:
    """What is paused, e.g. ``orders, group billing, level 5``."""
    if not pause.group and pause.level is None and pause.scope != "stream":
        return f"{stream}, {pause.scope}"
    return place(stream, pause.group, pause.level)


def place(stream: str, group: str, level: int | None) -> str:
    """Stream, group and level in words."""
    return stream + (f", group {group}" if group else "") + ("" if level is None else f", level {level}")


def story(pause: Pause) -> str:
    """Who, since when and why."""
    why = f": {one_line(pause.reason)}" if pause.reason else ""
    return f"by {one_line(pause.by)} since {moment(pause.at)}{why}"


def one_line(text: str) -> str:
    """Text that cannot break the line or command the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)

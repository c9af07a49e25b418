"""``streams pause`` and ``streams resume``, of a stream, a group, a level or a tenant."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, cast

from streams.admin.partitioned import in_part
from streams.admin.pauses import Pause, PausedAttribute, Pausing, Resumption
from streams.cli.common import (
    StreamName,
    examples,
    moment,
    one_line,
    option,
    remark,
    say,
    tell_missing,
    write_json,
)
from streams.cli.options import OnPartition, with_options
from streams.common.masking import masked
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline

PAUSE_HELP = (
    "Hold back a stream, a group, a level, or what has a type, tenant, instance, "
    "subject or key."
    "\n\nWithin a second no worker starts anything of it, busy or idle, running now "
    "or started later. Events are kept,"
    " no attempt is burnt, running handlers finish, and publishing goes on. What is "
    "paused already stays as it was."
    "\n\n--list shows what is paused, and how many events were put aside for it, "
    "which walks through all that waits."
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
    "\n\nEnds the pause of exactly what is named: a paused level stays paused when "
    "its stream is resumed. What remains"
    " paused is said; --all ends every pause of the stream. Resuming what is not "
    "paused changes nothing, says"
    " so, and ends with 0, as every command does that has nothing left to do."
    + examples(
        "streams resume orders --group billing",
        "streams resume orders --tenant acme",
        "streams resume orders --all",
    )
)


def _only(name: str) -> Any:
    return option(f"Only events of this {name}.", f"--{name}")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The part of a stream that is held back, or goes on."""

    group: Annotated[str, option("Only this group.")] = ""
    level: Annotated[int | None, option("Only this level.")] = None
    type: Annotated[str | None, _only("type")] = None
    tenant: Annotated[str | None, _only("tenant")] = None
    instance: Annotated[str | None, _only("instance")] = None
    subject: Annotated[str | None, _only("subject")] = None
    key: Annotated[str | None, _only("key")] = None

    def attribute(self) -> PausedAttribute:
        """The attribute of events that is given, with its value."""
        names = ("type", "tenant", "instance", "subject", "key")
        given = {name: getattr(self, name) for name in names}
        found = {name: value for name, value in given.items() if value is not None}

        return cast("PausedAttribute", found)

    def __bool__(self) -> bool:
        """Whether it is less than the stream."""
        return self != Scope()


@with_options
def pause(
    stream: StreamName,
    *,
    scope: Scope,
    reason: Annotated[
        str, option("Why; whoever looks at the stream will see it.")
    ] = "",
    show: Annotated[bool, option("Only show what is paused.", "--list")] = False,
    at: OnPartition,
) -> None:
    """Pause; see PAUSE_HELP."""
    if show:
        if scope or reason:
            raise ConfigurationError(
                "--list shows every pause of the stream: give it alone"
            )

        at.ask(lambda pipeline: _list(pipeline, stream, at))
        return

    async def main(pipeline: Pipeline) -> Pausing:
        return (
            await at.target(pipeline, stream)
            .pauses()
            .pause(
                group=scope.group, level=scope.level, reason=reason, **scope.attribute()
            )
        )

    pause, is_new = at.ask(main)
    name = named(stream, pause)
    at.tell(
        {"stream": stream, "new": is_new, **_plain(pause)},
        f"paused {name}" if is_new else f"{name} was paused already, {story(pause)}",
    )


async def _list(pipeline: Pipeline, stream: str, at: OnPartition) -> None:
    pauses = at.target(pipeline, stream).pauses()
    found, away = await in_part(pauses.list())
    held: dict[str, int] = {}

    if any(pause.attribute for pause in found):
        held, _ = await in_part(pauses.held())

    if at.as_json:
        rows = [{**_plain(p), "held": held.get(p.scope, 0)} for p in found]
        write_json({"stream": stream, "pauses": rows, "away": away})
    else:
        for pause in found:
            count = f", {held.get(pause.scope, 0)} put aside" if pause.attribute else ""
            say(f"paused: {named(stream, pause)}, {story(pause)}{count}")

        if not found:
            say(f"nothing of {stream} is paused")

    tell_missing(stream, away)


@with_options
def resume(
    stream: StreamName,
    *,
    scope: Scope,
    everything: Annotated[
        bool, option("End every pause of the stream.", "--all")
    ] = False,
    at: OnPartition,
) -> None:
    """Resume; see RESUME_HELP."""
    if everything and scope:
        raise ConfigurationError(
            "--all ends every pause of the stream: give it alone, "
            "or --group, --level and the others without it"
        )

    attribute = scope.attribute()

    async def main(pipeline: Pipeline) -> Resumption:
        pauses = at.target(pipeline, stream).pauses()
        if everything:
            return await pauses.resume_all()

        return await pauses.resume(group=scope.group, level=scope.level, **attribute)

    outcome = at.ask(main)

    if at.as_json:
        parts = {
            "resumed": list(map(_plain, outcome.resumed)),
            "remaining": list(map(_plain, outcome.remaining)),
        }

        write_json({"stream": stream, **parts})
        return

    for ended in outcome.resumed:
        say(f"resumed {named(stream, ended)}, {story(ended)}")

    if not outcome.resumed:
        where = place(stream, scope.group, scope.level)
        for name, value in attribute.items():
            where += f", {name} {masked(str(value))}"

        say(f"nothing was resumed: {where} is not paused")

    for other in outcome.remaining:
        remark(f"still paused: {named(stream, other)}, {story(other)}")


def _plain(pause: Pause) -> dict[str, Any]:
    """A pause as plain JSON types; long numbers are masked."""
    return {**asdict(pause), "scope": masked(pause.scope), "value": masked(pause.value)}


def named(stream: str, pause: Pause) -> str:
    """The scope of a pause, e.g. ``orders, group billing, tenant acme``.

    A pause that does not hold all partitions names those that it holds.
    """
    if pause.partitions:
        stream = f"{stream}, partition {' '.join(map(str, pause.partitions))}"

    if pause.attribute:
        value = masked(one_line(pause.value))
        return f"{place(stream, pause.group, None)}, {pause.attribute} {value}"

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
    """The operator, the time and the reason of a pause."""
    why = f": {one_line(pause.reason)}" if pause.reason else ""

    return f"by {one_line(pause.by)} since {moment(pause.at)}{why}"

"""Options, settings, the way into asyncio, and the forms of results: shared by all commands."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import getpass
import os
import sys
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.admin.partitioned import in_part, no_group
from streams.broker.server.shards import Away
from streams.cli import completing
from streams.cli.columns import fitted
from streams.cli.encoding import as_written
from streams.cli.exit_codes import Exit
from streams.common.masking import masked
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.quantities import read_span
from streams.settings import Settings

T = TypeVar("T")


def option(help: str, *names: str, **more: Any) -> Any:
    """An option, by default without its default in the help."""
    return typer.Option(*names, help=help, **{"show_default": False, **more})


def argument(metavar: str | None, help: str, **more: Any) -> Any:
    """An argument without its default in the help."""
    return typer.Argument(metavar=metavar, help=help, show_default=False, **more)


_server = partial(option, rich_help_panel="Server")
Url = Annotated[
    str | None,
    _server(
        "The server: redis://, rediss://, unix://, redis+sentinel://, "
        "redis+cluster:// or embedded://PATH. "
        "Default: STREAMS_URL or REDIS_URL, from the environment or an env file."
    ),
]
Namespace = Annotated[
    str | None,
    _server("First part of every key. Default: STREAMS_NAMESPACE, else 'streams'."),
]
Waiting = Annotated[
    Literal["never", "server", "always"] | None,
    _server(
        "For what to wait at the start: for a server that is away; always: also for "
        "credentials that it never took; never: end at once. "
        "Default: STREAMS_WAIT, else 'server'.",
        "--wait",
    ),
]
AsJson = Annotated[
    bool, option("Write JSON to standard output, for programs.", "--json")
]
Yes = Annotated[bool, option("Do not ask.", "--yes", "-y")]
StreamName = Annotated[
    str,
    argument("STREAM", "The stream's name.", autocompletion=completing.streams),
]
PartitionNumber = Annotated[
    int | None,
    option(
        "Only this partition of the stream, by its number. Default: all of them.",
        "--partition",
        min=0,
    ),
]
GroupName = Annotated[
    str, argument("GROUP", "The group's name.", autocompletion=completing.groups)
]
OnlyGroup = Annotated[str, option("Only this group.")]

_NO_EDGE = 100_000
"""Width of what is no terminal: nothing is shortened for it."""
_LONGEST = 1e9
"""Seconds of a span that is given as an option, at most: some 31 years."""
_PUBLIC = {
    "time",
    "datacontenttype",
    "dataschema",
    "traceparent",
    "tracestate",
    "max_retries",
    "retry_delay",
    "expires",
    "version",
}
"""Metadata that names no person; every other value is masked when shown."""


def settings_of(url: str | None, namespace: str | None) -> Settings:
    """The settings of the environment, with what the options say.

    Raises:
        ConfigurationError: a value is malformed, or there is no server that outlives
            this command.
    """
    settings = override(Settings.from_env(), url=url, namespace=namespace)
    if settings.url == "memory://":
        raise ConfigurationError(
            "memory:// is a server of this command alone, which ends with it: give "
            "the URL of a server that stays, "
            "e.g. redis://localhost:6379/0"
        )
    if settings.url is None:
        raise ConfigurationError(
            "which server? Give --url or set STREAMS_URL, e.g. "
            "redis://localhost:6379/0, or embedded://./data for an "
            "embedded server that keeps its data in ./data"
        )
    return settings


def override(settings: Settings, **given: Any) -> Settings:
    """The settings with those values that are not None.

    A URL takes the place of a file that holds one.

    An empty URL is an unset variable of a script. As with an empty STREAMS_URL, it says
    nothing.
    """
    if given.get("url"):
        given["url_file"] = ""
    else:
        given.pop("url", None)
    return dataclasses.replace(
        settings, **{name: value for name, value in given.items() if value is not None}
    )


@contextlib.asynccontextmanager
async def connected(url: str | None, namespace: str | None) -> AsyncIterator[Pipeline]:
    """An open pipeline without handlers, for asking and publishing."""
    settings = settings_of(url, namespace)
    tell_of_new_folder(settings)
    async with Pipeline(settings=settings) as pipeline:
        yield pipeline


def tell_of_new_folder(settings: Settings) -> None:
    """One line if the folder of an embedded server is not there yet."""
    if (folder := missing_folder(settings)) is not None:
        remark(
            f"streams: the folder {folder} is new: no embedded server has kept "
            "anything there yet"
        )


def missing_folder(settings: Settings) -> Path | None:
    """The folder of an embedded server, in full, if it is not there.

    Then mostly another working directory was meant.
    """
    scheme, _, path = (settings.url or "").partition("://")
    if scheme != "embedded" or not path:
        return None
    folder = Path(path).expanduser().resolve()
    return None if folder.exists() else folder


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a command's coroutine."""
    return asyncio.run(main())


async def check_group(
    pipeline: Pipeline, stream: str, group: str, partition: int | None = None
) -> None:
    """Refuse a stream or group that is not there, with the names that are.

    Raises:
        NotFound: it is not there, and has no dead letters either.
    """
    row, away = await in_part(pipeline.status().stream(stream, partition=partition))
    names = [found.group for found in row.groups]
    if away or group in names:
        return  # Of what is away nothing can be told.
    if await pipeline.dead_letters(stream, group, partition=partition).count() == 0:
        raise no_group(stream, group, names)


def tell_missing(stream: str, partitions: Iterable[str]) -> None:
    """Say which partitions could not be asked, in one line.

    Then the command ends, since not all is shown.
    """
    names = sorted(set(partitions))
    if names:
        remark(
            f"streams: not shown, since their servers are away: {', '.join(names)} of "
            f"{stream}"
        )
        finish(Exit.UNREACHABLE)


def tell_away(away: Sequence[Away]) -> None:
    """Say which shards could not be asked, in one line each.

    Then the command ends, since not all is shown.
    """
    for shard in away:
        remark(f"streams: {shard}")
    if away:
        finish(Exit.UNREACHABLE)


def refuse_unasked(*, yes: bool, instead: str = "") -> None:
    """Refuse a change that needs a question where there is no terminal.

    Raises:
        ConfigurationError: there is none, and ``--yes`` is not given.
    """
    if not yes and not sys.stdin.isatty():
        raise ConfigurationError(f"there is no terminal to ask at: give --yes{instead}")


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; a no ends the command."""
    if yes or not sys.stdin.isatty():
        return
    if not typer.confirm(question, err=True):
        remark("nothing was changed")
        finish(Exit.FAILED)


def stdout() -> Console:
    """The console for results. Into a pipe or file lines are as long as they need to be."""
    return Console(
        highlight=False,
        soft_wrap=False,
        width=None if sys.stdout.isatty() else _NO_EDGE,
        emoji=False,
    )


def show_table(made: Table, *, names: Mapping[str, int], spare: Sequence[str]) -> None:
    """Print a table on standard output.

    In a pipe it is whole; in a terminal it is as wide as there is room. See ``fitted``.
    """
    console = stdout()
    console.print(fitted(made, console.width, names=names, spare=spare))


def stderr() -> Console:
    """The console for progress and remarks."""
    return Console(stderr=True, highlight=False, emoji=False)


def say(text: str) -> None:
    """A line on standard output, as it is."""
    sys.stdout.write(text + "\n")


def remark(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(text + "\n")


def write_json(value: Any, *, pretty: bool = True) -> None:
    """One JSON document, or one line of JSON lines."""
    option = orjson.OPT_INDENT_2 if pretty else 0
    text = orjson.dumps(value, option=option | orjson.OPT_NON_STR_KEYS).decode()
    sys.stdout.write(as_written(text, sys.stdout) + "\n")


def table(*columns: str, rows: Iterable[Iterable[str]] = ()) -> Table:
    """A table in the house style, with these rows of cells.

    A column that begins with '>' is a number; one with '*' takes what room is left.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        fills = column.startswith("*")
        made.add_column(
            column.lstrip(">*"),
            justify="right" if column.startswith(">") else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if fills else None,
        )
        made.expand = made.expand or (fills and sys.stdout.isatty())
    for row in rows:
        made.add_row(*row)
    return made


def cell(value: object) -> str:
    """Text of a table cell: never markup, never more than one line."""
    return escape(one_line(str(value)))


def one_line(text: str, instead: str = " ") -> str:
    """Text that cannot break the line or command the terminal."""
    return "".join(c if c.isprintable() else instead for c in text)


def number(value: int | None, *, style: str = "") -> str:
    """A number with separators.

    A dot stands for 0, so that the others are seen; a dash where it is not known.
    """
    if value is None:
        return "[dim]-[/]"
    if value == 0:
        return "[dim]·[/]"
    text = f"{value:,}"
    return f"[{style}]{text}[/]" if style else text


def span(seconds: float | None) -> str:
    """``0.3s``, ``42s``, ``3m 12s``, ``5h 02m``, ``12d 4h``."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour}h"
    if hours:
        return f"{hours}h {minute:02d}m"
    return f"{minutes}m {second:02d}s" if minutes else f"{second}s"


def moment(at: float) -> str:
    """A Unix time as RFC 3339 in UTC."""
    return (
        datetime.fromtimestamp(at, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def seconds(least: float = 0, most: float = _LONGEST) -> Callable[[str | float], float]:
    """The parser of an option that is a span of time; see ``read_span``.

    ``least`` and ``most`` are seconds.
    """

    def read(text: str | float) -> float:
        try:
            value = read_span(str(text))
        except ValueError as error:
            raise typer.BadParameter(f"{str(text)!r}: {error}") from None
        if not least <= value <= most:
            raise typer.BadParameter(
                f"{str(text)!r}: give a span of {least:g} to {most:g} seconds"
            )
        return value

    return read


def parse_moment(text: str | None, option: str) -> float | None:
    """Unix time of an RFC 3339 text, or of a span before now; see ``read_span``.

    Raises:
        ConfigurationError: it is neither.
    """
    if text is None:
        return None
    try:
        # First: a date without hyphens is digits only.
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        with contextlib.suppress(ValueError):
            return time.time() - read_span(text)
        at = None
    if at is None or at.tzinfo is None:
        raise ConfigurationError(
            f"{option} {text!r}: give a span before now, e.g. 30m, 2h, 7d, or a time "
            "with its zone, "
            "e.g. 2030-01-31T12:00:00Z"
        )
    return at.timestamp()


def shown_meta(meta: dict[str, Any]) -> dict[str, Any]:
    """Metadata fit for showing: whatever may name a person is masked."""
    return {
        name: value
        if name in _PUBLIC or isinstance(value, bool)
        else masked(str(value))
        for name, value in meta.items()
    }


def person() -> str:
    """The name of the caller, for the audit record."""
    name = os.environ.get("USER") or os.environ.get("LOGNAME") or ""
    with contextlib.suppress(OSError, KeyError):
        name = name or getpass.getuser()
    return one_line(name, "_")[:100] or "unknown"


def finish(code: Exit) -> NoReturn:
    """End the command with an exit code."""
    raise typer.Exit(int(code))


def examples(*lines: str) -> str:
    """The last paragraph of a command's help."""
    return "\n\n[bold]Examples[/]\n\n" + "\n".join(
        f"  [cyan]{escape(line)}[/]" for line in lines
    )

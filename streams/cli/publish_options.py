"""Options of ``streams publish``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, cast

from streams.cli.common import option, seconds
from streams.cli.options import OnServer
from streams.errors import ConfigurationError
from streams.events.event import EventAttributes, meta_of

Kind = Annotated[str | None, option("The event's type, e.g. order.created.", "--type")]
Data = Annotated[str | None, option("The event's body.", metavar="JSON")]
LinesFile = Annotated[
    str | None, option("JSON lines; - is standard input.", metavar="FILE")
]
_span = partial(option, parser=seconds(), metavar="SPAN")
_line = partial(option, rich_help_panel="Lines")


@dataclass(frozen=True, kw_only=True)
class SharedAttributes:
    """Attributes of every event that does not say otherwise."""

    priority: Annotated[
        int | None, option("Larger is served first.", show_default="0")
    ] = None
    key: Annotated[str | None, option("What the event is about.")] = None
    tenant: Annotated[str | None, option("The tenant it belongs to.")] = None
    instance: Annotated[str | None, option("The tenant's instance.")] = None
    delay: Annotated[
        float | None,
        _span("Time until it enters the stream: seconds, 5m, 2h.", show_default="0"),
    ] = None
    dedup_id: Annotated[
        str | None, option("A second event with the same id is not stored.")
    ] = None
    expires: Annotated[
        float | None,
        _span("Time after which it must not be handled: seconds, 5m, 2h."),
    ] = None
    header: Annotated[
        list[str] | None,
        option("A further attribute; repeatable.", metavar="NAME=VALUE"),
    ] = None

    def attributes(self) -> EventAttributes:
        """Those that are given.

        Raises:
            ConfigurationError: a value is refused.
        """
        given = asdict(self)
        given["headers"] = _headers(given.pop("header") or []) or None
        found = {name: value for name, value in given.items() if value is not None}
        shared = cast("EventAttributes", found)
        meta_of(shared)  # A wrong option is no fault of each line.
        return shared


@dataclass(frozen=True, kw_only=True)
class LineOptions(OnServer):
    """Which lines of a file are published, and how."""

    from_line: Annotated[
        int, _line("First line to publish.", min=1, show_default=True)
    ] = 1
    to_line: Annotated[
        int | None, _line("Last line to publish.", min=1, show_default="the last")
    ] = None
    strict: Annotated[bool, _line("End at the first malformed line.", "--strict")] = (
        False
    )
    receipts: Annotated[
        Path | None,
        _line(
            "Write one JSON line per input line to this file: its number, what became "
            "of it, the event's id.",
            dir_okay=False,
        ),
    ] = None


def _headers(pairs: list[str]) -> dict[str, str]:
    headers = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigurationError(
                "--header takes NAME=VALUE, e.g. --header region=eu"
            )

        headers[name] = value

    return headers

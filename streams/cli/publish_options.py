"""Options of ``streams publish``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, cast

import typer

from streams.cli.common import seconds
from streams.cli.options import OnServer
from streams.errors import ConfigurationError
from streams.events.event import EventAttributes, meta_of

Kind = Annotated[
    str | None,
    typer.Option(
        "--type", help="The event's type, e.g. order.created.", show_default=False
    ),
]
Data = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="The event's body.", show_default=False),
]
LinesFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="JSON lines; - is standard input.", show_default=False
    ),
]
Priority = Annotated[
    int | None, typer.Option(help="Larger is served first.", show_default="0")
]
Key = Annotated[
    str | None, typer.Option(help="What the event is about.", show_default=False)
]
Tenant = Annotated[
    str | None, typer.Option(help="The tenant it belongs to.", show_default=False)
]
Instance = Annotated[
    str | None, typer.Option(help="The tenant's instance.", show_default=False)
]
Delay = Annotated[
    float | None,
    typer.Option(
        parser=seconds(),
        metavar="SPAN",
        help="Time until it enters the stream: seconds, 5m, 2h.",
        show_default="0",
    ),
]
DedupId = Annotated[
    str | None,
    typer.Option(
        help="A second event with the same id is not stored.", show_default=False
    ),
]
Expires = Annotated[
    float | None,
    typer.Option(
        parser=seconds(),
        metavar="SPAN",
        help="Time after which it must not be handled: seconds, 5m, 2h.",
        show_default=False,
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="A further attribute; repeatable.",
        show_default=False,
    ),
]
FromLine = Annotated[
    int, typer.Option(min=1, help="First line to publish.", rich_help_panel="Lines")
]
ToLine = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Last line to publish.",
        show_default="the last",
        rich_help_panel="Lines",
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="End at the first malformed line.", rich_help_panel="Lines"
    ),
]
Receipts = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        help="Write one JSON line per input line to this file: its number, what became of it, the event's id.",
        show_default=False,
        rich_help_panel="Lines",
    ),
]


@dataclass(frozen=True, kw_only=True)
class SharedAttributes:
    """Attributes of every event that does not say otherwise."""

    priority: Priority = None
    key: Key = None
    tenant: Tenant = None
    instance: Instance = None
    delay: Delay = None
    dedup_id: DedupId = None
    expires: Expires = None
    header: Headers = None

    def attributes(self) -> EventAttributes:
        """Those that are given.

        Raises:
            ConfigurationError: a value is refused.
        """
        given = asdict(self)
        given["headers"] = _headers(given.pop("header") or []) or None
        found = {name: value for name, value in given.items() if value is not None}
        shared = cast("EventAttributes", found)
        meta_of(shared)  # What is wrong with an option is no fault of each line.
        return shared


@dataclass(frozen=True, kw_only=True)
class LineOptions(OnServer):
    """Which lines of a file, and what becomes of them."""

    from_line: FromLine = 1
    to_line: ToLine = None
    strict: Strict = False
    receipts: Receipts = None


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

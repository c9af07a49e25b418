"""Options of ``streams publish``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.cli.common import seconds

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

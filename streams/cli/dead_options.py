"""Options of ``streams dead``: how dead letters are chosen."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.admin.dead_letter import REASONS, Filter
from streams.cli.common import parse_moment
from streams.errors import ConfigurationError

_PANEL = "Filters"
Type = Annotated[
    str | None,
    typer.Option(
        "--type", help="Event type.", show_default=False, rich_help_panel=_PANEL
    ),
]
Reason = Annotated[
    str | None,
    typer.Option(
        help=f"{', '.join(REASONS[:-1])} or {REASONS[-1]}.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Error = Annotated[
    str | None,
    typer.Option(
        help="Part of the latest error.", show_default=False, rich_help_panel=_PANEL
    ),
]
EventId = Annotated[
    str | None,
    typer.Option(help="Event id.", show_default=False, rich_help_panel=_PANEL),
]
Tenant = Annotated[
    str | None, typer.Option(help="Tenant.", show_default=False, rich_help_panel=_PANEL)
]
Level = Annotated[
    int | None, typer.Option(help="Level.", show_default=False, rich_help_panel=_PANEL)
]
Since = Annotated[
    str | None,
    typer.Option(
        help="Died since: 30m, 2h, 7d ago, or a time with its zone.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        help="Died until; as --since.", show_default=False, rich_help_panel=_PANEL
    ),
]
Text = Annotated[
    str | None,
    typer.Option(
        help="Part of what is shown of it: id, type, errors, metadata.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[IDS]...", help="Ids of dead letters.", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="Every dead letter of the group.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Body = Annotated[bool, typer.Option("--body", help="Show the body too, unmasked.")]
LetterId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the dead letter.", show_default=False)
]


def filter_of(  # noqa: PLR0913 - the options, handed on
    type: str | None,
    reason: str | None,
    error: str | None,
    event_id: str | None,
    tenant: str | None,
    level: int | None,
    since: str | None,
    until: str | None,
    text: str | None,
) -> Filter:
    """What the options say."""
    times = parse_moment(since, "--since"), parse_moment(until, "--until")
    return Filter(type, reason, error, event_id, tenant, level, *times, text)


def choice(ids: list[str], where: Filter, *, all_of_them: bool) -> Filter | list[str]:
    """Ids, or a filter; refuses to guess."""
    if sum(map(bool, (ids, where, all_of_them))) != 1:
        raise ConfigurationError(
            "which dead letters? Give ids, or filters, or --all: one of the three"
        )
    return ids or where

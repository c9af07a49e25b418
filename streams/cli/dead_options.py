"""Options of ``streams dead``: how dead letters are chosen."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from streams.admin.dead_letter import REASONS, Filter
from streams.admin.dead_letters import DeadLetters, check_reason
from streams.cli.common import check_group, finish, parse_moment, person, remark
from streams.cli.exit_codes import Exit
from streams.cli.options import OneGroup
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline


def _filter(help: str, *names: str) -> Any:
    return typer.Option(
        *names, help=help, show_default=False, rich_help_panel="Filters"
    )


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What the chosen dead letters have in common."""

    type: Annotated[str | None, _filter("Event type.", "--type")] = None
    reason: Annotated[
        str | None, _filter(f"{', '.join(REASONS[:-1])} or {REASONS[-1]}.")
    ] = None
    error: Annotated[str | None, _filter("Part of the latest error.")] = None
    event_id: Annotated[str | None, _filter("Event id.")] = None
    tenant: Annotated[str | None, _filter("Tenant.")] = None
    level: Annotated[int | None, _filter("Level.")] = None
    since: Annotated[
        str | None, _filter("Died since: 30m, 2h, 7d ago, or a time with its zone.")
    ] = None
    until: Annotated[str | None, _filter("Died until; as --since.")] = None
    text: Annotated[
        str | None,
        _filter("Part of what is shown of it: id, type, errors, metadata."),
    ] = None

    def filter(self) -> Filter:
        """The filter that the options say.

        Raises:
            ConfigurationError: a time is none.
        """
        return Filter(
            type=self.type,
            reason=self.reason,
            error=self.error,
            event_id=self.event_id,
            tenant=self.tenant,
            level=self.level,
            since=parse_moment(self.since, "--since"),
            until=parse_moment(self.until, "--until"),
            text=self.text,
        )


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


async def letters_of(
    pipeline: Pipeline,
    of: OneGroup,
    partition: int | None,
    where: Filter | None = None,
) -> DeadLetters:
    """The dead letters of a group that is there; acts by the name of the caller.

    Raises:
        NotFound: the stream or the group is not there.
        ConfigurationError: the filter has a reason that no dead letter has.
    """
    await check_group(pipeline, of.stream, of.group, partition)
    letters = pipeline.dead_letters(
        of.stream, of.group, by=person(), partition=partition
    )
    if where is not None:
        await check_reason(letters, where)
    return letters


def choice(ids: list[str], where: Filter, *, all_of_them: bool) -> Filter | list[str]:
    """Ids, or a filter; refuses to guess."""
    if sum(map(bool, (ids, where, all_of_them))) != 1:
        raise ConfigurationError(
            "which dead letters? Give ids, or filters, or --all: one of the three"
        )
    return ids or where


def refuse_unasked(which: Filter | list[str], *, yes: bool) -> None:
    """Refuse to change many without a question where there is no terminal."""
    if isinstance(which, Filter) and not yes and not sys.stdin.isatty():
        raise ConfigurationError(
            "there is no terminal to ask at: give --yes, or --dry-run to count first"
        )


def confirm(what: str, *, yes: bool) -> None:
    """Ask on a terminal; a no ends the command."""
    if yes or not sys.stdin.isatty():
        return
    if not typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True):
        remark("nothing was changed")
        finish(Exit.FAILED)

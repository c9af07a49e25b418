"""Options of ``streams dead``: how dead letters are chosen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated

from streams.admin.dead_letter import REASONS, Filter
from streams.admin.dead_letters import DeadLetters, check_reason
from streams.cli.common import argument, check_group, option, parse_moment
from streams.cli.options import InPartition, OneGroup
from streams.errors import ConfigurationError
from streams.pipeline import Pipeline

_filter = partial(option, rich_help_panel="Filters")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """The facts that the chosen dead letters have in common."""

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

    def __post_init__(self) -> None:
        """Refuse a time that is none, before a server is asked."""
        self.filter()

    def filter(self) -> Filter:
        """The filter that the options say.

        Raises:
            ConfigurationError: a time is none.
        """
        times = {
            name: parse_moment(getattr(self, name), f"--{name}")
            for name in ("since", "until")
        }
        return Filter(**asdict(self) | times)


Ids = Annotated[list[str] | None, argument("[IDS]...", "Ids of dead letters.")]
All = Annotated[bool, option("Every dead letter of the group.", "--all")]
DryRun = Annotated[bool, option("Only count.", "--dry-run")]
Body = Annotated[bool, option("Show the body too, unmasked.", "--body")]
LetterId = Annotated[str, argument("ID", "Id of the dead letter.")]


async def letters_of(
    pipeline: Pipeline, of: OneGroup, at: InPartition, where: Filter | None = None
) -> DeadLetters:
    """The dead letters of a group that is there; acts by the name of the caller.

    Raises:
        NotFound: the stream or the group is not there.
        ConfigurationError: the filter has a reason that no dead letter has.
    """
    await check_group(pipeline, of.stream, of.group, at.partition)
    letters = of.on(pipeline, at).dead_letters()
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

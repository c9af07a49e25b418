"""What is declared of a stream: how long it keeps events, for which groups, and where a new group begins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from streams.common.arguments import checked_items
from streams.errors import ConfigurationError
from streams.events.names import checked_name

Retention = Literal["work", "fanout"]
"""``work``: one group, whose acknowledgement deletes. ``fanout``: an event goes once every declared group is done."""
Start = Literal["oldest", "new"]
"""Where a group begins that is declared for the first time: with what is stored, or with what comes after it."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a consumer declares of its stream before it reads.

    Attributes:
        retention: None: as the stream is; a new stream is ``work``. ``fanout`` turns a work stream into one.
        groups: further groups, whose consumers may not have started yet: events wait for them from now on.
        start: where the consumer's own group begins, if it is declared for the first time.
        new: those of ``groups`` that begin with what comes later; the others get what is stored.

    Raises:
        ConfigurationError: a word or a name is refused, or a work stream is given several groups.
    """

    retention: Retention | None = None
    groups: tuple[str, ...] = ()
    start: Start = "oldest"
    new: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.retention is not None and self.retention not in get_args(Retention):
            raise ConfigurationError(
                f"retention is 'work' (one group, ack deletes), 'fanout' (an event goes once every declared group is "
                f"done with it) or None (as the stream is), not {self.retention!r}"
            )
        checked_start(self.start)
        object.__setattr__(self, "groups", checked_groups(self.groups))
        if self.retention == "work" and len(self.groups) > 1:
            raise ConfigurationError(
                f"groups {', '.join(self.groups)}: a stream with retention 'work' has one group; several groups that "
                "each get every event need retention='fanout'"
            )


def checked_start(start: str) -> None:
    """Refuse what is no ``Start``.

    Raises:
        ConfigurationError: it is none.
    """
    if start not in get_args(Start):
        raise ConfigurationError(
            f"start is 'oldest' (a new group gets what is stored) or 'new' (only later events), not {start!r}"
        )


def checked_groups(groups: Iterable[str]) -> tuple[str, ...]:
    """Names of groups, each once.

    Raises:
        ConfigurationError: it is one text instead of a list, or a name is refused.
    """
    example = groups if isinstance(groups, str) else "billing"
    names = checked_items("groups", groups, f"groups=[{example!r}]")
    return tuple(dict.fromkeys(checked_name(group, "group") for group in names))


AS_IT_IS = Declaration()
"""Nothing but the consumer's own group, from the oldest stored event on."""

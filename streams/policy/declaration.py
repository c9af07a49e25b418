"""The declaration of a stream: its retention, its groups, and the start of new groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from streams.common.arguments import checked_items
from streams.errors import ConfigurationError
from streams.events.names import checked_name

Retention = Literal["work", "fanout"]
"""When events are deleted.

``work``: when the only group acknowledges them. ``fanout``: when every declared group is
done with them.
"""
Start = Literal["oldest", "new"]
"""The first event of a new group: the oldest stored event, or the next new one."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """The properties of a stream that a consumer declares before it reads.

    Attributes:
        retention: None: as the stream is; a new stream is ``work``. ``fanout`` changes a
            ``work`` stream.
        groups: further groups, whose consumers may start later. Events wait for them.
        start: the first event of the consumer's own group, if the group is new.
        new: the ``groups`` that start with new events. The others get stored events, too.

    Raises:
        ConfigurationError: a word or a name is invalid, or a ``work`` stream has several
            groups.
    """

    retention: Retention | None = None
    groups: tuple[str, ...] = ()
    start: Start = "oldest"
    new: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.retention is not None and self.retention not in get_args(Retention):
            raise ConfigurationError(
                "retention is 'work' (one group, ack deletes), "
                "'fanout' (an event goes once every declared group is done with it) "
                f"or None (as the stream is), not {self.retention!r}"
            )

        checked_start(self.start)
        object.__setattr__(self, "groups", checked_groups(self.groups))
        if self.retention == "work" and len(self.groups) > 1:
            raise ConfigurationError(
                f"groups {', '.join(self.groups)}: "
                "a stream with retention 'work' has one group; "
                "several groups that each get every event need retention='fanout'"
            )


def checked_start(start: str) -> None:
    """Check a ``Start``.

    Raises:
        ConfigurationError: the word is another one.
    """
    if start not in get_args(Start):
        raise ConfigurationError(
            "start is 'oldest' (a new group gets what is stored) "
            f"or 'new' (only later events), not {start!r}"
        )


def checked_groups(groups: Iterable[str]) -> tuple[str, ...]:
    """The names of groups without duplicates.

    Raises:
        ConfigurationError: the value is a text instead of a list, or a name is invalid.
    """
    example = groups if isinstance(groups, str) else "billing"
    names = checked_items("groups", groups, f"groups=[{example!r}]")
    return tuple(dict.fromkeys(checked_name(group, "group") for group in names))


AS_IT_IS = Declaration()
"""The consumer's own group only, from the oldest stored event on."""

"""Replies of the server to questions about groups, consumers and pending entries, as records."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from streams.broker.keys import PARKED, RECLAIMER_SUFFIX, WAITING
from streams.broker.server.scripts import Command
from streams.broker.server.stored import pairs
from streams.errors import BrokerError, BrokerUnavailable
from streams.events.names import entry_order

if TYPE_CHECKING:
    from streams.broker.server.link import Link

Label = TypeVar("Label", bound=Hashable)
Refusals = tuple[type[BrokerError], ...]

RESTING = frozenset({PARKED, WAITING})
"""Consumers that are no workers: their entries wait for a retry, a limit or their key."""


class GroupReply(NamedTuple):
    """One row of ``XINFO GROUPS``.

    Attributes:
        name: of the group.
        pending: entries that were delivered and are not acknowledged.
        last_id: the last entry id that the group was given.
        lag: entries not delivered yet; None where the server cannot tell.
        read: entries ever delivered; None where the server cannot tell.
    """

    name: str
    pending: int
    last_id: str
    lag: int | None
    read: int | None


class ConsumerReply(NamedTuple):
    """One row of ``XINFO CONSUMERS``; ``silent`` is in seconds."""

    name: str
    pending: int
    silent: float

    @property
    def is_resting(self) -> bool:
        """Whether entries under this name wait for a retry, a limit or their key."""
        return self.name in RESTING

    @property
    def is_worker(self) -> bool:
        """Whether a worker reads under this name, so that its entries are being handled."""
        return not self.is_resting and not self.name.endswith(RECLAIMER_SUFFIX)


class PendingReply(NamedTuple):
    """One row of ``XPENDING`` with a range; ``silent`` is in seconds."""

    entry_id: str
    consumer: str
    silent: float
    deliveries: int


def groups_of(reply: Iterable[Any] | None) -> list[GroupReply]:
    """Read a reply to ``XINFO GROUPS``; None stands for no groups."""
    found = []
    for row in map(pairs, reply or ()):
        info = GroupReply(
            name=_text(row["name"]),
            pending=row["pending"],
            last_id=row["last-delivered-id"].decode(),
            lag=row.get("lag"),
            read=row.get("entries-read"),
        )

        found.append(info)

    return found


def by_group(
    replies: Mapping[int, Iterable[Any] | None],
) -> dict[str, dict[int, GroupReply]]:
    """The rows of each group by level, from the reply to ``XINFO GROUPS`` of each level."""
    found: dict[str, dict[int, GroupReply]] = {}
    for level, rows in replies.items():
        for info in groups_of(rows):
            found.setdefault(info.name, {})[level] = info

    return found


def consumers_of(reply: Iterable[Any] | None) -> list[ConsumerReply]:
    """Read a reply to ``XINFO CONSUMERS``; None stands for no consumers."""
    found = []
    for row in map(pairs, reply or ()):
        name = _text(row["name"])
        found.append(ConsumerReply(name, row["pending"], row["idle"] / 1000))

    return found


def pending_of(reply: Iterable[Any] | None) -> list[PendingReply]:
    """Read a reply to ``XPENDING`` with a range; None stands for no entries."""
    found = []
    for entry_id, consumer, idle, deliveries in reply or ():
        entry = PendingReply(
            entry_id.decode(), _text(consumer), idle / 1000, deliveries
        )
        found.append(entry)

    return found


def pending_command(
    key: str, group: str, after: str, most: int, consumer: str = ""
) -> Command:
    """Ask for pending entries above the id ``after``, of all consumers or of one."""
    command = ("XPENDING", key, group, after_id(after), "+", most)

    return (*command, consumer) if consumer else command


def after_id(entry_id: str) -> str:
    """The start of a range that begins above an entry id; '' is the beginning."""
    return f"({entry_id}" if entry_id else "-"


def before_id(entry_id: str) -> str:
    """The end of a range that stops below an entry id; '' is the end."""
    return f"({entry_id}" if entry_id else "+"


def next_id(entry_id: str) -> str:
    """The smallest id above an entry id."""
    milliseconds, sequence = entry_order(entry_id)

    return f"{milliseconds}-{sequence + 1}"


def time_of(entry_id: bytes) -> float:
    """The Unix time (s) at which the server gave an entry its id."""
    return int(entry_id.partition(b"-")[0]) / 1000


async def replies_of(
    link: Link,
    commands: Sequence[Command],
    tolerated: Refusals = (),
    *,
    within: float | None = None,
) -> list[Any]:
    """Send commands in one round trip; None stands for a refusal of a tolerated kind.

    Raises:
        BrokerError: the first refusal of another kind.
    """
    if not commands:
        return []

    replies = await link.batch(commands, within=within)

    for i, reply in enumerate(replies):
        if isinstance(reply, tolerated):
            replies[i] = None
        elif isinstance(reply, BrokerError):
            raise reply

    return replies


async def outcomes_of(
    link: Link,
    commands: Sequence[Command],
    fatal: Refusals = (BrokerUnavailable,),
) -> list[Any]:
    """Send commands in one round trip; a refusal stands in its reply's place.

    Raises:
        BrokerError: the first refusal of a fatal kind.
    """
    replies = await link.batch(commands)
    for reply in replies:
        if isinstance(reply, fatal):
            raise reply

    return replies


async def labelled_replies(
    link: Link, questions: Mapping[Label, Command], tolerated: Refusals = ()
) -> dict[Label, Any]:
    """Send labelled commands as ``replies_of`` does, and return the replies by label."""
    replies = await replies_of(link, list(questions.values()), tolerated)

    return dict(zip(questions, replies, strict=True))


async def labelled_outcomes(
    link: Link, questions: Mapping[Label, Command]
) -> dict[Label, Any]:
    """Send labelled commands as ``outcomes_of`` does, and return the replies by label."""
    replies = await outcomes_of(link, list(questions.values()))

    return dict(zip(questions, replies, strict=True))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")

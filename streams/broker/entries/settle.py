"""ack, postpone, dead_letter, renew: what a consumer writes about its entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.broker.entries.delivery import Delivery
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.ordering import LaneKeys, Ways, follow
from streams.broker.keys import PARKED
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command, Script
from streams.errors import BrokerError, CommandRefused
from streams.policy.ordering import NO_LANES

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_ACK = Script("ack")
_POSTPONE = Script("postpone")
_DEAD_LETTER = Script("dead_letter")
_RENEW = Script("renew")

DONE, LOST, VANISHED = 1, 0, -1
_MOST = 500
_AT_ONCE = 32
"""Round trips under way at once on a connection that many share."""


class Postponed(NamedTuple):
    """An entry to come back ``delay_ms`` from now.

    ``record`` replaces the attempt record unless it is empty.
    """

    delivery: Delivery
    delay_ms: int
    record: bytes = b""


class Buried(NamedTuple):
    """An entry for the dead letters."""

    delivery: Delivery
    reason: str
    record: bytes


class Settlement(NamedTuple):
    """The outcome of one trip.

    ``statuses`` says of each entry by its place: DONE, LOST or VANISHED.

    ``ready``: how many entries may start that were behind settled ones of their keys.
    """

    ack_shortfall: int
    statuses: dict[tuple[int, str], int]
    refused: BrokerError | None
    ready: int = 0


def link_for_leases(broker: Broker) -> Link:
    """The connection on which the lease renewers of a process write."""
    return broker.link(_AT_ONCE)


def was_written(
    statuses: Mapping[tuple[int, str], int], delivery: Delivery, *, certain: bool
) -> bool:
    """Whether an outcome was written.

    The server said so; or the lease is lost to an earlier trip whose answer never came.
    """
    status = statuses.get(delivery.place)
    return status == DONE or (status == LOST and not certain)


class Settling:
    """Writes for one consumer of one group; all that a trip carries goes in one write.

    Args:
        me: the consumer.
        ways: how the entries of the group are queued by key; None: they are not.
        link: the connection to write on; None: one of its own.
    """

    def __init__(
        self, me: GroupConsumer, ways: Ways | None = None, link: Link | None = None
    ) -> None:
        keys, group = me.keys, me.group
        self._ways = ways or Ways(NO_LANES)
        self._place = LaneKeys.of(keys, me.levels, group)
        self._clock = me.broker.clock
        self._keys = keys
        self._levels = me.levels.descending
        self._group = group
        self._consumer = me.name
        self._own = link is None
        self._link = link or me.broker.link()
        self._config = keys.config()
        self._admissions = keys.admissions(group)
        whereabouts = (keys.attempts(group), keys.retry(group), self._admissions)
        self._renewed = [
            self._config,
            *(keys.level(level) for level in self._levels),
            *whereabouts,
        ]
        self._index = {level: i + 2 for i, level in enumerate(self._levels)}

    async def settle(
        self,
        done: Sequence[Delivery],
        postponed: Sequence[Postponed] = (),
        buried: Sequence[Buried] = (),
    ) -> Settlement:
        """Acknowledge, postpone and dead-letter in one write.

        A refusal of one part (say, the dead-letter key holds another type) leaves the
        other parts done; the entries of the refused part have no status and stay as
        they were.

        Raises:
            BrokerUnavailable: the connection failed; whatever was done can safely be
                sent again.
        """
        commands: list[Command] = []
        members: list[list[Delivery]] = []
        acks = 0
        for level, deliveries in _by_level(done):
            commands.append(self._ack(level, deliveries))
            members.append(deliveries)
            acks += 1
        for level, rows in _by_level(postponed):
            commands.append(self._postpone(level, rows))
            members.append([row.delivery for row in rows])
        for level, letters in _by_level(buried):
            commands.append(self._bury(level, letters))
            members.append([letter.delivery for letter in letters])
        # In the same write: a worker that is killed now has said both or neither.
        dead = [letter.delivery for letter in buried]
        following = follow(self._place, self._group, self._ways, done, dead)
        if following is not None:
            commands.append(following)
        shortfall, statuses, refused, ready, unsettled = (
            0,
            dict[tuple[int, str], int](),
            None,
            0,
            0,
        )
        for i, reply in enumerate(await self._link.batch(commands)):
            if isinstance(reply, BrokerError):
                refused = reply
            elif i == len(members):
                ready, unsettled = reply
            elif i < acks:
                shortfall += len(members[i]) - reply
                statuses.update((delivery.place, DONE) for delivery in members[i])
            else:
                statuses.update(
                    (d.place, status)
                    for d, status in zip(members[i], reply, strict=True)
                )
        if unsettled and following is not None and refused is None:
            # A script that the server had forgotten was loaded and sent again, after
            # what it should have come before.
            ready += await self._followed(following)
        return Settlement(shortfall, statuses, refused, ready)

    async def _followed(self, following: Command) -> int:
        """How many may start now."""
        try:
            ready: int = (await self._link.send(following))[0]
        except CommandRefused:
            # The outcomes stand; a sweep finds the heads that were not followed.
            return 0
        return ready

    async def renew(self, held: Sequence[Delivery]) -> list[Delivery]:
        """Keep the leases of ``held``; returns those that are lost.

        Raises:
            BrokerError: as ``Link.call``; then nothing is known.
        """
        lost: list[Delivery] = []
        for at in range(0, len(held), _MOST):
            part = held[at : at + _MOST]
            arguments: list[Any] = []
            for delivery in part:
                arguments += (
                    self._index[delivery.level],
                    delivery.entry_id,
                    delivery.count,
                )
            reply = await self._link.call(
                *_RENEW.command(self._renewed, self._group, self._consumer, *arguments)
            )
            self._clock.observe(reply[0])
            lost += [part[position - 1] for position in reply[1:]]
        return lost

    async def rest(self) -> None:
        """Do without a connection until there is something to write."""
        if self._own:
            await self._link.rest()

    async def close(self) -> None:
        """Close its connection, if it is its own."""
        if self._own:
            await self._link.close()

    def _ack(self, level: int, deliveries: Sequence[Delivery]) -> Command:
        ids = [delivery.entry_id for delivery in deliveries]
        keys, group = self._keys, self._group
        places = (
            keys.level(level),
            keys.attempts(group),
            self._config,
            self._admissions,
            keys.retry(group),
        )
        return _ACK.command(places, group, self._consumer, level, *ids)

    def _postpone(self, level: int, rows: Sequence[Postponed]) -> Command:
        keys, group = self._keys, self._group
        places = (
            keys.level(level),
            keys.retry(group),
            keys.attempts(group),
            self._config,
            self._admissions,
        )
        arguments: list[Any] = []
        for delivery, delay_ms, record in rows:
            arguments += (delivery.entry_id, delivery.count, delay_ms, record)
        return _POSTPONE.command(
            places, self._group, self._consumer, PARKED, level, *arguments
        )

    def _bury(self, level: int, letters: Sequence[Buried]) -> Command:
        group = self._group
        keys = (
            self._keys.level(level),
            self._keys.dead(group),
            self._keys.attempts(group),
            self._keys.retry(group),
            self._config,
            self._admissions,
        )
        arguments: list[Any] = []
        for delivery, reason, record in letters:
            arguments += (delivery.entry_id, delivery.count, reason, record)
        return _DEAD_LETTER.command(
            keys, group, self._consumer, level, self._consumer, *arguments
        )


def _by_level(items: Sequence[Any]) -> Iterable[tuple[int, list[Any]]]:
    """The items by level, in parts that a script can take."""
    levels: dict[int, list[Any]] = {}
    for item in items:
        levels.setdefault(
            (item if isinstance(item, Delivery) else item.delivery).level, []
        ).append(item)
    for level, found in levels.items():
        for at in range(0, len(found), _MOST):
            yield level, found[at : at + _MOST]

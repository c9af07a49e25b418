"""admit, hand over, throttle: which of the fetched entries may start now."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.broker.admin.limits import rule
from streams.broker.entries.delivery import Delivery, read_rows
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.places import Slot, SlotPlaces
from streams.broker.entries.redeclare import Queues
from streams.broker.keys import PARKED
from streams.broker.server.scripts import Script
from streams.policy.admission import START, Admission, Kind

if TYPE_CHECKING:
    from streams.broker.server.link import Link

_ADMIT = Script("admit")
_HAND_OVER = Script("hand_over")
_THROTTLE = Script("throttle")
_TEND = Script("tend_admissions")


_KINDS = {
    2: Kind.PAUSED,
    3: Kind.BREAKER,
    4: Kind.RATE,
    5: Kind.SLOT,
    0: Kind.LOST,
    -1: Kind.GONE,
}
_STARTS = 1
_OLD = b'"reserved"'
_SLICE = 200
_SLICES = 10


class Ask(NamedTuple):
    """The question about one entry.

    It has the entry's limits with its key under each, and the pauses by attribute that
    cover it.
    """

    delivery: Delivery
    limits: Sequence[Slot] = ()
    scopes: Sequence[str] = ()


class Admitting:
    """Asks for a consumer which of its entries may start.

    Args:
        me: the consumer.
        link: the connection to use; None: one of its own, or if it ``shares`` that of
            all who ask now and then.
    """

    def __init__(
        self, me: GroupConsumer, link: Link | None = None, *, shares: bool = False
    ) -> None:
        keys, group = me.keys, me.group
        self._broker = me.broker
        self._given = link
        self._own = me.broker.link() if link is None and not shares else None
        self._keys = keys
        self._all_levels = me.levels
        self._levels = me.levels.descending
        self._serve = me.served.descending
        self._streams = [keys.level(level) for level in self._levels]
        self._group = group
        self._consumer = me.name
        self._lease_ms = me.lease_ms
        self._hash = keys.limits(group)
        self._retry = keys.retry(group)
        self._attempts = keys.attempts(group)
        self._admissions = keys.admissions(group)
        self._config = keys.config()
        self._paused = keys.paused()
        self._waiting = keys.queues(group)
        self._leases = (keys.leases(group), keys.workers(group))
        self._states = keys.limit_prefix(group)
        self._places = SlotPlaces(keys, group)
        self._tended = b"0"

    @property
    def _link(self) -> Link:
        return self._given or self._own or self._broker.control

    async def admit(self, asks: Sequence[Ask]) -> list[Admission]:
        """Decide which entries may start now. One round trip.

        An entry that may start has taken its part of every limit. One that may not is
        deferred, and has a place.
        """
        places: dict[str, int] = {}
        numbers: dict[str, int] = {}
        declared: list[str | int] = []
        rows: list[str | int] = []
        first = 10 + len(self._streams)
        for delivery, limits, scopes in asks:
            # An older version wrote reservations into the record. Since then they
            # stand in the row of admissions.
            before = delivery.history().reserved if _OLD in delivery.record else {}
            rows += (*delivery.place, delivery.count, len(scopes), *scopes, len(limits))
            for limit, key in limits:
                if limit.name not in numbers:
                    numbers[limit.name] = len(numbers) + 1
                    declared += (
                        limit.name,
                        *rule(limit.parsed),
                        limit.concurrency or 0,
                    )
                busy, queue = self._places.of((limit, key))
                rows += (
                    places.setdefault(
                        f"{self._states}{limit.name}={key}", len(places) + first
                    ),
                    numbers[limit.name],
                    before.get(limit.name, 0),
                    places.setdefault(busy, len(places) + first)
                    if limit.concurrency
                    else 0,
                    places.setdefault(queue, len(places) + first)
                    if limit.concurrency
                    else 0,
                )
        what = (self._hash, self._retry, self._paused, self._waiting, *self._leases)
        where = (self._admissions, self._config, self._attempts, *self._streams)
        reply = await self._link.call(
            *_ADMIT.command(
                (*what, *where, *places),
                self._group,
                self._consumer,
                PARKED,
                self._lease_ms,
                len(self._states.encode()),
                len(self._levels),
                *self._levels,
                len(numbers),
                *declared,
                *rows,
            )
        )
        answers = zip(
            asks, reply[::4], reply[1::4], reply[2::4], reply[3::4], strict=True
        )
        return [_admission(*answer) for answer in answers]

    async def hand_over(
        self, slots: Iterable[Slot], room: int, *, looks: bool = False
    ) -> list[Delivery]:
        """Give the free slots of these keys to entries that wait for them.

        At most ``room`` of these entries are taken here.

        ``looks``: look first whether those who have the slots are alive.
        """
        queues = {f"{limit.name}={key}": limit.concurrency or 0 for limit, key in slots}
        return await self._hand_over(queues, room, looks=looks)

    async def look_after_queues(
        self, known: Container[str] | None = None, *, only_release: bool = False
    ) -> None:
        """Transfer the slots of workers that were lost.

        Nothing else would tell the entries that wait for these slots.

        ``known``: names of the limits with slots, as the handlers declare them. An
        entry may wait for another limit, which only workers of an older deploy know.
        The workers of now would never tell it, so it asks anew. None: the names are not
        known. ``only_release``: do nothing but that.
        """
        if not only_release and not await self._tend():
            return
        queues = Queues(self._link, self._keys, self._all_levels, self._group)
        async for page in queues.pages():
            foreign = [
                name
                for name in page
                if known is not None and name.partition("=")[0] not in known
            ]
            for name in foreign:
                await queues.release(name)
            # One whose concurrency cannot be read is looked after when the next one
            # queues there, who writes it anew.
            kept = {
                name: most
                for name, most in page.items()
                if name not in foreign and most > 0
            }
            if kept and not only_release:
                await self._hand_over(kept, 0, looks=True)

    async def _tend(self) -> int:
        """Look through some rows of admissions; returns how many queues there are."""
        places = (
            self._admissions,
            self._retry,
            self._paused,
            self._waiting,
            *self._streams,
        )
        queues = 0
        for _ in range(_SLICES):
            command = _TEND.command(
                places, self._group, self._tended, _SLICE, *self._levels
            )
            self._tended, _, _, queues = await self._link.call(*command)
            if self._tended == b"0":
                break
        return queues

    async def _hand_over(
        self, queues: Mapping[str, int], room: int, *, looks: bool
    ) -> list[Delivery]:
        keys: list[str] = []
        arguments: list[Any] = []
        for name, most in queues.items():
            keys += self._places.named(name)
            arguments += (name, most)
        places = (
            self._retry,
            self._attempts,
            self._paused,
            self._waiting,
            *self._leases,
            self._admissions,
        )
        reply = await self._link.call(
            *_HAND_OVER.command(
                (*places, *self._streams, *keys),
                self._group,
                self._consumer,
                PARKED,
                self._lease_ms,
                room,
                int(looks),
                len(self._levels),
                *self._levels,
                len(self._serve),
                *self._serve,
                *arguments,
            )
        )
        return read_rows(reply)

    async def throttle(self, limit: str, key: str, seconds: float) -> None:
        """Let nothing of this key start for ``seconds``."""
        await self._link.call(
            *_THROTTLE.command((f"{self._states}{limit}={key}",), round(seconds * 1000))
        )

    async def close(self) -> None:
        """Close its connection, if it is its own."""
        if self._own is not None:
            await self._own.close()


def _admission(ask: Ask, decided: int, wait: int, number: int, probe: int) -> Admission:
    """The answer of the script on one entry."""
    probing = ask.scopes[probe - 1] if probe else ""
    if decided == _STARTS:
        return Admission(Kind.START, probing=probing) if probing else START
    kind, by = _KINDS[decided], ""
    if kind in (Kind.PAUSED, Kind.BREAKER):
        by = ask.scopes[number - 1]
    elif kind in (Kind.RATE, Kind.SLOT):
        limit, key = ask.limits[number - 1]
        by = f"{limit.name}={key}"
    return Admission(kind, by, wait / 1000, probing)

"""fetch: how new entries and due retries get to a consumer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from streams.broker.entries.declare import Declared, Declaring
from streams.broker.entries.delivery import Delivery, read_new, read_rows
from streams.broker.entries.group_consumer import GroupConsumer
from streams.broker.entries.leave import PATIENCE, leave
from streams.broker.keys import PARKED, WAITING
from streams.broker.server.scripts import Command, Script
from streams.broker.server.stored import pairs
from streams.errors import BrokerError, GroupMissing, OutOfMemory, WrongKeyType
from streams.policy.declaration import AS_IT_IS
from streams.policy.levels import LevelTurns

_FETCH = Script("fetch")
_FETCH_TURNS = Script("fetch_turns")
_FETCH_DUE = Script("fetch_due")
_DISSOLVE = Script("dissolve")
_HAND_BACK = Script("hand_back")
_ANNOUNCE = Script("announce")
_LEASES_KEPT = 172_800_000
"""Milliseconds for which leases are kept, at least, after the last consumer announced its own."""


class DueReply(NamedTuple):
    """The answer to a look for due retries.

    Attributes:
        deliveries: the entries.
        next_due: the next due time (Unix seconds); None: no retry waits.
        vanished: how many entries had vanished.
        paused: of the levels, those that are paused for the group.
        scopes: the scopes of attributes that are paused.
        more: retries are due that were not looked at yet.
        fresh: there was something new too, and there may be more of it.
        suspect: level|id of a suspect that is due and was left; '' if there is none.
    """

    deliveries: list[Delivery]
    next_due: float | None
    vanished: int
    paused: frozenset[int] = frozenset()
    scopes: frozenset[str] = frozenset()
    more: bool = False
    fresh: bool = False
    suspect: str = ""


class Fetching:
    """Reads one stream for one consumer of one group.

    Two connections: one that only ever blocks for new entries, one for everything that
        must not wait behind it.

    Args:
        me: the consumer.
        declaring: declares the group; None: as the stream is.
    """

    def __init__(self, me: GroupConsumer, declaring: Declaring | None = None) -> None:
        broker, keys, group = me.broker, me.keys, me.group
        self._clock = broker.clock
        self._keys = keys
        self._declaring = declaring or Declaring(keys, me.levels, group, AS_IT_IS)
        self._levels = me.served.descending
        self._group = group
        self._consumer = me.name
        self._lease = me.lease_ms
        self._blocking = broker.link()
        self._link = self._own = broker.link()
        self._shared = broker.shared
        self._streams = [keys.level(level) for level in self._levels]
        self._open, self._open_streams = self._levels, self._streams
        self._due_from = self._from_the_beginning()
        self._newest: dict[int, bytes] = {}
        self._level_of = {keys.level(level).encode(): level for level in self._levels}
        self._head = ("XREADGROUP", "GROUP", group, me.name, "COUNT")

    def take_newest(self) -> dict[int, bytes]:
        """Level to the newest entry id that was given out since the last call."""
        newest, self._newest = self._newest, {}
        return newest

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Keys that exist only while a look is needed.

        That is while a retry of the group waits, something of its stream is paused, or
        a worker of another declaration lines its events up.
        """
        return (
            self._keys.retry(self._group),
            self._keys.paused(),
            self._keys.rules(self._group),
        )

    async def positions(self) -> dict[str, bytes]:
        """How far the group is on each open level.

        Returns stream key and the id of the last entry that the group was given.

        Raises:
            GroupMissing: it does not exist on one of them.
        """
        found: dict[str, bytes] = {}
        replies = await self._link.batch(
            [("XINFO", "GROUPS", key) for key in self._open_streams]
        )
        for key, reply in zip(self._open_streams, replies, strict=True):
            if isinstance(reply, BrokerError):
                raise reply
            groups = {row["name"]: row for row in map(pairs, reply)}
            mine = groups.get(self._group.encode())
            if mine is None:
                raise GroupMissing(f"there is no group {self._group} on {key}")
            found[key] = mine["last-delivered-id"]
        return found

    async def rest(self) -> None:
        """Do without connections of its own until ``rise``.

        Commands go along the connection that all share.
        """
        self._link = self._shared
        await self._own.rest()
        await self._blocking.rest()

    def rise(self) -> None:
        """Have connections of its own again, with the next command."""
        self._link = self._own

    async def ensure_group(self) -> Declared:
        """Declare the group and create it where it is missing.

        See ``Declaring.declare``.

        Announces the lease, too: whatever is read from now on is judged by it.
        """
        declared = await self._declaring.declare(self._link)
        await self.announce()
        return declared

    async def announce(self) -> None:
        """Say how long the consumer's leases are. One command.

        To be repeated, for the row may get lost.
        """
        if self._lease:
            kept = max(_LEASES_KEPT, 4 * self._lease)
            # A server without memory refuses a new row. Nothing is taken from a worker
            # of whose lease nothing is known.
            with contextlib.suppress(OutOfMemory, WrongKeyType):
                key = self._keys.leases(self._group)
                await self._link.call(
                    *_ANNOUNCE.command((key,), self._consumer, self._lease, kept)
                )

    async def _dissolve(self) -> int:
        """Give back the entries that are queued by key; returns how many.

        This group is not ordered by key (any more), so no worker would take them.
        """
        keys, group = self._keys, self._group
        if not await self._link.call("EXISTS", keys.rules(group)):
            return 0
        rows = (
            keys.rules(group),
            keys.heads(group),
            keys.behind(group),
            keys.retry(group),
            keys.admissions(group),
        )
        places = (
            key
            for level in self._levels
            for key in (
                keys.level(level),
                keys.lane(group, level),
                keys.ring(group, level),
            )
        )
        command = _DISSOLVE.command(
            (*rows, *places), group, WAITING, PARKED, *self._levels
        )
        given, more = 0, 1
        while more:
            back, more = await self._link.call(*command)
            given += back
        return given

    @property
    def open_levels(self) -> tuple[int, ...]:
        """The levels that new entries are read from, highest first: all but the paused ones."""
        return self._open

    def hold(self, paused: frozenset[int]) -> None:
        """Read no new entries of these levels, until called again with others."""
        self._open = tuple(level for level in self._levels if level not in paused)
        self._open_streams = [self._keys.level(level) for level in self._open]
        self._due_from = self._from_the_beginning()

    def _from_the_beginning(self) -> list[int]:
        return [0] * len(self._levels)

    async def wait(
        self, count: int, seconds: float, patience: float = 10.0
    ) -> list[Delivery]:
        """Block for new entries on the open levels, at most ``seconds``.

        At most ``count`` of each level.

        ``patience``: seconds beyond that after which the answer counts as lost.
        """
        block = max(1, round(seconds * 1000))
        streams = self._open_streams
        ids = (">",) * len(streams)
        reply = await self._blocking.call(
            *self._head,
            count,
            "BLOCK",
            block,
            "STREAMS",
            *streams,
            *ids,
            within=seconds + patience,
        )
        return self._by_stream(reply)

    async def take(self, limit: int) -> list[Delivery]:
        """At most ``limit`` new entries, strictly the highest levels first; never blocks."""
        levels = self._open
        reply = await self._link.call(
            *_FETCH.command(self._open_streams, self._group, self._consumer, limit)
        )
        return self._new((levels[index - 1], entries) for index, entries in reply)

    async def take_turns(self, turns: LevelTurns, limit: int) -> list[Delivery]:
        """At most ``limit`` new entries, divided by ``turns``; never blocks."""
        levels = self._open
        places = turns.plan(levels, limit)
        late, found, overdue = await self._link.call(
            *_FETCH_TURNS.command(
                self._open_streams,
                self._group,
                self._consumer,
                limit,
                round((turns.max_wait or 0) * 1000),
                turns.overdue_places(limit),
                *places,
            )
        )
        counts = dict.fromkeys(levels, 0)
        for index, entries in found:
            counts[levels[index - 1]] += len(entries)
        turns.took(levels, places, counts, late)
        rows = (*overdue, *found)
        return self._new((levels[index - 1], entries) for index, entries in rows)

    def _planned(self, turns: LevelTurns, limit: int) -> dict[int, int]:
        """Each open level with its places, as ``turns`` divides them."""
        if not self._open:
            return {}
        return dict(zip(self._open, turns.plan(self._open, limit), strict=True))

    async def take_from(self, level: int, limit: int) -> tuple[list[Delivery], bool]:
        """At most ``limit`` new entries while ``level`` is the busy one; never blocks.

        It uses XREADGROUP, for a script costs the server 3 µs more per entry. Entries
        that arrived meanwhile on the levels above come too. A small share of the limit
        is held free for each of these levels, so the sum never exceeds the limit.

        Returns them, and whether the level is the busy one still: it gave all that was
        asked for, those above nothing.
        """
        streams = self._open_streams
        at = self._open.index(level)
        share = max(1, limit // 32)
        rest = limit - share * at
        commands: list[Command] = []
        if at:
            commands.append(
                (*self._head, share, "STREAMS", *streams[:at], *(">",) * at)
            )
        commands.append((*self._head, rest, "STREAMS", streams[at], ">"))
        taken: list[Delivery] = []
        refused: BrokerError | None = None
        for reply in await self._link.batch(commands):
            if isinstance(reply, BrokerError):
                refused = reply
            else:
                taken += self._by_stream(reply)
        if refused is not None and not taken:
            raise refused
        return taken, len(taken) == rest and taken[0].level == level

    async def take_alone(self, suspect: str) -> list[Delivery]:
        """That suspect, if it is due still, and nothing else; never blocks."""
        return (await self._take_due(0, 0, None, suspect)).deliveries

    async def take_due(
        self, limit: int, suspects: int, turns: LevelTurns | None = None
    ) -> DueReply:
        """At most ``limit`` retries whose time has come; never blocks.

        At most ``suspects`` of them are suspects.

        With ``turns``, and while a retry is due, new entries are taken in turn with
        them, as it divides the places; else none. The highest level goes first, the
        oldest due time within it.

        Says which levels are paused, too; of those it gives nothing. Follow it with
        ``hold`` when they changed.
        """
        return await self._take_due(limit, suspects, turns)

    async def _take_due(
        self, limit: int, suspects: int, turns: LevelTurns | None, alone: str = ""
    ) -> DueReply:
        keys = (
            self._keys.retry(self._group),
            self._keys.attempts(self._group),
            self._keys.paused(),
            self._keys.admissions(self._group),
            self._keys.rules(self._group),
            *self._streams,
        )
        planned = self._planned(turns, limit) if turns else {}
        per_level = zip(self._levels, self._due_from, strict=True)
        command = _FETCH_DUE.command(
            keys,
            self._group,
            self._consumer,
            PARKED,
            limit,
            suspects,
            turns.retries if turns else -1,
            round((turns.max_wait or 0) * 1000) if turns else 0,
            turns.overdue_places(limit) if turns else 0,
            alone,
            *(
                part
                for level, since in per_level
                for part in (level, since, planned.get(level, 0))
            ),
        )
        reply = await self._link.call(*command)
        (
            now,
            next_due,
            vanished,
            entries,
            paused,
            since,
            scopes,
            more,
            odd,
            late,
            fresh,
            suspect,
            lined_up,
        ) = reply
        self._clock.observe(now)
        if lined_up and await self._dissolve():
            # A worker of before lined them up, and they would wait for its next turn or
            # for its end.
            next_due = now
        if not alone:
            self._due_from = since or self._from_the_beginning()
        deliveries = read_rows(entries)
        if turns and deliveries:
            turns.retries = odd
            turns.took_these(planned, deliveries[late:], late)
        due = None if next_due < 0 else next_due / 1000
        held = frozenset(scope.decode("utf-8", "replace") for scope in scopes)
        levels = frozenset(map(int, paused))
        return DueReply(
            deliveries,
            due,
            vanished,
            levels,
            held,
            more == 1,
            fresh > 0,
            suspect.decode(),
        )

    async def hand_back_unknown(self, held: Iterable[tuple[int, str]]) -> int:
        """Give back what the server says this consumer holds and the consumer does not know of.

        To be called while no read is under way. Returns how many were handed back.
        """
        # From the beginning, once in a while: with a clock set back, rows may lie
        # before where the looking begins.
        self._due_from = self._from_the_beginning()
        known: dict[int, list[str]] = {level: [] for level in self._levels}
        for level, entry_id in held:
            known[level].append(entry_id)
        back = 0
        for level, ids in known.items():
            keys = (
                self._keys.level(level),
                self._keys.retry(self._group),
                self._keys.admissions(self._group),
            )
            back += await self._link.call(
                *_HAND_BACK.command(
                    keys, self._group, self._consumer, PARKED, level, *ids
                )
            )
        await self._dissolve()
        return back

    async def leave(self, held: Iterable[tuple[int, str]] | None = None) -> None:
        """Take the consumer off its group, wherever nothing is pending with it.

        One command, as a rule.

        Args:
            held: the entries that it knows of. Other entries that are pending with it
                came with an answer that was no longer awaited, as everything ends at
                once. They are given back first: left alone they would wait for their
                leases, and count as stalled. None: pending entries stay.
        """
        me = (
            self._link,
            self._keys.leases(self._group),
            self._streams,
            self._group,
            self._consumer,
        )
        if await leave(*me) and held is not None:
            with contextlib.suppress(BrokerError, TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    if await self.hand_back_unknown(held):
                        await leave(*me)

    async def close(self) -> None:
        """Close its connections."""
        await self._blocking.close()
        await self._own.close()

    def _by_stream(self, reply: Any) -> list[Delivery]:
        """The entries of a plain read, whose reply has them by the key of a stream."""
        return self._new((self._level_of[key], entries) for key, entries in reply or ())

    def _new(self, found: Iterable[tuple[int, Sequence[Any]]]) -> list[Delivery]:
        """New entries, level by level; the newest of each level is remembered."""
        taken: list[Delivery] = []
        for level, entries in found:
            self._newest[level] = entries[-1][0]
            taken += read_new(level, entries)
        return taken

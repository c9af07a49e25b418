"""Dead letters: look at them, replay them, discard them, export them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from streams.admin.dead_letter import REASONS, DeadLetter, Filter
from streams.admin.letters import LetterPage, Letters, Replay, checked_id
from streams.admin.partitioned import OnGroup, ask_each, merged, partly, tolerant
from streams.common.annotated import holds_to_annotations
from streams.errors import BrokerUnavailable, ConfigurationError, NotFound
from streams.events.names import entry_order

__all__ = ["DeadLetters", "LetterPage", "Replay", "check_reason"]


@holds_to_annotations
class DeadLetters(OnGroup):
    """The dead letters of one group, on all partitions of its stream, or on one.

    Args:
        broker: an open broker.
        stream: the stream's name.
        group: the group's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    async def count(self) -> int:
        """How many there are. One command, one more per partition.

        Raises:
            PartlyAway: some partitions are away; its ``answer`` counts those of the
                others. So it is of all below.
        """
        counts, away = await ask_each(await self._letters(), Letters.count)
        if away:
            raise partly(self.stream, away, sum(counts))

        return sum(counts)

    async def iterate(
        self, where: Filter | None = None, *, after: str = ""
    ) -> AsyncIterator[DeadLetter]:
        """Iterate over the dead letters that the filter takes, oldest first.

        They are read page by page. ``where`` None takes all of them. ``after`` is the
        id of the last one seen.
        """
        away: dict[str, BrokerUnavailable] = {}
        async for letter in self._merged(await self._letters(), where, after, away):
            yield letter

        if away:
            raise partly(self.stream, away, None)

    def _merged(
        self,
        parts: Sequence[Letters],
        where: Filter | None,
        after: str,
        away: dict[str, BrokerUnavailable],
    ) -> AsyncIterator[DeadLetter]:
        """The letters of all partitions, oldest first; ``away`` gets those that are away."""
        start = checked_id(after) if after else ""
        sources = [
            tolerant(part.stream, part.iterate(where or Filter(), start), away)
            for part in parts
        ]

        return merged(sources, lambda letter: entry_order(letter.id))

    async def page(
        self, where: Filter | None = None, *, after: str = "", limit: int = 50
    ) -> list[DeadLetter]:
        """A page of the dead letters that the filter takes, oldest first.

        It has at most ``limit`` dead letters. ``after`` is the id of the last one seen.

        Letters of several partitions with the same id are not parted: then there are a
        few more.
        """
        found: list[DeadLetter] = []
        if limit <= 0:
            return found

        away: dict[str, BrokerUnavailable] = {}
        parts = await self._letters()

        async for letter in self._merged(parts, where, after, away):
            if len(found) >= limit and letter.id != found[-1].id:
                break

            found.append(letter)
            if len(found) >= limit and len(parts) == 1:
                break

        if away:
            raise partly(self.stream, away, found)

        return found

    async def look(
        self,
        where: Filter | None = None,
        *,
        after: str = "",
        limit: int = 50,
        examine: int = 5000,
    ) -> LetterPage:
        """As ``page``, of at most ``examine`` dead letters.

        It takes at most one command per 500 of them, however many there are.

        Of several partitions so many are examined on each.
        """
        start = checked_id(after) if after else ""
        parts = await self._letters()
        pages, away = await ask_each(
            parts, lambda part: part.look(where or Filter(), start, limit, examine)
        )
        found = pages[0] if len(pages) == 1 else _first_of(pages, limit)
        if away:
            raise partly(self.stream, away, found)

        return found

    async def count_matching(self, where: Filter, most: int) -> tuple[int, bool]:
        """Count how many of the first ``most`` dead letters the filter takes.

        Returns the count, and whether there are dead letters behind them.
        """
        if not where:
            count = await self.count()
            return count, False

        page = await self.look(where, limit=most, examine=most)

        return len(page.letters), bool(page.next)

    async def latest(self, most: int) -> AsyncIterator[DeadLetter]:
        """The newest, newest first; one command per 500."""
        parts = [part.latest(most) for part in await self._letters()]
        async for letter in merged(
            parts, lambda letter: tuple(-number for number in entry_order(letter.id))
        ):
            if most <= 0:
                return

            yield letter
            most -= 1

    async def show(self, letter_id: str) -> DeadLetter:
        """One of them.

        Raises:
            NotFound: there is none with this id (any more).
            ConfigurationError: several partitions have one of this id.
        """
        part = await self._part_of(checked_id(letter_id))
        stored = await part.get(letter_id)
        if stored is None:
            raise self._missing(letter_id)

        return part.read(stored)

    async def replay(
        self,
        which: Filter | Sequence[str],
        *,
        dry_run: bool = False,
        rate: float | None = None,
        limit: int | None = None,
    ) -> Replay:
        """Put dead letters back on their levels, with their event ids.

        The replay is counted, and it is in the audit record.

        Args:
            which: a filter, or ids. Events that die while the replay runs are not
                taken.
            dry_run: only count.
            rate: at most this many per second.
            limit: at most this many.

        Raises:
            NotFound: an id that was given is not there; nothing was moved.
            GroupDropped: the group was given up, so nothing would handle them; nothing
                was moved.
            ConfigurationError: ``rate`` is not above 0, or several partitions have a
                letter of an id.
        """
        outcome = Replay()
        async for part in self.replaying(
            which, dry_run=dry_run, rate=rate, limit=limit
        ):
            outcome.matched += part.matched
            outcome.moved |= part.moved

        return outcome

    async def replaying(
        self,
        which: Filter | Sequence[str],
        *,
        dry_run: bool = False,
        rate: float | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Replay]:
        """As ``replay``, and tell of each batch after it was put back.

        The replay stops when its caller stops reading.

        Raises:
            NotFound: an id that was given is not there; nothing was moved.
            GroupDropped: the group was given up, so nothing would handle them.
            ConfigurationError: ``rate`` is not above 0, or several partitions have a
                letter of an id.
        """
        if rate is not None and not rate > 0:
            raise ConfigurationError(
                f"rate is a number of letters per second above 0, not {rate!r}"
            )

        plan = await self._plan(which)

        for part, meant in plan:
            async for outcome in part.replaying(
                meant, dry_run=dry_run, rate=rate, limit=limit
            ):
                if part is not plan[0][0]:
                    outcome.moved = {
                        f"{part.stream}/{ident}": place
                        for ident, place in outcome.moved.items()
                    }

                limit = None if limit is None else limit - outcome.matched
                yield outcome

    async def replay_edited(self, letter_id: str, data: Any) -> str:
        """Put one dead letter back with another body.

        The rest of the event stays, its id too. Returns where the event is now.

        Args:
            letter_id: of the dead letter.
            data: the new body; bytes pass as they are, everything else as the event's
                media type says.

        Raises:
            NotFound: there is no such dead letter (any more).
            GroupDropped: the group was given up, so nothing would handle it.
            ConfigurationError: several partitions have one of this id.
            EventError: ``data`` cannot be a body.
        """
        part = await self._part_of(checked_id(letter_id))
        place = await part.replay_edited(letter_id, data)
        if not place:
            raise self._missing(letter_id)

        return place

    async def discard(
        self, which: Filter | Sequence[str], *, dry_run: bool = False
    ) -> int:
        """Delete dead letters for good, audited; returns how many.

        Args:
            which: a filter, or ids.
            dry_run: only count.

        Raises:
            NotFound: an id that was given is not there; nothing was deleted.
            ConfigurationError: several partitions have a letter of an id.
        """
        return sum(
            [
                await part.discard(meant, dry_run=dry_run)
                for part, meant in await self._plan(which)
            ]
        )

    async def export(
        self, where: Filter | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Every dead letter with its stored fields, body included, as plain JSON types."""
        async for letter in self.iterate(where):
            yield letter.as_dict(body=True)

    async def _letters(self) -> list[Letters]:
        return [
            Letters(self._broker, name, self.group, self._by)
            for name in await self._names()
        ]

    async def _part_of(self, letter_id: str) -> Letters:
        """The partition that has a dead letter; the first, if none has.

        Raises:
            ConfigurationError: several have one.
        """
        parts = await self._letters()
        if len(parts) == 1:
            return parts[0]

        having = [part for part in parts if await part.get(letter_id) is not None]
        if len(having) > 1:
            raise ConfigurationError(
                f"{letter_id} is the id of dead letters on "
                f"{' and '.join(part.stream for part in having)}: say which "
                "with --partition, or partition="
            )

        return having[0] if having else parts[0]

    async def _plan(
        self, which: Filter | Sequence[str]
    ) -> list[tuple[Letters, Filter | Sequence[str]]]:
        """The plan for each partition; ids are looked for before anything is changed."""
        parts = await self._letters()
        if isinstance(which, Filter) or len(parts) == 1:
            return [(part, which) for part in parts]

        places: dict[str, tuple[Letters, list[str]]] = {}

        for letter_id in which:
            part = await self._part_of(checked_id(letter_id))
            if await part.get(letter_id) is None:
                raise NotFound(f"{self._missing(letter_id)}; nothing was changed")

            places.setdefault(part.stream, (part, []))[1].append(letter_id)

        return list(places.values())

    def _missing(self, letter_id: str) -> NotFound:
        return NotFound(f"{self.stream}/{self.group} has no dead letter {letter_id}")


def _first_of(pages: Sequence[LetterPage], limit: int) -> LetterPage:
    """The first letters of several partitions, in order.

    Where a partition was not read to its end, nothing is taken from behind what was
    read of it.
    """
    ends = [entry_order(page.next) for page in pages if page.next]
    letters = sorted(
        (letter for page in pages for letter in page.letters),
        key=lambda letter: entry_order(letter.id),
    )

    if ends:
        letters = [letter for letter in letters if entry_order(letter.id) <= min(ends)]

    end = "-".join(map(str, min(ends))) if ends else ""
    if len(letters) > limit:
        # Letters of the same id are not parted: the next page begins behind it.
        last = entry_order(letters[limit - 1].id)
        kept = [letter for letter in letters if entry_order(letter.id) <= last]

        return LetterPage(kept, kept[-1].id if len(kept) < len(letters) else end)

    return LetterPage(letters, end)


async def check_reason(letters: DeadLetters, where: Filter) -> None:
    """Refuse a reason that no dead letter can have.

    The reasons of this package are known; others are those of policies of the user, if
    a letter of the group has them.

    Raises:
        ConfigurationError: there is no such reason; the message names those that there
            are.
    """
    wanted = where.reason
    if wanted is None or wanted in REASONS:
        return

    found = {letter.reason async for letter in letters.iterate()}
    if wanted not in found:
        more = sorted(found - set(REASONS))
        raise ConfigurationError(
            f"reason {wanted!r}: letters die by {', '.join((*REASONS, *more))}"
        )

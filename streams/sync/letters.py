"""Dead letters, blocking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

from streams.admin import dead_letters as asynchronous
from streams.admin.dead_letter import DeadLetter, Filter
from streams.admin.dead_letters import LetterPage, Replay
from streams.events.names import checked_name
from streams.pipeline import Pipeline
from streams.sync.portal import Portal

R = TypeVar("R")


class DeadLetters:
    """The dead letters of one group; see ``streams.DeadLetters``.

    Args:
        portal: into the pipeline.
        stream, group: names.
        by: who acts, for the audit record.
        partition: the number of one partition; None: all.
    """

    def __init__(
        self,
        portal: Portal,
        stream: str,
        group: str,
        *,
        by: str = "",
        partition: int | None = None,
    ) -> None:
        self.stream = checked_name(stream, "stream")
        self.group = checked_name(group, "group")
        self._by = by
        self._partition = partition
        self._portal = portal

    def count(self) -> int:
        """How many there are. One command."""
        return self._call(lambda letters: letters.count())

    def iterate(
        self, where: Filter | None = None, *, after: str = ""
    ) -> Iterator[DeadLetter]:
        """Dead letters that the filter takes, oldest first, read a page at a time."""
        return self._portal.iterate(lambda p: self._of(p).iterate(where, after=after))

    def page(
        self, where: Filter | None = None, *, after: str = "", limit: int = 50
    ) -> list[DeadLetter]:
        """At most ``limit`` of them; ``after`` is the id of the last one seen."""
        return self._call(lambda letters: letters.page(where, after=after, limit=limit))

    def look(
        self,
        where: Filter | None = None,
        *,
        after: str = "",
        limit: int = 50,
        examine: int = 5000,
    ) -> LetterPage:
        """As ``page``, of at most ``examine`` letters; see ``streams.DeadLetters.look``."""
        return self._call(
            lambda letters: letters.look(
                where, after=after, limit=limit, examine=examine
            )
        )

    def count_matching(self, where: Filter, most: int) -> tuple[int, bool]:
        """How many of the first ``most`` the filter takes; see ``streams.DeadLetters.count_matching``."""
        return self._call(lambda letters: letters.count_matching(where, most))

    def latest(self, most: int) -> Iterator[DeadLetter]:
        """The newest, newest first."""
        return self._portal.iterate(lambda p: self._of(p).latest(most))

    def show(self, letter_id: str) -> DeadLetter:
        """One of them; see ``streams.DeadLetters.show``."""
        return self._call(lambda letters: letters.show(letter_id))

    def replay(
        self,
        which: Filter | Sequence[str],
        *,
        dry_run: bool = False,
        rate: float | None = None,
        limit: int | None = None,
    ) -> Replay:
        """Put dead letters back on their levels; see ``streams.DeadLetters.replay``."""
        return self._call(
            lambda letters: letters.replay(
                which, dry_run=dry_run, rate=rate, limit=limit
            )
        )

    def replaying(
        self,
        which: Filter | Sequence[str],
        *,
        dry_run: bool = False,
        rate: float | None = None,
        limit: int | None = None,
    ) -> Iterator[Replay]:
        """As ``replay``, telling of each batch; see ``streams.DeadLetters.replaying``."""
        return self._portal.iterate(
            lambda p: self._of(p).replaying(
                which, dry_run=dry_run, rate=rate, limit=limit
            )
        )

    def replay_edited(self, letter_id: str, data: Any) -> str:
        """Put one dead letter back with another body; see ``streams.DeadLetters.replay_edited``."""
        return self._call(lambda letters: letters.replay_edited(letter_id, data))

    def discard(self, which: Filter | Sequence[str], *, dry_run: bool = False) -> int:
        """Delete dead letters for good; see ``streams.DeadLetters.discard``."""
        return self._call(lambda letters: letters.discard(which, dry_run=dry_run))

    def export(self, where: Filter | None = None) -> Iterator[dict[str, Any]]:
        """Every letter with its stored fields, body included, as plain JSON types."""
        return self._portal.iterate(lambda p: self._of(p).export(where))

    def _of(self, pipeline: Pipeline) -> asynchronous.DeadLetters:
        return pipeline.dead_letters(
            self.stream, self.group, by=self._by, partition=self._partition
        )

    def _call(self, function: Callable[[asynchronous.DeadLetters], Awaitable[R]]) -> R:
        return self._portal.call(lambda p: function(self._of(p)))

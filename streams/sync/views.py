"""What operators and callers ask for, blocking: pauses, groups, limits, keys and status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, Unpack

from streams.admin import cancellations as asynchronous_cancellations
from streams.admin import groups as asynchronous_groups
from streams.admin import limits as asynchronous_limits
from streams.admin import ordered_keys as asynchronous_ordered_keys
from streams.admin import pauses as asynchronous_pauses
from streams.admin import tracking as asynchronous_tracking
from streams.admin.cancellations import Cancellation
from streams.admin.groups import Drop, GroupList
from streams.admin.limits import KeyList, LimitList
from streams.admin.ordered_keys import OrderedKeyList
from streams.admin.pauses import PausedAttribute, PauseList, Pausing, Resumption
from streams.admin.status import EntryState, StreamRow, Survey
from streams.admin.tracking import Count, Noted, Tracked
from streams.events.names import checked_name
from streams.pipeline import Pipeline
from streams.quantities import Seconds
from streams.sync.portal import Portal

R = TypeVar("R")


class Pauses:
    """The pauses of one stream; see ``streams.Pauses``.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
        by: who acts, for the audit record.
        partition: the number of one partition; None: all.
    """

    def __init__(
        self, portal: Portal, stream: str, *, by: str = "", partition: int | None = None
    ) -> None:
        self.stream = checked_name(stream, "stream")
        self._by = by
        self._partition = partition
        self._portal = portal

    def pause(
        self,
        *,
        group: str = "",
        level: int | None = None,
        reason: str = "",
        **attribute: Unpack[PausedAttribute],
    ) -> Pausing:
        """Hold the stream, or a group, a level or an attribute of it; see ``streams.Pauses.pause``."""
        return self._portal.call(
            lambda p: self._of(p).pause(
                group=group, level=level, reason=reason, **attribute
            )
        )

    def resume(
        self,
        *,
        group: str = "",
        level: int | None = None,
        **attribute: Unpack[PausedAttribute],
    ) -> Resumption:
        """End the pause of exactly this scope; see ``streams.Pauses.resume``."""
        return self._portal.call(
            lambda p: self._of(p).resume(group=group, level=level, **attribute)
        )

    def held(self) -> dict[str, int]:
        """How many events were put aside for which pause of an attribute; see ``streams.Pauses.held``."""
        return self._portal.call(lambda p: self._of(p).held())

    def resume_all(self) -> Resumption:
        """End every pause of the stream; see ``streams.Pauses.resume_all``."""
        return self._portal.call(lambda p: self._of(p).resume_all())

    def list(self) -> PauseList:
        """Every pause of the stream, in the order of their scopes. One command."""
        return self._portal.call(lambda p: self._of(p).list())

    def _of(self, pipeline: Pipeline) -> asynchronous_pauses.Pauses:
        return pipeline.pauses(self.stream, by=self._by, partition=self._partition)


class Groups:
    """The groups of one stream; see ``streams.Groups``.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
        by: who acts, for the audit record.
        partition: the number of one partition; None: all.
    """

    def __init__(
        self, portal: Portal, stream: str, *, by: str = "", partition: int | None = None
    ) -> None:
        self.stream = checked_name(stream, "stream")
        self._by = by
        self._partition = partition
        self._portal = portal

    def list(self) -> GroupList:
        """Every group that is declared or there, by name; see ``streams.Groups.list``."""
        return self._portal.call(lambda p: self._of(p).list())

    def drop(self, group: str, *, force: bool = False) -> Drop:
        """Give a group up; see ``streams.Groups.drop``."""
        return self._portal.call(lambda p: self._of(p).drop(group, force=force))

    def _of(self, pipeline: Pipeline) -> asynchronous_groups.Groups:
        return pipeline.groups(self.stream, by=self._by, partition=self._partition)


class Limits:
    """The limits of one group; see ``streams.Limits``.

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

    def list(self) -> LimitList:
        """The limits that are declared or set; see ``streams.Limits.list``."""
        return self._call(lambda limits: limits.list())

    def set(
        self, name: str, rate: str, burst: int | None = None, *, key: object = None
    ) -> str:
        """Set a limit, for all its keys or for one; see ``streams.Limits.set``."""
        return self._call(lambda limits: limits.set(name, rate, burst, key=key))

    def reset(self, name: str, *, key: object = None) -> str:
        """Back to what is declared; see ``streams.Limits.reset``."""
        return self._call(lambda limits: limits.reset(name, key=key))

    def throttle(self, name: str, key: object, seconds: Seconds) -> float:
        """Let nothing of a key start for ``seconds``; see ``streams.Limits.throttle``."""
        return self._call(lambda limits: limits.throttle(name, key, seconds))

    def waiting(self, limit: int = 20) -> KeyList:
        """The keys that have the longest to wait; see ``streams.Limits.waiting``."""
        return self._call(lambda limits: limits.waiting(limit))

    def _call(self, act: Callable[[asynchronous_limits.Limits], Awaitable[R]]) -> R:
        return self._portal.call(lambda p: act(self._of(p)))

    def _of(self, pipeline: Pipeline) -> asynchronous_limits.Limits:
        return pipeline.limits(
            self.stream, self.group, by=self._by, partition=self._partition
        )


class OrderedKeys:
    """The keys of one group with ``order_by``; see ``streams.OrderedKeys``.

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

    def list(
        self, limit: int = 100, *, state: Literal["working", "held"] | None = "held"
    ) -> OrderedKeyList:
        """Keys with work, those with the most behind them first; see ``streams.OrderedKeys.list``."""
        return self._portal.call(lambda p: self._of(p).list(limit, state=state))

    def release(self, key: str) -> str:
        """Try a held key's dead event again; see ``streams.OrderedKeys.release``."""
        return self._portal.call(lambda p: self._of(p).release(key))

    def skip(self, key: str) -> None:
        """Let a held key go on without its dead event; see ``streams.OrderedKeys.skip``."""
        self._portal.call(lambda p: self._of(p).skip(key))

    def _of(self, pipeline: Pipeline) -> asynchronous_ordered_keys.OrderedKeys:
        return pipeline.ordered_keys(
            self.stream, self.group, by=self._by, partition=self._partition
        )


class Cancellations:
    """Cancels events of one stream; see ``streams.Cancellations``.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
        by: who acts, for the audit record.
        partition: the number of one partition; None: all.
    """

    def __init__(
        self, portal: Portal, stream: str, *, by: str = "", partition: int | None = None
    ) -> None:
        self.stream = checked_name(stream, "stream")
        self._by = by
        self._partition = partition
        self._portal = portal

    def cancel(self, id: str, group: str = "") -> EntryState:
        """Cancel one event; see ``streams.Cancellations.cancel``."""
        return self._portal.call(lambda p: self._of(p).cancel(id, group))

    def cancel_many(self, ids: Iterable[str], group: str = "") -> Cancellation:
        """Cancel events; see ``streams.Cancellations.cancel_many``."""
        return self._portal.call(lambda p: self._of(p).cancel_many(ids, group))

    def _of(self, pipeline: Pipeline) -> asynchronous_cancellations.Cancellations:
        return pipeline.cancellations(
            self.stream, by=self._by, partition=self._partition
        )


class Tracking:
    """Follows events of one stream; see ``streams.admin.tracking.Tracking``.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
        ranks: the states, with their ranks.
        retention: seconds after the latest note.
    """

    def __init__(
        self, portal: Portal, stream: str, ranks: Mapping[str, int], retention: Seconds
    ) -> None:
        self._portal = portal
        self._made = (checked_name(stream, "stream"), ranks, retention)

    def note(
        self,
        id: str,
        state: str,
        facts: Mapping[str, Any] | None = None,
        *,
        fields: Mapping[str, str] | None = None,
        counts: Sequence[Count] = (),
        anew: bool = False,
    ) -> Noted:
        """Write down that an event reached a state; see ``streams.admin.tracking.Tracking.note``."""
        return self._call(
            lambda notes: notes.note(
                id, state, facts, fields=fields, counts=counts, anew=anew
            )
        )

    def get(self, id: str) -> Tracked | None:
        """What is known of an event; None if it is not tracked (any more). One command."""
        return self._call(lambda notes: notes.get(id))

    def totals(self) -> dict[str, int]:
        """How many events reached which state, since ever; each move counts."""
        return self._call(lambda notes: notes.totals())

    def counted(self, names: Sequence[str]) -> list[dict[str, int]]:
        """What was counted under each name; empty where nothing was, or not any more. One round trip."""
        return self._call(lambda notes: notes.counted(names))

    def link(self, name: str, id: str) -> None:
        """Let an event be found by another name, e.g. the id that a provider gave it."""
        self._call(lambda notes: notes.link(name, id))

    def linked(self, name: str) -> str | None:
        """The id of the event with that name; None if there is none (any more)."""
        return self._call(lambda notes: notes.linked(name))

    def file(self, name: str, id: str) -> None:
        """Let an event be found with others that have something in common, e.g. a customer; the latest 1,000."""
        self._call(lambda notes: notes.file(name, id))

    def filed(self, name: str, *, most: int = 100) -> list[str]:
        """Ids of the events that were filed under a name, the latest first. One command."""
        return self._call(lambda notes: notes.filed(name, most=most))

    def known(self) -> Iterator[list[str]]:
        """Ids of all that is tracked, some at a time, in no order, perhaps twice. Reads all keys of the server."""
        return self._portal.iterate(lambda p: p.tracking(*self._made).known())

    def forget(
        self,
        ids: Sequence[str],
        *,
        links: Sequence[str] = (),
        files: Sequence[str] = (),
    ) -> int:
        """Forget events, other names of them, and names that they were filed under; returns how much was known."""
        return self._call(lambda notes: notes.forget(ids, links=links, files=files))

    def _call(self, act: Callable[[asynchronous_tracking.Tracking], Awaitable[R]]) -> R:
        return self._portal.call(lambda p: act(p.tracking(*self._made)))


class Status:
    """Where entries stand; see ``streams.Status``.

    Args:
        portal: into the pipeline.
    """

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def streams(self) -> dict[str, list[int]]:
        """Names and levels of the streams. One command."""
        return self._portal.call(lambda p: p.status().streams())

    def levels(self, stream: str) -> list[int]:
        """The levels of one stream; see ``streams.Status.levels``."""
        return self._portal.call(lambda p: p.status().levels(stream))

    def existing(self, stream: str) -> list[int]:
        """The levels of a stream that has to be there; see ``streams.Status.existing``."""
        return self._portal.call(lambda p: p.status().existing(stream))

    def overview(self) -> list[StreamRow]:
        """Every stream with its groups and levels."""
        return self._portal.call(lambda p: p.status().overview())

    def survey(self, known: Mapping[str, Sequence[int]] | None = None) -> Survey:
        """What of every stream can be told while shards of a cluster are away; see ``streams.Status.survey``."""
        return self._portal.call(lambda p: p.status().survey(known))

    def streams_of(
        self, name: str, partition: int | None = None
    ) -> dict[str, list[int]]:
        """The partitions of a stream, with their levels; see ``streams.Status.streams_of``."""
        return self._portal.call(lambda p: p.status().streams_of(name, partition))

    def stream(self, name: str, *, partition: int | None = None) -> StreamRow:
        """One stream; see ``streams.Status.stream``."""
        return self._portal.call(lambda p: p.status().stream(name, partition=partition))

    def find(
        self,
        stream: str,
        ident: str,
        group: str = "",
        *,
        depth: int | None = None,
        partition: int | None = None,
    ) -> list[EntryState]:
        """Where an event stands, in each group (or in one); see ``streams.Status.find``."""
        return self._portal.call(
            lambda p: p.status().find(
                stream, ident, group, depth=depth, partition=partition
            )
        )

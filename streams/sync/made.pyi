"""Made by ``python docs/tooling/blocking.py``; a test holds it to the code."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Unpack

from streams.admin.cancellations import Cancellation
from streams.admin.dead_letter import DeadLetter, Filter
from streams.admin.groups import Drop, GroupList
from streams.admin.letters import LetterPage, Replay
from streams.admin.limits import KeyList, LimitList
from streams.admin.ordered_keys import OrderedKeyList
from streams.admin.pauses import PausedAttribute, PauseList, Pausing, Resumption
from streams.admin.rows import StreamRow, Survey
from streams.admin.status import EntryState
from streams.admin.tracking import Noted, Tracked
from streams.admin.why import Reasons, SeveralEvents
from streams.broker.state.tracking import Count
from streams.handlers.plans import GroupPlan
from streams.handlers.registry import HandlerOptions
from streams.handlers.routes import HandlerFunction
from streams.pipeline import F, H
from streams.policy.declaration import Retention
from streams.policy.partitions import Partitions
from streams.quantities import Seconds
from streams.sync.by_hand import BlockingPipeline, BlockingProducer
from streams.sync.mirror import GroupMirror, Mirror, StreamMirror, TrackingMirror

SOURCES: dict[type, type]
WITHOUT: dict[type, tuple[str, ...]]

class Cancellations(StreamMirror):
    """Cancels events of one stream that are scheduled, or that wait for a retry in a group.

    They are looked for on all partitions of the stream, or on one.

    A cancelled event is gone, with its attempt record; the audit record has the name
    given in ``by``. Another group that still needs the event keeps it. The server
    decides in one step whether it is cancelled or starts.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    def cancel(self, id: str, group: str = "") -> EntryState:
        """Cancel one event; returns what it was, as it stood until then.

        Args:
            id: an event id, an entry id, ``LEVEL|ENTRY-ID``, or ``LEVEL|EVENT-ID`` of a
                scheduled event.
            group: where it waits for a retry; needed if it does in several.

        Raises:
            NotCancelled: it is pending, processing, dead or done, or the id means
                several; the message says what to do.
            NotFound: the stream, the group, or any trace of the event is missing.
        """

    def cancel_many(self, ids: Iterable[str], group: str = "") -> Cancellation:
        """Cancel events; one that cannot be does not hold up the others.

        Raises:
            NotFound: the stream or the group is missing.
        """

class DeadLetters(GroupMirror):
    """The dead letters of one group, on all partitions of its stream, or on one.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
        group: the group's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    def count(self) -> int:
        """How many there are. One command, one more per partition.

        Raises:
            PartlyAway: some partitions are away; its ``answer`` counts those of the
                others. So it is of all below.
        """

    def iterate(
        self, where: Filter | None = None, *, after: str = ""
    ) -> Iterator[DeadLetter]:
        """Iterate over the dead letters that the filter takes, oldest first.

        They are read page by page. ``where`` None takes all of them. ``after`` is the
        id of the last one seen.
        """

    def page(
        self, where: Filter | None = None, *, after: str = "", limit: int = 50
    ) -> list[DeadLetter]:
        """A page of the dead letters that the filter takes, oldest first.

        It has at most ``limit`` dead letters. ``after`` is the id of the last one seen.

        Letters of several partitions with the same id are not parted: then there are a
        few more.
        """

    def look(
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

    def count_matching(self, where: Filter, most: int) -> tuple[int, bool]:
        """Count how many of the first ``most`` dead letters the filter takes.

        Returns the count, and whether there are dead letters behind them.
        """

    def latest(self, most: int) -> Iterator[DeadLetter]:
        """The newest, newest first; one command per 500."""

    def show(self, letter_id: str) -> DeadLetter:
        """One of them.

        Raises:
            NotFound: there is none with this id (any more).
            ConfigurationError: several partitions have one of this id.
        """

    def replay(
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

    def replaying(
        self,
        which: Filter | Sequence[str],
        *,
        dry_run: bool = False,
        rate: float | None = None,
        limit: int | None = None,
    ) -> Iterator[Replay]:
        """As ``replay``, and tell of each batch after it was put back.

        The replay stops when its caller stops reading.

        Raises:
            NotFound: an id that was given is not there; nothing was moved.
            GroupDropped: the group was given up, so nothing would handle them.
            ConfigurationError: ``rate`` is not above 0, or several partitions have a
                letter of an id.
        """

    def replay_edited(self, letter_id: str, data: Any) -> str:
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

    def discard(self, which: Filter | Sequence[str], *, dry_run: bool = False) -> int:
        """Delete dead letters for good, audited; returns how many.

        Args:
            which: a filter, or ids.
            dry_run: only count.

        Raises:
            NotFound: an id that was given is not there; nothing was deleted.
            ConfigurationError: several partitions have a letter of an id.
        """

    def export(self, where: Filter | None = None) -> Iterator[dict[str, Any]]:
        """Every dead letter with its stored fields, body included, as plain JSON types."""

class Groups(StreamMirror):
    """The groups of one stream, on all of its partitions, or on one.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    def list(self) -> GroupList:
        """Every group that is declared or there, by name.

        A group that was dropped and left dead letters is among them.

        4 commands and one per dropped group, 2 per level, 3 per level and group,
        whatever the stream holds.

        Raises:
            NotFound: there is no such stream.
        """

    def drop(self, group: str, *, force: bool = False) -> Drop:
        """Give a group up: events wait for it no longer, and those are deleted that only it needed.

        Its pending list, retries, attempt records and pauses go; its dead letters stay,
        to be replayed or discarded. On a stream with retention ``work`` the events stay
        for the group that comes next. Can be repeated: what an interrupted call left is
        trimmed then.

        Args:
            group: its name.
            force: drop it although consumers are alive. A worker that runs such a
                consumer ends with an error.

        Raises:
            GroupInUse: a consumer was heard of within the last minute.
            NotFound: there is no such stream, or no such group and nothing to trim.
        """

class Limits(GroupMirror):
    """The limits of one group, on all partitions of its stream, or on one.

    Each partition keeps to a limit by itself: on a stream with four, ``60/s`` for a key
    that is on one of them is 60/s, and for keys that are on all of them 240/s.

    A limit that is set holds for every worker with its next read, outlives restarts, and goes
    before what is declared. Events that wait for the limit are looked at anew, and get
    a time that suits what holds now.

    Args:
        portal: into the pipeline.
        stream, group: names.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    def list(self) -> LimitList:
        """The limits that are declared or set, by name.

        Raises:
            NotFound: there is no such stream.
        """

    def set(
        self, name: str, rate: str, burst: int | None = None, *, key: object = None
    ) -> str:
        """Set a limit, for all its keys or for one; returns what was set before, '' for nothing.

        Args:
            name: of a limit that is declared.
            rate: as in ``Limit``.
            burst: as in ``Limit``.
            key: of the events, as the limit makes it; several parts as a tuple.

        Raises:
            ConfigurationError: the rate cannot be read.
            NotFound: there is no such limit.
        """

    def reset(self, name: str, *, key: object = None) -> str:
        """Back to what is declared; returns what was set, '' if nothing was.

        Raises:
            NotFound: there is no such limit.
        """

    def throttle(self, name: str, key: object, seconds: Seconds) -> float:
        """Let nothing of a key start for ``seconds``, or a ``timedelta``.

        The longest time is a day; 0 ends the throttle.

        Events that wait for the limit are looked at anew. The operator who did it is
        written down.

        Returns:
            Until when (Unix seconds).

        Raises:
            NotFound: there are limits, and none of this name.
        """

    def waiting(self, limit: int = 20) -> KeyList:
        """The keys that have the longest to wait, at most ``limit``.

        It walks through the keys of the server.
        """

class OrderedKeys(GroupMirror):
    """The keys of one group with ``order_by``, on all partitions of its stream, or on one.

    Args:
        portal: into the pipeline.
        stream, group: names.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    def list(
        self, limit: int = 100, *, state: Literal["working", "held"] | None = "held"
    ) -> OrderedKeyList:
        """At most ``limit`` keys with work, those with the most behind them first.

        It walks through all of them.

        Raises:
            NotFound: there is no such stream, or the group has no ``order_by``.
        """

    def release(self, key: str) -> str:
        """Try a held key's dead event again, before all that waits behind it.

        Returns ``level|entry id`` of its replay.

        Raises:
            NotFound: the key is not held, or its dead letter was discarded or replayed
                already.
        """

    def skip(self, key: str) -> None:
        """Let a held key go on with what waits behind its dead event, which stays a dead letter.

        Raises:
            NotFound: the key is not held.
        """

class Pauses(StreamMirror):
    """The pauses of one stream, on all of its partitions, later ones included, or on one.

    A scope is the stream, a group, a level, a level of a group, or an attribute of the
    events with its value (``type``, ``tenant``, ``instance``, ``key``, ``subject``,
    ``source``), of every group or of one.

    Paused events are held, not dropped: each stays on its stream or in its retry, no
    attempt is burnt, and running handlers finish. Workers hold within half a second,
    whatever they do at the moment; publishing goes on.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
        by: the name of the operator, for the audit record.
        partition: the number of one partition; None: all.
    """

    def pause(
        self,
        *,
        group: str = "",
        level: int | None = None,
        reason: str = "",
        **attribute: Unpack[PausedAttribute],
    ) -> Pausing:
        """Hold the stream, or a group, a level or an attribute of it: ``pause(tenant="acme")``.

        A pause that stands already stays as it was, with its name and reason.

        Raises:
            NotFound: there is no such stream, group or level; the message names those
                that are.
            ConfigurationError: the reason is longer than 500 characters, or the scope
                is none.
        """

    def resume(
        self,
        *,
        group: str = "",
        level: int | None = None,
        **attribute: Unpack[PausedAttribute],
    ) -> Resumption:
        """End the pause of exactly this scope.

        Pauses of other scopes go on, and the outcome names them.

        Nothing happens if it is not paused. Events that were deferred for a pause of an
        attribute come back, which walks through all that waits.

        Raises:
            NotFound: it is not paused, and there is no such stream, group or level.
            ConfigurationError: the scope is none.
        """

    def resume_all(self) -> Resumption:
        """End every pause of the stream.

        Raises:
            NotFound: nothing is paused, and there is no such stream.
        """

    def held(self) -> dict[str, int]:
        """How many events were deferred for each pause of an attribute, by scope.

        It walks through what waits.
        """

    def list(self) -> PauseList:
        """Every pause of the stream, in the order of their scopes. One command."""

class Producer(BlockingProducer):
    """Publishes events on one stream; threads that publish at the same time share round trips.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
    """

class Status(Mirror):
    """Queries over every stream of a broker.

    Args:
        portal: into the pipeline.
    """

    def streams(self) -> dict[str, list[int]]:
        """Names and levels of the streams. One command."""

    def levels(self, stream: str) -> list[int]:
        """The levels of one stream, none if there is no such stream.

        They are found while the list of streams is away, too.
        """

    def streams_of(
        self, name: str, partition: int | None = None
    ) -> dict[str, list[int]]:
        """The partitions of a stream that has to be there, with their levels.

        A stream that is not spread is its own partition.

        Raises:
            NotFound: there is no such stream, or no partition of that number.
        """

    def existing(self, stream: str) -> list[int]:
        """The levels of a stream that has to be there; as ``levels``.

        Raises:
            NotFound: there is no such stream; the message names those that are.
        """

    def overview(self) -> list[StreamRow]:
        """Every stream with its groups and levels; see ``stream`` for the cost of each.

        Raises:
            BrokerUnavailable: a server that has some of them is away; ``survey`` tells
                of the others.
        """

    def survey(self, known: Mapping[str, Sequence[int]] | None = None) -> Survey:
        """As ``overview``, and of a cluster with shards that are away: what is on the others.

        Args:
            known: streams with their levels, to go by while the list of streams cannot
                be read.

        Raises:
            BrokerUnavailable: there is one server only, and it is away.
        """

    def stream(self, name: str, *, partition: int | None = None) -> StreamRow:
        """One stream: all of its partitions in sum, or one of them.

        5 commands, 2 per level, and 3 per level and group, for each partition;
        independent of how much is stored.

        Raises:
            NotFound: there is no such stream, or no partition of that number.
            PartlyAway: some partitions are away; its ``answer`` is the sum of the
                others.
        """

    def find(
        self,
        stream: str,
        ident: str,
        group: str = "",
        *,
        depth: int | None = None,
        partition: int | None = None,
    ) -> list[EntryState]:
        """Where an event stands, in each group (or in one).

        Args:
            stream: the stream's name.
            ident: ``LEVEL|ENTRY-ID``, an entry id, or an event id. By event id,
                scheduled events and dead letters are found whatever their number; of
                the stored entries the first 10,000 of each level are searched.
            group: narrows to one group.
            depth: search by event id the first so many entries of each level, and the
                newest so many dead letters.
            partition: the number of one partition; None: all.

        Raises:
            NotFound: the stream, the group, or any trace of the event is missing.
        """

class Tracking(TrackingMirror):
    """Follows events of one stream.

    Each note is one command. Tracked events are forgotten after ``retention``.

    Args:
        portal: into the pipeline.
        stream: the stream's name.
        ranks: the states, with their ranks: a state moves to one of the same rank or a
            higher one.
        retention: seconds, or a ``timedelta``, after the latest note.

    Raises:
        ConfigurationError: a value is refused.
    """

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
        """Write down that an event reached a state.

        Args:
            id: of the event.
            state: one of the ranks.
            facts: for this row of the timeline; JSON values.
            fields: facts of the event itself, set if the state moves; '' removes one.
            counts: counters that grow in the same step, if the state is another one
                than before: so they add up.
            anew: begin again, e.g. with a replay: the state moves whatever it was.

        Raises:
            ConfigurationError: there is no such state, or a field has a name of this
                module's own.
        """

    def get(self, id: str) -> Tracked | None:
        """The known facts of an event; None if it is not tracked (any more). One command."""

    def totals(self) -> dict[str, int]:
        """How many events reached which state, since ever; each move counts."""

    def counted(self, names: Sequence[str]) -> list[dict[str, int]]:
        """The counts under each name. One round trip.

        A name is empty where nothing was counted, or not any more.
        """

    def link(self, name: str, id: str) -> None:
        """Let an event be found by another name, e.g. the id that a provider gave it."""

    def linked(self, name: str) -> str | None:
        """The id of the event with that name; None if there is none (any more)."""

    def file(self, name: str, id: str) -> None:
        """Let an event be found with others that have something in common.

        That may be a customer. A name keeps the latest 1,000.
        """

    def filed(self, name: str, *, most: int = 100) -> list[str]:
        """Ids of the events that were filed under a name, the latest first. One command."""

    def known(self) -> Iterator[list[str]]:
        """The ids of all tracked events, some at a time, in no order.

        An id may come twice. It reads all keys of the server.
        """

    def forget(
        self,
        ids: Sequence[str],
        *,
        links: Sequence[str] = (),
        files: Sequence[str] = (),
    ) -> int:
        """Forget events, their other names, and the names that they were filed under.

        Returns how many of them were known.
        """

class Pipeline(BlockingPipeline):
    """Streams on one server, with their handlers, for programs that block.

    See ``streams.Pipeline``.

    Every method does what its namesake there does, and returns when that is done.
    Connections open with the first call and close at the end of the program, or, with
    ``with pipeline:``, at the end of the outermost block. Any number of threads may
    share one object; after a fork the child opens connections of its own.

    Args:
        url: the server; see ``streams.Broker``. None: the embedded server that keeps
            nothing.
        settings: everything else; ``Settings()`` if None.
        middleware: the middleware around every attempt, outermost first; see
            ``streams.middleware``.

    Attributes:
        asynchronous: the pipeline with the declarations. A worker runs it, and
            ``async def`` handlers await its methods.

    Raises:
        ConfigurationError: the URL cannot be used, or, by any blocking method, an event
            loop runs in this thread.
    """

    def dead_letters(
        self, stream: str, group: str, *, by: str = "", partition: int | None = None
    ) -> DeadLetters:
        """The dead letters of a group; ``by`` names who acts, for the audit record."""

    def pauses(
        self, stream: str, *, by: str = "", partition: int | None = None
    ) -> Pauses:
        """The pauses of a stream: what is held back.

        ``by`` is the name of the operator, for the audit record.
        """

    def limits(
        self, stream: str, group: str, *, by: str = "", partition: int | None = None
    ) -> Limits:
        """The limits of a group, to look at and to change.

        ``by`` is the name of the operator, for the audit record.
        """

    def ordered_keys(
        self, stream: str, group: str, *, by: str = "", partition: int | None = None
    ) -> OrderedKeys:
        """The keys whose order a group keeps, to look at, and to release or skip.

        ``by`` is the name of the operator, for the audit record.
        """

    def groups(
        self, stream: str, *, by: str = "", partition: int | None = None
    ) -> Groups:
        """The groups of a stream, to look at and to give up.

        ``by`` is the name of the operator, for the audit record.
        """

    def cancel(
        self,
        stream: str,
        id: str,
        group: str = "",
        *,
        by: str = "",
        partition: int | None = None,
    ) -> EntryState:
        """Cancel an event that is scheduled or waits for a retry; see ``Cancellations.cancel``."""

    def run_now(
        self,
        stream: str,
        id: str,
        group: str = "",
        *,
        by: str = "",
        partition: int | None = None,
    ) -> EntryState:
        """Let an event run before its time, if it is scheduled or waits for a retry.

        See ``Impatience.run_now``.
        """

    def why(
        self,
        stream: str,
        event: str | None = None,
        *,
        group: str = "",
        partition: int | None = None,
        **several: Unpack[SeveralEvents],
    ) -> Reasons:
        """Why an event waits, or those of a key, a tenant or a level.

        The answer is for each group or for one; see ``Why.ask``.

        ``event`` is an event id, an entry id, or ``LEVEL|ENTRY-ID``; ``key``,
        ``tenant`` or ``level`` names several events. Reads only.

        Raises:
            NotFound: there is no such stream, partition or group.
            ConfigurationError: not exactly one of event, key, tenant and level is
                given.
        """

    def cancellations(
        self, stream: str, *, by: str = "", partition: int | None = None
    ) -> Cancellations:
        """For cancelling many events of a stream; ``by`` names who acts, for the audit record."""

    def tracking(
        self, stream: str, ranks: Mapping[str, int], retention: Seconds
    ) -> Tracking:
        """Follow single events of a stream through states of one's own."""

    def status(self) -> Status:
        """Where entries stand."""

    def handler(
        self, stream: str, *, group: str, **options: Unpack[HandlerOptions]
    ) -> Callable[[H], H]:
        """Declare a function as a handler of ``group`` on ``stream``.

        The function takes one ``Event``. A return acknowledges it, an exception retries
        it, ``Reject`` makes it a dead letter, and ``Snooze`` delays it without using up
        an attempt. ``async def`` runs in the event loop, ``def`` in a thread.

        Args:
            stream: the stream's name.
            group: the group's name; each group handles every event of the stream.
            options: see ``HandlerOptions``.

        Raises:
            ConfigurationError: a name or an option is invalid, an option contradicts
                another handler of the group, or the function does not take one
                ``Event``.
        """

    def add_handler(
        self, place: tuple[str, str], function: HandlerFunction, options: HandlerOptions
    ) -> None:
        """Add a handler without the decorator; ``place`` is stream and group."""

    def stream(
        self,
        stream: str,
        *,
        retention: Retention | None = None,
        groups: Iterable[str] = (),
        weights: Mapping[int, int] | None = None,
        max_wait: Seconds | None = None,
        partitions: int | Partitions = 1,
    ) -> None:
        """Declare a stream, in every program that has handlers of it.

        The call may stand before or after the handlers. Workers store the declaration on
        the server when they start.

        Args:
            stream: its name.
            retention: ``work``: one group, whose acknowledgement deletes. ``fanout``:
                every declared group gets every event, which is deleted once all of them
                are done with it. None: as the stream is; a new stream is ``work``.
            groups: groups without a handler in this program, whose workers may start
                later. Events wait for them.
            weights: the share of each level in the slots of every worker, e.g.
                ``{10: 8, 5: 4, 1: 2, 0: 1}``. None: strictly the highest level first.
            max_wait: seconds, or a ``timedelta``, after which a waiting event is overdue.
                Overdue events of any level get every second slot, the oldest first.
                None: never.
            partitions: the number of partitions, chosen by ``key``, or e.g.
                ``Partitions(8, by="tenant")``. The number can only grow; see
                ``docs/scale.md``.

        Raises:
            ConfigurationError: a value is invalid, or the stream is declared already.
        """

    def upcaster(
        self, type: str, *, from_version: str | None, to_version: str
    ) -> Callable[[F], F]:
        """Declare a function that upgrades the data of an event type to another version.

        The function takes the data and returns the new data. Upcasters run one after the
        other until none matches, and handlers see the last version in ``event.version``.
        If one raises, the event becomes a dead letter with reason ``invalid``.

        Args:
            type: the event's type.
            from_version: the version of the data that it takes; None: events without a
                version.
            to_version: the version of the data that it returns.

        Raises:
            ConfigurationError: a value is invalid, the version has an upcaster already,
                or the versions form a cycle.
        """

    @property
    def plans(self) -> list[GroupPlan]:
        """The declared groups, with the settings filled in."""

    def producer(self, stream: str) -> Producer:
        """The producer of a stream."""

"""Every Redis key, spelled once.

All keys of a stream share the hash tag ``{stream}``, so each script touches one cluster slot.
"""

from __future__ import annotations

from streams.events.names import DEFAULT_NAMESPACE, checked_name

PARKED = "-parked-"
"""The consumer that owns entries which wait for a retry. The leading hyphen keeps it out of the names of workers."""


WAITING = "-waiting-"
"""The consumer that owns entries which were read and are lined up by key, and have not started."""
RECLAIMER_SUFFIX = ".reclaimer"
"""Ends the name under which a worker's reclaimer holds what it decides on; it handles nothing."""


class Keys:
    """The keys of one stream.

    Args:
        stream: the stream's name.
        namespace: first part of every key; keeps several installations on one server apart.
    """

    __slots__ = ("_root", "namespace", "stream")

    def __init__(self, stream: str, namespace: str = DEFAULT_NAMESPACE) -> None:
        self.stream = checked_name(stream, "stream")
        self.namespace = checked_name(namespace, "namespace")
        self._root = f"{namespace}:{{{stream}}}"

    def level(self, level: int) -> str:
        """STREAM: the entries of one level."""
        return f"{self._root}:{level}"

    def scheduled(self) -> str:
        """ZSET: due time (ms) of delayed events, member ``level|event id``."""
        return f"{self._root}:scheduled"

    def scheduled_fields(self) -> str:
        """HASH: the packed fields of delayed events, same member as in the ZSET."""
        return f"{self._root}:scheduled-fields"

    def dedup(self, dedup_id: str) -> str:
        """STRING, expiring: ``length-of-id id level place`` of the event that used this dedup id first."""
        return f"{self._root}:dedup:{dedup_id}"

    def retry(self, group: str) -> str:
        """ZSET: due time (ms) of retries, member ``level|entry id``."""
        return f"{self._root}:{group}:retry"

    def attempts(self, group: str) -> str:
        """HASH: ``level|entry id`` to attempt record (JSON)."""
        return f"{self._root}:{group}:attempts"

    def dead(self, group: str) -> str:
        """STREAM: dead letters."""
        return f"{self._root}:{group}:dead"

    def handled(self, group: str, event_id: str) -> str:
        """STRING, expiring: ``handled``, or ``claimed COUNT level|entry id`` of the delivery that handles it now."""
        return f"{self._root}:{group}:handled:{event_id}"

    def limits(self, group: str) -> str:
        """HASH: what was set at run time, ``name`` or ``name=key`` to ``interval burst``; ``name:declared``."""
        return f"{self._root}:{group}:limits"

    def limit_prefix(self, group: str) -> str:
        """What the keys of a limit's states begin with; then ``name=key``. STRING, expiring: four times (µs)."""
        return f"{self._root}:{group}:limit:"

    def busy_prefix(self, group: str) -> str:
        """What the keys of a limit's taken slots begin with; then ``name=key``. ZSET: entry to when it took it (µs)."""
        return f"{self._root}:{group}:busy:"

    def queue_prefix(self, group: str) -> str:
        """What the keys of those who wait for a slot begin with; then ``name=key``. ZSET: entry to since when (µs)."""
        return f"{self._root}:{group}:queue:"

    def admissions(self, group: str) -> str:
        """HASH: ``level|entry id`` of what waits for a limit or a pause by attribute, or has slots, to that (JSON)."""
        return f"{self._root}:{group}:admissions"

    def queues(self, group: str) -> str:
        """HASH: ``name=key`` of each queue that is not empty, to the concurrency of its limit."""
        return f"{self._root}:{group}:queues"

    def heads(self, group: str) -> str:
        """HASH: order key to the one entry of it that may run (``level|entry id``), or ``held MS PLACE EVENT-ID``."""
        return f"{self._root}:{group}:heads"

    def behind(self, group: str) -> str:
        """ZSET, all scores 0: entries behind the heads of their keys, sorted by key, level and entry id."""
        return f"{self._root}:{group}:behind"

    def rules(self, group: str) -> str:
        """HASH: ``order_by``, ``fair_by``, ``on_dead``, ``weight:KEY``, and where mending goes on."""
        return f"{self._root}:{group}:rules"

    def lane(self, group: str, level: int) -> str:
        """ZSET, all scores 0: entries of a level that may start, sorted by fair key and entry id."""
        return f"{self._root}:{group}:lane:{level}"

    def ring(self, group: str, level: int) -> str:
        """ZSET: fair key to its virtual time."""
        return f"{self._root}:{group}:ring:{level}"

    def breaker(self, group: str, key: str) -> str:
        """HASH, expiring: what a circuit breaker counted for a key."""
        return f"{self._root}:{group}:breaker:{key}"

    def message(self, ident: str) -> str:
        """HASH, expiring: what is known of a tracked event."""
        return f"{self._root}:message:{ident}"

    def records(self, kind: str) -> str:
        """HASH: name to record (JSON) of an application."""
        return f"{self._root}:records:{kind}"

    def counts(self, name: str) -> str:
        """HASH, expiring: counters that grow with the states of tracked events."""
        return f"{self._root}:counts:{name}"

    def tracked(self) -> str:
        """HASH: state to how often it was reached by tracked events."""
        return f"{self._root}:tracked"

    def alias(self, name: str) -> str:
        """STRING, expiring: the id of the tracked event that has this other name."""
        return f"{self._root}:alias:{name}"

    def filed(self, name: str) -> str:
        """ZSET, expiring: ids of the tracked events with something in common, score when they were filed (ms)."""
        return f"{self._root}:filed:{name}"

    def minute(self, group: str, number: int | str) -> str:
        """HASH, expiring: what the group did in a minute, the ``number``-th since 1970."""
        return f"{self._root}:{group}:minute:{number}"

    def hour(self, group: str, number: int | str) -> str:
        """HASH, expiring: the same of an hour."""
        return f"{self._root}:{group}:hour:{number}"

    def day(self, group: str, number: int | str) -> str:
        """HASH, expiring: the same of a day (UTC)."""
        return f"{self._root}:{group}:day:{number}"

    def workers(self, group: str) -> str:
        """HASH, expiring: worker to what it said of itself last (JSON)."""
        return f"{self._root}:{group}:workers"

    def leases(self, group: str) -> str:
        """HASH, expiring: consumer to ``LEASE AT`` (ms): how long its leases are, and when it said so last."""
        return f"{self._root}:{group}:leases"

    def sweep(self, group: str) -> str:
        """HASH, expiring: who sweeps, until when, and the cursors."""
        return f"{self._root}:{group}:sweep"

    def members(self, group: str) -> str:
        """ZSET: worker to when it counts as gone (ms); only of a stream with partitions."""
        return f"{self._root}:{group}:members"

    def partitions(self) -> str:
        """STRING: ``count attribute``, over how many partitions the stream is spread and by what."""
        return f"{self._root}:partitions"

    def paused(self) -> str:
        """HASH: scope of a pause (see ``scope``) to who, since when and why (JSON)."""
        return f"{self._root}:paused"

    def config(self) -> str:
        """HASH: ``retention``, and ``group:NAME`` per declared group (JSON: start, since)."""
        return f"{self._root}:config"

    def watermarks(self) -> str:
        """HASH: place (``level:5``, ``dead:GROUP``, ``read:GROUP:5``) to how far it was; ``lost:PLACE`` to JSON."""
        return f"{self._root}:watermarks"

    def audit(self) -> str:
        """STREAM, capped: what operators did."""
        return f"{self._root}:audit"

    def levels(self) -> str:
        """SET: the levels that the stream has; beside it, so that it is known when the index is away."""
        return f"{self._root}:levels"

    def index(self) -> str:
        """SET of ``stream|level``: which streams exist. It has no stream's tag."""
        return index_key(self.namespace)


def index_key(namespace: str) -> str:
    """The key of the set that names every stream of a namespace."""
    return f"{namespace}:index"


def ended_session_key(namespace: str, ident: str) -> str:
    """STRING, expiring: the session of a dashboard with this id is over. It has no stream's tag."""
    return f"{namespace}:ended-session:{ident}"

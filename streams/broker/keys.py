"""Every Redis key, spelled once.

All keys of a stream share the hash tag ``{stream}``, so each script touches one cluster slot.
"""

from __future__ import annotations

from streams.events.names import DEFAULT_NAMESPACE, checked_name

PARKED = "-parked-"
"""The consumer that owns entries which wait for a retry. No worker's name begins with a hyphen."""

WAITING = "-waiting-"
"""The consumer that owns entries which wait by key.

They were read, are queued by key, and have not started.
"""

RECLAIMER_SUFFIX = ".reclaimer"
"""The end of the name under which a worker's reclaimer claims entries. It handles none."""


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

    def _key(self, *parts: str | int) -> str:
        return ":".join((self._root, *map(str, parts)))

    def level(self, level: int) -> str:
        """STREAM: the entries of one level."""
        return f"{self._root}:{level}"

    def scheduled(self) -> str:
        """ZSET: due time (ms) of delayed events, member ``level|event id``."""
        return self._key("scheduled")

    def scheduled_fields(self) -> str:
        """HASH: the packed fields of delayed events, same member as in the ZSET."""
        return self._key("scheduled-fields")

    def dedup(self, dedup_id: str) -> str:
        """STRING, expiring: ``LENGTH-OF-ID ID LEVEL PLACE`` of the event with this dedup id."""
        return self._key("dedup", dedup_id)

    def retry(self, group: str) -> str:
        """ZSET: due time (ms) of retries, member ``level|entry id``."""
        return self._key(group, "retry")

    def attempts(self, group: str) -> str:
        """HASH: ``level|entry id`` to attempt record (JSON)."""
        return self._key(group, "attempts")

    def dead(self, group: str) -> str:
        """STREAM: dead letters."""
        return self._key(group, "dead")

    def handled(self, group: str, event_id: str) -> str:
        """STRING, expiring: ``handled``, or ``claimed COUNT level|entry id`` until then."""
        return self._key(group, "handled", event_id)

    def limits(self, group: str) -> str:
        """HASH: ``name`` or ``name=key`` of a set limit, or ``name:declared``, to the limit."""
        return self._key(group, "limits")

    def limit_prefix(self, group: str) -> str:
        """Prefix of the states of limits, before ``name=key``. STRING, expiring: times (µs)."""
        return self._key(group, "limit", "")

    def busy_prefix(self, group: str) -> str:
        """Prefix of taken slots of limits, before ``name=key``. ZSET: entry to its start (µs)."""
        return self._key(group, "busy", "")

    def queue_prefix(self, group: str) -> str:
        """Prefix of the queues for slots, before ``name=key``. ZSET: entry to its arrival (µs)."""
        return self._key(group, "queue", "")

    def admissions(self, group: str) -> str:
        """HASH: ``level|entry id`` to the limits and pauses it waits for and its slots (JSON)."""
        return self._key(group, "admissions")

    def queues(self, group: str) -> str:
        """HASH: ``name=key`` of each queue that is not empty, to the concurrency of its limit."""
        return self._key(group, "queues")

    def heads(self, group: str) -> str:
        """HASH: order key to ``level|entry id`` that may run, or ``held MS PLACE EVENT-ID``."""
        return self._key(group, "heads")

    def behind(self, group: str) -> str:
        """ZSET, all scores 0: further entries of order keys, by key, level and entry id."""
        return self._key(group, "behind")

    def rules(self, group: str) -> str:
        """HASH: ``order_by``, ``fair_by``, ``on_dead``, ``weight:KEY``, ``cursor``.

        The cursor is that of the repair.
        """
        return self._key(group, "rules")

    def lane(self, group: str, level: int) -> str:
        """ZSET, all scores 0: entries of a level that may start, by fair key and entry id."""
        return self._key(group, "lane", level)

    def ring(self, group: str, level: int) -> str:
        """ZSET: fair key to its virtual time."""
        return self._key(group, "ring", level)

    def breaker(self, group: str, key: str) -> str:
        """HASH, expiring: the counts of a circuit breaker for a key."""
        return self._key(group, "breaker", key)

    def message(self, ident: str) -> str:
        """HASH, expiring: the states and facts of a tracked event."""
        return self._key("message", ident)

    def records(self, kind: str) -> str:
        """HASH: name to record (JSON) of an application."""
        return self._key("records", kind)

    def counts(self, name: str) -> str:
        """HASH, expiring: counters that grow with the states of tracked events."""
        return self._key("counts", name)

    def tracked(self) -> str:
        """HASH: state to how often it was reached by tracked events."""
        return self._key("tracked")

    def alias(self, name: str) -> str:
        """STRING, expiring: the id of the tracked event that has this other name."""
        return self._key("alias", name)

    def filed(self, name: str) -> str:
        """ZSET, expiring: ids of tracked events that share a name, by the time of filing (ms)."""
        return self._key("filed", name)

    def minute(self, group: str, number: int | str) -> str:
        """HASH, expiring: figures of the group for a minute, the ``number``-th since 1970."""
        return self._key(group, "minute", number)

    def hour(self, group: str, number: int | str) -> str:
        """HASH, expiring: figures of the group for an hour."""
        return self._key(group, "hour", number)

    def day(self, group: str, number: int | str) -> str:
        """HASH, expiring: figures of the group for a day (UTC)."""
        return self._key(group, "day", number)

    def workers(self, group: str) -> str:
        """HASH, expiring: worker to its last note (JSON)."""
        return self._key(group, "workers")

    def leases(self, group: str) -> str:
        """HASH, expiring: consumer to ``LEASE AT`` (ms): length of its leases, last note."""
        return self._key(group, "leases")

    def sweep(self, group: str) -> str:
        """HASH, expiring: the sweeping reclaimer, the end of its turn, and its cursors."""
        return self._key(group, "sweep")

    def members(self, group: str) -> str:
        """ZSET: worker to the time when it counts as gone (ms); partitioned streams only."""
        return self._key(group, "members")

    def partitions(self) -> str:
        """STRING: ``COUNT ATTRIBUTE``: number of partitions, attribute that picks one."""
        return self._key("partitions")

    def paused(self) -> str:
        """HASH: scope of a pause (see ``scope``) to operator, time and reason (JSON)."""
        return self._key("paused")

    def config(self) -> str:
        """HASH: ``retention``, and ``group:NAME`` per declared group (JSON: start, since)."""
        return self._key("config")

    def watermarks(self) -> str:
        """HASH: ``level:5``, ``dead:GROUP`` or ``read:GROUP:5`` to mark; ``lost:PLACE`` to JSON."""
        return self._key("watermarks")

    def audit(self) -> str:
        """STREAM, capped: actions of operators."""
        return self._key("audit")

    def levels(self) -> str:
        """SET: the levels of the stream, for when the server of the index is away."""
        return self._key("levels")

    def index(self) -> str:
        """SET: ``stream|level`` of every level of every stream. It has no stream's tag."""
        return index_key(self.namespace)


def index_key(namespace: str) -> str:
    """The key of the set that names every stream of a namespace."""
    return f"{namespace}:index"


def ended_session_key(namespace: str, ident: str) -> str:
    """STRING, expiring: marks a dashboard's session as ended. It has no stream's tag."""
    return f"{namespace}:ended-session:{ident}"

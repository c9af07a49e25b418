"""The entries of a group that wait longest. Read only, and bounded whatever is stored."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from streams.broker.admin.replies import GroupReply, labelled_replies, pending_of
from streams.broker.admin.waits import GONE, MOST_QUEUES
from streams.broker.keys import WAITING
from streams.broker.server.connection import Broker
from streams.broker.server.scripts import Command
from streams.broker.server.stored import entry_place, real, texts, whole

_MOST = 10

Ref = tuple[int, str]
"""Level and entry id."""


class Oldest:
    """Asks for the entries that wait longest in the groups of a stream.

    Args:
        broker: an open broker.
        stream: its name; of a partitioned stream, the name of one partition.
    """

    def __init__(self, broker: Broker, stream: str) -> None:
        self._link = broker.control
        self._keys = broker.keys(stream)

    async def of(
        self, group: str, infos: Mapping[int, GroupReply], before_ms: int
    ) -> list[Ref]:
        """The first waiting entries of levels, of due retries, and of queues with a free slot.

        Only those that came before ``before_ms``. Two commands and two per level, in one
        round trip; another round trip if there are queues.

        Args:
            group: its name.
            infos: the server's row of the group, by level.
            before_ms: Unix time in milliseconds.
        """
        keys = self._keys
        retry = keys.retry(group)
        before = str(before_ms)
        questions: dict[Hashable, Command] = {
            "retry": ("ZRANGEBYSCORE", retry, 0, before_ms, "LIMIT", 0, _MOST),
            "queues": ("HSCAN", keys.queues(group), 0, "COUNT", MOST_QUEUES),
        }

        for level, info in infos.items():
            key = keys.level(level)
            after = f"({info.last_id}"
            questions["unread", level] = ("XRANGE", key, after, before, "COUNT", 1)
            waiting = ("XPENDING", key, group, "-", before, 1, WAITING)
            questions["lined up", level] = waiting

        replies = await labelled_replies(self._link, questions, GONE)
        found = [*filter(None, map(entry_place, replies["retry"] or ()))]

        for level in infos:
            unread = replies["unread", level] or ()
            lined_up = pending_of(replies["lined up", level])
            found += [(level, entry_id.decode()) for entry_id, _ in unread]
            found += [(level, entry.entry_id) for entry in lined_up]

        queues = texts(replies["queues"][1]) if replies["queues"] else {}
        found += await self._first_in_queues(group, queues, before_ms)

        return list(dict.fromkeys(found))

    async def _first_in_queues(
        self, group: str, queues: Mapping[str, str], before_ms: int
    ) -> list[Ref]:
        """The first entry of each queue that has a free slot, if it joined before a time."""
        names = list(queues)[:MOST_QUEUES]
        questions: dict[Hashable, Command] = {}

        for name in names:
            queue = self._keys.queue_prefix(group) + name
            busy = self._keys.busy_prefix(group) + name
            questions["first", name] = ("ZRANGE", queue, 0, 0, "WITHSCORES")
            questions["taken", name] = ("ZCARD", busy)

        replies = await labelled_replies(self._link, questions, GONE)
        found = []

        for name in names:
            first = replies["first", name]
            taken = replies["taken", name] or 0
            if not first or taken >= whole(queues[name]):
                continue

            member, joined = first
            place = entry_place(member)
            if place and real(joined) / 1000 <= before_ms:
                found.append(place)

        return found[:_MOST]

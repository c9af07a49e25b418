"""The oracle: whatever has no reason to wait starts, a reason that is given is true, and nothing is left behind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from streams.admin.reason import Reason
from streams.admin.why import MOST, Wanted, Why
from streams.broker.keys import RECLAIMER_SUFFIX
from streams.consumer import Consumer
from streams.events.names import parse_member
from streams.policy.admission import Admission, Kind
from streams.policy.retry import AttemptRecord
from tests.composition.books import Books
from tests.composition.workers import Worker

Name = tuple[str, str, str]
"""Group, ``level|entry id`` and event id."""
_ENDED = ("done", "unknown", "dead", "orphaned", "unreadable")
_NOW = ("none", "starting", "reserved", "suspect")
"""States of what must have started once every worker has looked."""
LASTING = re.compile(
    r"\{s(\.p\d)?\}:(-?\d+|levels|config|audit|watermarks|partitions|[ab]:(rules|limits|dead)|"
    r"dedup:.*|[ab]:(limit:.*|handled:.*|minute:\d+|hour:\d+|day:\d+|workers|leases|sweep|breaker:.*))$|index$|ahead$"
)
"""What docs/wire-format.md names as lasting, or as expiring by itself, once nothing is unfinished."""
EXPIRING = re.compile(
    r"\{s(\.p\d)?\}:(dedup:.*|[ab]:(limit:.*|handled:.*|minute:\d+|hour:\d+|day:\d+|workers|leases|sweep|breaker:.*))$"
)


@dataclass
class Seen:
    """What was seen at one moment: reasons, and what should not be there any more by the next look, or sweep."""

    reasons: list[Reason]
    waiting: dict[Name, Reason]
    suspects: list[Name]
    strays: list[str]
    stale: list[str]

    def still(self, later: Seen, begun: set[tuple[str, str]]) -> Seen:
        """What is there still, later; ``begun`` (group and event id) started meanwhile."""
        waiting = {
            name: reason
            for name, reason in later.waiting.items()
            if name in self.waiting and (name[0], name[2]) not in begun
        }
        strays = [stray for stray in later.strays if stray in self.strays]
        return Seen(
            later.reasons,
            waiting,
            later.suspects,
            strays,
            [what for what in later.stale if what in self.stale],
        )


def _of(worker: Worker, stream: str, group: str) -> list[Consumer]:
    return [c for c in worker.crew.consumers if (c.stream, c.group) == (stream, group)]


class Oracle:
    """Judges one run by what is on the server and by its books."""

    def __init__(self, broker: Any, books: Books, streams: Sequence[str]) -> None:
        self._broker = broker
        self._streams = streams
        self._call = broker.control.call
        self._books = books

    async def reasons(self, levels: Sequence[int]) -> list[Reason]:
        """Why everything waits that is unfinished."""
        found: list[Reason] = []
        for stream in self._streams:
            # As ``ask`` does for each level, with one look at the stream for all of them.
            part = Why(self._broker, stream)._of(stream, MOST)
            await part._look()
            for level in levels:
                found += (
                    await part._several(Wanted(level=level), list(part._groups))
                ).reasons
        return found

    async def paused(self, stream: str) -> bool:
        """Whether anything of a partition is paused."""
        return bool(await self._call("HLEN", self._broker.keys(stream).paused()))

    def due_now(
        self, reasons: Sequence[Reason], workers: Sequence[Worker]
    ) -> dict[Name, Reason]:
        """Those that should have started by now: nothing holds them, and somebody serves them who has room."""
        found = {}
        for reason in reasons:
            is_next = reason.state in _NOW or (
                reason.state == "turn" and not reason.facts["busy"]
            )
            # Until its lease is over nobody knows that its worker was killed.
            is_next &= (
                reason.facts.get("worker", "").removesuffix(RECLAIMER_SUFFIX)
                not in self._books.dead
            )
            if is_next and self._is_served(reason, workers):
                found[
                    reason.group, f"{reason.level}|{reason.entry_id}", reason.event_id
                ] = reason
        return found

    @staticmethod
    def _is_served(reason: Reason, workers: Sequence[Worker]) -> bool:
        """A worker that lives reads its level, and has a free handler."""
        return any(
            consumer.free
            for worker in workers
            # That one starts when nothing else of the process runs.
            if reason.state != "suspect" or not worker.held
            for consumer in worker.crew.consumers
            if consumer.stream == reason.stream
            and consumer.group in (reason.group, reason.group or consumer.group)
            and reason.level
            in (consumer.options.serve or consumer.options.levels).ascending
        )

    async def disputed(
        self, waiting: dict[Name, Reason], workers: Sequence[Worker]
    ) -> list[Name]:
        """Those that wait for a slot of a limit that only some of the workers declare.

        They are lined up by who declares it, and made due by each sweep of who does not: at any moment either may be
        seen, whatever a look before said (docs/workers.md, on limits in a rolling deployment).
        """
        found = []
        for name, reason in waiting.items():
            group, place, _ = name
            known = [
                worker.declared.groups[group].limits
                for worker in workers
                if group in worker.declared.groups
            ]
            row = (
                await self._call(
                    "HGET", self._broker.keys(reason.stream).admissions(group), place
                )
                if group
                else None
            )
            waits = Admission.stored(row)
            if waits is None or waits.kind is not Kind.SLOT:
                continue
            limit = waits.by.partition("=")[0]
            declaring = sum(
                any(one.concurrency and one.name == limit for one in limits)
                for limits in known
            )
            if 0 < declaring < len(known):
                self._books.seen["limit-disputed"] += 1
                found.append(name)
        return found

    async def suspects(self, names: Iterable[Reason]) -> list[Name]:
        """Those that killed a worker, and whose next stall would be their last."""
        found = []
        for reason in names:
            place = f"{reason.level}|{reason.entry_id}"
            record = await self._call(
                "HGET", self._broker.keys(reason.stream).attempts(reason.group), place
            )
            if record and AttemptRecord.from_json(record).suspect:
                found.append((reason.group, place, reason.event_id))
        return list(dict.fromkeys(found))

    def stale(self, reasons: Sequence[Reason], workers: Sequence[Worker]) -> list[str]:
        """Those that wait for another one of their key, which has ended; a worker with room finds it out."""
        return [
            f"{reason.group} {reason.event_id} is behind {reason.facts['by']}, which has ended"
            for reason in reasons
            if reason.state == "key-busy"
            and (reason.because is None or reason.because.state in _ENDED)
            and self._is_served(reason, workers)
        ]

    async def check_reasons(self, reasons: Sequence[Reason], now: float) -> None:
        """What a reason says is so."""
        wrong = self._books.wrong
        paused = {stream: await self.paused(stream) for stream in self._streams}
        for reason in reasons:
            self._books.seen[f"why-{reason.state}"] += 1
            what = (
                f"{reason.group} {reason.event_id} {reason.state} {dict(reason.facts)}"
            )
            if reason.state == "paused" and not paused[reason.stream]:
                wrong.append(f"nothing is paused: {what}")
            if (
                reason.state in ("retry", "snoozed", "rate", "throttled", "scheduled")
                and reason.facts["until"] < now - 1
            ):
                wrong.append(f"its time has come: {what}")
            is_first = reason.state == "limit" and not reason.facts["behind"]
            if is_first and len(reason.facts["holders"]) < reason.facts["concurrency"]:
                wrong.append(f"a slot is free: {what}")
            if reason.state in ("orphaned", "unreadable", "unknown"):
                wrong.append(f"it can go on no more: {what}")

    async def strays(
        self,
        workers: Sequence[Worker],
        dead: Sequence[str],
        limits: dict[str, set[str]],
    ) -> list[str]:
        """Slots and places in queues that belong to nothing that is in hand or lined up."""
        found = []
        for name in await self._call("KEYS", f"{self._broker.namespace}:*"):
            stream, _, key = name.decode().partition("{")[2].partition("}:")
            group, kind, limit = ([*key.split(":", 2), "", ""])[:3]
            if kind not in ("busy", "queue") or limit.partition("=")[
                0
            ] not in limits.get(group, set()):
                continue  # Of a limit that is gone: see ``leftovers``.
            for entry in await self._call("ZRANGE", name, 0, -1):
                if stray := await self._stray(
                    stream, name.decode(), entry.decode(), workers, dead
                ):
                    found.append(f"{key} {stray}")
        return found

    async def _stray(
        self,
        stream: str,
        name: str,
        entry: str,
        workers: Sequence[Worker],
        dead: Sequence[str],
    ) -> str:
        group, kind = name.partition("}:")[2].split(":")[:2]
        level, ident = parse_member(entry)
        keys = self._broker.keys(stream)
        rows = await self._call("XPENDING", keys.level(level), group, ident, ident, 1)
        if not rows and kind == "queue":
            # It is taken out when it is its turn.
            return (
                ""
                if await self._call("ZCARD", name.replace(":queue:", ":busy:", 1))
                else f"{entry} has ended"
            )
        if not rows:
            runs = [
                run for run in self._books.running.values() if run.where[0] == group
            ]
            # Of what was erased nobody knows the key any more.
            return (
                ""
                if self._books.erased
                or any(run.event.entry_id == ident for run in runs)
                else f"{entry} has ended"
            )
        owner = rows[0][1].decode()
        if kind == "queue":
            return ""
        if not owner.startswith("-"):
            # Of one that was killed until its lease is over, and until somebody looks after that.
            return (
                ""
                if owner in dead or any(owner == worker.name for worker in workers)
                else f"{entry} is with {owner}"
            )
        is_full = not any(
            c.free for worker in workers for c in _of(worker, stream, group)
        )
        return "" if is_full else f"{entry} is with nobody"

    async def leftovers(self, limits: dict[str, set[str]]) -> list[str]:
        """Keys that are left although nothing is unfinished; ``limits``: by group, those that are declared.

        A slot of an event that was erased, or of a limit that a deploy took away, stays until somebody asks for one, or
        until it expires: nobody knows any more which key the event was under. So does one of a worker that was killed,
        where a worker that does not know the limit swept up its event.
        """
        found = []
        for name in await self._call("KEYS", f"{self._broker.namespace}:*"):
            key = name.decode().removeprefix(f"{self._broker.namespace}:")
            slot = re.fullmatch(r"\{s(?:\.p\d)?\}:([ab]):busy:([a-z]+)=.*", key)
            is_new = slot and self._books.dead and len(self._books.limited[slot[1]]) > 1
            if slot and (
                slot[2] not in limits.get(slot[1], set())
                or self._books.erased
                or is_new
            ):
                self._books.seen["slot-that-expires"] += 1
                found += (
                    [f"{key}, which does not expire"]
                    if await self._call("PTTL", name) < 0
                    else []
                )
            elif not LASTING.fullmatch(key):
                found.append(key)
            elif EXPIRING.fullmatch(key) and await self._call("PTTL", name) < 0:
                found.append(f"{key}, which does not expire")
            elif re.fullmatch(r"\{s(\.p\d)?\}:-?\d+", key) and await self._call(
                "XLEN", name
            ):
                found.append(f"{key} with {await self._call('XLEN', name)} entries")
        return found
